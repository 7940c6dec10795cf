"""How values are spelt: 60s, 64K, NAME=1x3x224x224 on the command line, and sizes for people to read."""

import math
import re
from pathlib import Path

from edgec.errors import LimitError, ModelError, TuningError

_LONGEST = 1000 * 3600
"""Seconds of tuning, or of a run: six weeks, for whoever means it."""
_ELEMENTS = 2**31 - 1
"""Kernels count them in 32 bits."""
_DIGITS = len(str(_ELEMENTS))


def path(option: str, text: str) -> Path:
    """Read the path of a file or folder."""
    del option
    return Path(text)


def seconds(option: str, text: str) -> float:
    """Read `60s`, `5m` or `1h`; raises TuningError."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", text, re.ASCII)
    if not found or not float(found[1]):
        raise TuningError(f"{option} '{text}': write a time above zero as 60s, 5m or 1h")
    time = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
    if time > _LONGEST:
        raise TuningError(f"{option} '{text}': {_LONGEST // 3600}h at most")
    return time


def budget(option: str, text: str) -> float:
    """Read the time that tuning may take, as `seconds` does."""
    del option
    return seconds("budget", text)


def size(option: str, text: str) -> int:
    """Read `65536`, `64K` or `1M`, in bytes; raises LimitError."""
    found = re.fullmatch(r"(\d{1,15})([KM]?)", text, re.ASCII)
    if not found or not int(found[1]):
        raise LimitError(f"{option} {text}: write a number of bytes as 65536, 64K or 1M")
    return int(found[1]) * {"": 1, "K": 1024, "M": 1024 * 1024}[found[2]]


def shape(option: str, text: str) -> tuple[str, tuple[int, ...]]:
    """Read `NAME=1x3x224x224`; the name itself may hold an equals sign. Raises ModelError."""
    name, _, given = text.rpartition("=")
    if not name or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", given, re.ASCII):
        raise ModelError(f"{option} {text}: write the input's name and shape as NAME=1x3x224x224")
    extents = given.split("x")
    if any(len(extent) > _DIGITS for extent in extents) or math.prod(map(int, extents)) > _ELEMENTS:
        raise ModelError(f"{option} {text}: an input has {_ELEMENTS} elements at most")
    return name, tuple(map(int, extents))


def kib(count: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{count / 1024:.1f} KiB"
