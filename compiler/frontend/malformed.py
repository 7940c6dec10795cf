"""What onnx's own libraries raise on a malformed model, as one line for who gave it to us."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from edgec.errors import EdgecError, ModelError

_LONGEST = 300
"""Characters of what a library says: some list everything that they know."""

_PLACE = re.compile(r"^\S+:\d+: \w+: Assertion `.*?` failed: ")
"""Where in C++ an assertion stands."""


@contextmanager
def malformed(what: str) -> Iterator[None]:
    """Raise ModelError, `what: reason`, for any exception within; for calls of onnx and onnx_ir alone.

    These raise whatever comes up (ValueError, TypeError, KeyError, their own): no list of kinds holds.
    """
    try:
        yield
    except EdgecError:
        raise
    except Exception as error:
        raise ModelError(f"{what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return what an exception says: in one line, from its innermost cause, not longer than can be read."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split()) or type(error).__name__
    said = _PLACE.sub("", said)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
