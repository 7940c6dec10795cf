"""Where constants and golden inputs lie in the two binary files that objects include."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Blob(Generic[Name]):
    """Arrays one after another, each at a multiple of the target's `alignment`."""

    data: bytes
    offsets: dict[Name, int]
    """Per array; equal arrays share their bytes."""


def pack(arrays: Mapping[Name, NDArray[Any]], alignment: int) -> Blob[Name]:
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
