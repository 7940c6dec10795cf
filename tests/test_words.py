"""What a user reads is in words of ONNX and of the user: what edgec is built on isn't named."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("compiler", "kernels", "targets", "bench", "edgec")

FOREIGN = re.compile(
    r"\b(relax|tvm|llvm|zig|tirx?|primfunc|irmodule|onnx_ir|onnxscript|metadata omitted)\b", re.IGNORECASE
)

PACKAGES = {
    "pip install ziglang==0.17.1": "the C compiler is missing: install it with ",
    "sudo apt install llvm-": "llvm-mca models cycles",
    " in LLVM ": "whose model of a CPU cycles are from",
}
"""What a user is told to install, or to know the source of, has the name that it has there."""


def raised(tree: ast.AST) -> Iterator[ast.expr]:
    """The arguments of errors that are a user's mistake, and what functions of reasons return."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = getattr(node.exc.func, "id", getattr(node.exc.func, "attr", ""))
            internal = ("Assertion", "Key", "NotImplemented", "Overflow", "Runtime", "Type", "Value")
            if not name.startswith(internal):
                yield from node.exc.args
        elif isinstance(node, ast.Return) and node.value is not None:
            yield node.value


def literals(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


@pytest.mark.parametrize("folder", FOLDERS)
def test_messages_do_not_name_what_edgec_is_built_on(folder: str) -> None:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for text in (text for expression in raised(tree) for text in literals(expression)):
            if FOREIGN.search(text) and not any(package in text for package in PACKAGES):
                found.append(f"{path.relative_to(ROOT)}: {text}")
    assert found == []
