"""Views: how a tensor of the model, in ONNX's order of dimensions, lies in a buffer.

Transposes, reshapes, slices and repetitions change a view, not the data; a copy happens only where a kernel
needs another order, and then once for a whole chain of them.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """Element (i0, i1, ...) of a tensor is element offset + i0 * strides[0] + ... of a buffer."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In elements; 0 repeats."""
    offset: int = 0

    @property
    def size(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)


def row_major(shape: tuple[int, ...]) -> View:
    """Return the dense view with the last dimension innermost."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return View(shape, tuple(strides))


def ordered(shape: tuple[int, ...], order: tuple[int, ...]) -> View:
    """Return the dense view with dimensions in the buffer in the given order, outermost first."""
    packed = row_major(tuple(shape[axis] for axis in order))
    strides = [0] * len(shape)
    for axis, stride in zip(order, packed.strides, strict=True):
        strides[axis] = stride
    return View(shape, tuple(strides))


def natural_order(rank: int) -> tuple[int, ...]:
    """Return the order that kernels want: channels innermost for images (N, C, H, W), else as they are."""
    return (0, 2, 3, 1) if rank == 4 else tuple(range(rank))


def natural(shape: tuple[int, ...]) -> View:
    """Return the dense view in the order that kernels want: NHWC for an NCHW tensor."""
    return ordered(shape, natural_order(len(shape)))


def same(one: View, other: View) -> bool:
    """Whether two views of one buffer read the same elements; strides of extent-1 dimensions don't matter."""
    strides = zip(one.strides, other.strides, one.shape, strict=False)
    return (one.shape, one.offset) == (other.shape, other.offset) and all(
        a == b for a, b, extent in strides if extent > 1
    )


def dense_order(view: View) -> tuple[int, ...] | None:
    """Return the order of dimensions in which the view reads a buffer's start without gaps, or None.

    Dimensions of extent 1 fit anywhere; they are put where the natural order has them.
    """
    rank = len(view.shape)
    preferred = natural_order(rank)
    if same(view, ordered(view.shape, preferred)):
        return preferred
    order = tuple(sorted(range(rank), key=lambda axis: (-view.strides[axis], view.shape[axis], axis)))
    return order if same(view, ordered(view.shape, order)) else None


def transpose(view: View, order: tuple[int, ...]) -> View:
    """Return the view with its dimensions in another order (ONNX Transpose)."""
    shape, strides = tuple(view.shape[axis] for axis in order), tuple(view.strides[axis] for axis in order)
    return View(shape, strides, view.offset)


def reshape(view: View, shape: tuple[int, ...]) -> View | None:
    """Return the same elements, in row-major order, under another shape; None where no strides say that."""
    runs: list[tuple[int, int]] = []  # (extent, stride) of dimensions joined as far as they go
    for extent, stride in zip(view.shape, view.strides, strict=True):
        if extent == 1:
            continue
        if runs and runs[-1][1] == extent * stride:
            extent *= runs.pop()[0]
        runs.append((extent, stride))
    strides = []
    left, step = 1, 0  # of the innermost run: elements not yet given to a new dimension, and their stride
    for extent in reversed(shape):
        if left == 1 and extent > 1:
            left, step = runs.pop()
        if left % extent:
            return None
        strides.append(step if extent > 1 else 0)
        left, step = left // extent, step * extent
    return View(shape, tuple(reversed(strides)), view.offset)


def take(view: View, axis: int, start: int, count: int, step: int = 1) -> View:
    """Return `count` elements along one axis, from `start` in steps of `step` (ONNX Slice)."""
    shape, strides = list(view.shape), list(view.strides)
    shape[axis] = count
    strides[axis] *= step
    return View(tuple(shape), tuple(strides), view.offset + start * view.strides[axis])


def drop(view: View, axis: int) -> View:
    """Return the view without a dimension of which only the first element is wanted."""
    others = [other for other in range(len(view.shape)) if other != axis]
    return transpose(view, tuple(others))


def broadcast_strides(view: View, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides with which `view` is read as a tensor of `shape`, by ONNX's broadcasting."""
    strides = (stride if extent > 1 else 0 for extent, stride in zip(view.shape, view.strides, strict=True))
    return (*(0,) * (len(shape) - len(view.shape)), *strides)
