"""Operations that move elements and compute nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rearrange:
    """A strided copy: transposes, slices, splits, shuffles and nearest-neighbour resizing are all this.

    y[i0, i1, ...] = x[offset + i0 * strides[0] + i1 * strides[1] + ...], strides in elements.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: str
    input_size: int
    """Elements of the input buffer."""


@dataclass(frozen=True, eq=False)
class Concat:
    """Concatenate along the middle of [outer, sum(inner)]; an input of another scale goes through a table."""

    outer: int
    inner: tuple[int, ...]
    """Contiguous elements that each input contributes per outer index."""
    tables: tuple[NDArray[np.int8] | None, ...]
    """Per input, [256] to requantize it, or None to copy."""
    dtype: str = "int8"


@dataclass(frozen=True)
class Pad:
    """Pad with a constant: `pads` gives (before, after) per dimension of `shape`, none negative."""

    shape: tuple[int, ...]
    """Shape of the input."""
    pads: tuple[tuple[int, int], ...]
    value: float
    """A value of the dtype."""
    dtype: str = "int8"
