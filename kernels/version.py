"""Which version of the kernels it is: a hash of the source that decides what they do."""

import ast
import hashlib
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from edgec.kernels.kernel import Kernel

_PACKAGE = "edgec.kernels."


@cache
def version(kernels: tuple[Kernel, ...]) -> str:
    """Return a hash of the kernels' names, in order, and of the code of every module that they are made by.

    Comments, docstrings and layout don't count. What was measured of one version says nothing of another.
    """
    modules = sorted(set[str]().union(*(_modules_of(kernel.codes) for kernel in kernels)))
    digest = hashlib.sha256(" ".join(kernel.name for kernel in kernels).encode())
    for name in modules:
        digest.update(f"\n{name} {_source_hash(name)}".encode())
    return digest.hexdigest()[:16]


def _modules_of(codes: Callable[..., Any]) -> frozenset[str]:
    """Modules of a function and of its bound arguments, with all they import."""
    parts = [codes.func, *codes.args] if isinstance(codes, partial) else [codes]
    owners = (part if hasattr(part, "__name__") else type(part) for part in parts)
    return frozenset[str]().union(*(_closure(owner.__module__) for owner in owners))


@cache
def _closure(name: str) -> frozenset[str]:
    """Return the module and those of this package that it imports, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in found or not module.startswith(_PACKAGE):
            continue
        found.add(module)
        for value in vars(sys.modules[module]).values():
            waiting.append(value.__name__ if isinstance(value, ModuleType) else _home(value))
    return frozenset(found)


def _home(value: Any) -> str:
    home = getattr(value, "__module__", None)
    return home if isinstance(home, str) else ""


@cache
def _source_hash(name: str) -> str:
    path = sys.modules[name].__file__
    assert path is not None, "kernels are files"
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a docstring is an expression of its own; so is a field's
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
