"""Where constants and golden inputs lie in the files that objects include, and where steps' results do."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import Place, Runs, Tensor

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Blob(Generic[Name]):
    """Arrays one after another, each at a multiple of the target's `alignment`."""

    data: bytes
    offsets: dict[Name, int]
    """Per array; equal arrays share their bytes."""


def pack(arrays: Mapping[Name, Array], alignment: int) -> Blob[Name]:
    """Lay out `arrays` in their order, each at a multiple of `alignment` bytes."""
    data = bytearray()
    offsets: dict[Name, int] = {}
    known: dict[bytes, int] = {}
    for name, array in arrays.items():
        content = np.ascontiguousarray(array).tobytes()
        if content not in known:
            data += bytes(-len(data) % alignment)
            known[content] = len(data)
            data += content
        offsets[name] = known[content]
    return Blob(bytes(data), offsets)


def pieces(tensor: Tensor) -> dict[str, int]:
    """Return, in bytes, where a tensor lies in the one that is its home, and the pieces that it is there.

    `offset` of the first, `bytes` of each, `pieces` of them, `pitch` from one to the next.
    """
    place, size = tensor.place or Place(tensor.name, 0, None), tensor.size
    runs, element = place.runs or Runs(size, size), np.dtype(tensor.dtype).itemsize
    return {
        "offset": place.offset * element,
        "bytes": runs.length * element,
        "pieces": runs.count(size),
        "pitch": runs.pitch * element,
    }
