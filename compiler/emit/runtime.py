"""The C of kernels/runtime, as text."""

from importlib.resources import files


def runtime(file: str) -> str:
    """Return the text of a file of kernels/runtime."""
    return (files("edgec.kernels.runtime") / file).read_text(encoding="utf-8")
