"""Which version of the kernels it is: a hash of the code that decides what they do, wherever it lies."""

import dataclasses
from collections.abc import Iterator
from functools import cache, partial
from types import FunctionType

import numpy as np

from edgec.kernels.definitions import PACKAGE, Reference, Word, fingerprint
from edgec.kernels.kernel import Kernel


@cache
def version(kernels: tuple[Kernel, ...]) -> str:
    """Return a hash of the kernels, in order, and of all the code that they are made by.

    Comments, docstrings, layout, files' names and places don't count. What was measured of one version says
    nothing of another.
    """
    return fingerprint(_words(kernels))[:16]


@cache
def code_version() -> str:
    """Return a hash of all that decides the bytes of any function's object, but for the function itself."""
    return fingerprint(
        [Reference(f"{PACKAGE}.table", "KERNELS"), Reference(f"{PACKAGE}.codegen.native", "compile_object")]
    )


def _words(value: object) -> Iterator[Word]:
    """Yield what a row of the table says: its functions, and the instances that they are bound to."""
    if isinstance(value, tuple | list):
        yield f"{len(value)} of"
        for item in value:
            yield from _words(item)
    elif isinstance(value, frozenset):
        yield from _words(sorted(value))
    elif isinstance(value, partial):
        yield from _words([value.func, *value.args, *sorted(value.keywords.items())])
    elif isinstance(value, FunctionType | type):
        yield _definition(value)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    elif dataclasses.is_dataclass(value):
        yield _definition(type(value))
        yield from _words([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif hasattr(value, "__dict__"):
        yield _definition(type(value))
        yield from _words(sorted(vars(value).items()))
    else:
        yield repr(value)


def _definition(value: FunctionType | type) -> Word:
    module, name = value.__module__, value.__qualname__.partition(".")[0]
    return Reference(module, name) if module.startswith(f"{PACKAGE}.") else f"{module}.{name}"
