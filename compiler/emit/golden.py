"""Golden vectors: one run that the reference computed, to compare a device's with."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgec.arrays import Array


@dataclass(frozen=True, eq=False)
class Near:
    """What a tensor must come near to."""

    values: Array
    """Flat: every `stride`-th element."""
    stride: int
    """1: these are all, and the self-test puts them in the place of the device's own once they are compared.
    So what follows computes from the very numbers that the reference had, and is exact again."""
    absolute: float
    """What an element may be off besides RELATIVE_TOLERANCE of its value."""


@dataclass(frozen=True, eq=False)
class Golden:
    """One inference of the reference. Arrays are keyed by tensor name, in the program's shapes and dtypes."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    checksums: tuple[int | None, ...]
    """Per call: `checksum` of its outputs, or None where one of them isn't exact."""
    near: Mapping[str, Near] = field(default_factory=dict)
    """By tensor, those that aren't, but for what lies inside an island."""


def checksum(arrays: Iterable[Array]) -> int:
    """Return the CRC-32 (zlib's) of the arrays' row-major bytes, one after another."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    return crc
