"""Tensors and how they lie: flat row-major buffers in physical layout (images NHWC, channels innermost)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantization:
    """Affine quantization of one int8 tensor: real = scale * (q - zero_point)."""

    scale: float
    """float32 value, positive."""
    zero_point: int
    """In [-128, 127]."""


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
    """Scale and zero point of an int8 tensor that stands for real numbers."""
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
