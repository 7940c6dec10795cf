"""Golden vectors: one run that the reference computed, to compare a device's with."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Golden:
    """One inference of the reference. Arrays are keyed by tensor name, in the program's shapes and dtypes."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    checksums: tuple[int | None, ...]
    """Per call: `checksum` of its outputs, or None for a float step."""


def checksum(arrays: Iterable[NDArray[Any]]) -> int:
    """Return the CRC-32 (zlib's) of the arrays' row-major bytes, one after another."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    return crc
