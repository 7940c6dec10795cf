"""Tensors and how they lie: flat row-major buffers in physical layout (images NHWC, channels innermost)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def code_range(dtype: str) -> tuple[int, int]:
    """Return the least and the largest number of an integer dtype: all between are codes."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


@dataclass(frozen=True)
class Quantization:
    """Affine quantization of one tensor: real = scale * (q - zero_point)."""

    scale: float
    """float32 value, positive."""
    zero_point: int
    """One of the codes."""
    dtype: str = "int8"
    """Type of the codes q, a signed numpy one; codes are all numbers that it has."""

    @property
    def lowest(self) -> int:
        """The least code."""
        return code_range(self.dtype)[0]

    @property
    def highest(self) -> int:
        """The largest code."""
        return code_range(self.dtype)[1]

    @property
    def codes(self) -> NDArray[np.int64]:
        """Every code, in order: what a table of them has its entries for."""
        return np.arange(self.lowest, self.highest + 1)

    @property
    def ends(self) -> tuple[float, float]:
        """The numbers that the lowest and the highest code stand for."""
        return self.scale * (self.lowest - self.zero_point), self.scale * (self.highest - self.zero_point)


@dataclass(frozen=True)
class Runs:
    """How a result lies that is part of a wider tensor: runs of consecutive elements, equally far apart."""

    length: int
    """Elements of a run."""
    pitch: int
    """Elements from the start of one run to that of the next."""

    def count(self, size: int) -> int:
        """Return how many runs `size` elements are."""
        return size // self.length if size else 0

    def span(self, size: int) -> int:
        """Return the elements of memory from the first to the last of `size`."""
        return (self.count(size) - 1) * self.pitch + self.length


def pitch(runs: Runs | None, length: int) -> int:
    """Return the elements from one pixel of `length` channels to the next; runs are pixels."""
    return length if runs is None else runs.pitch


def span(runs: Runs | None, size: int) -> int:
    """Return the elements of memory from the first to the last of a result of `size`."""
    return size if runs is None else runs.span(size)


def laid(shape: tuple[int, ...], runs: Runs | None) -> tuple[int, ...]:
    """Return the strides of a row-major result of `shape`; a run is all of the last dimensions."""
    strides = []
    step = 1
    for extent in reversed(shape):
        strides.append(step if runs is None or step < runs.length else step // runs.length * runs.pitch)
        step *= extent
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Place:
    """Where in another tensor a tensor lies, which so needs no memory of its own."""

    tensor: str
    """One that has a place of its own."""
    offset: int
    """Elements of it before the first."""
    runs: Runs | None
    """None where the tensor lies there densely."""


@dataclass(frozen=True)
class Tensor:
    """A value between operators: a flat row-major buffer."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """A numpy dtype name."""
    quantization: Quantization | None = None
    """Scale and zero point of integers that stand for real numbers."""
    place: Place | None = None
    """Where it is part of another tensor; it is then read through that one alone."""
    title: str = ""
    """What the model calls an output whose name is an input's, too."""

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize
