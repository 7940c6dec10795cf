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
    """The last dimension innermost."""
    strides = [1]
    for extent in reversed(shape[1:]):
        strides.insert(0, strides[0] * extent)
    return View(shape, tuple(strides[: len(shape)]))


def ordered(shape: tuple[int, ...], order: tuple[int, ...]) -> View:
    """Dense, with dimensions in the buffer in the given order, outermost first."""
    packed = row_major(tuple(shape[axis] for axis in order))
    strides = [0] * len(shape)
    for position, axis in enumerate(order):
        strides[axis] = packed.strides[position]
    return View(shape, tuple(strides))


def natural_order(rank: int) -> tuple[int, ...]:
    """Channels innermost for images (N, C, H, W), else as they are."""
    return (0, 2, 3, 1) if rank == 4 else tuple(range(rank))


def natural(shape: tuple[int, ...]) -> View:
    """Dense, in the order that kernels want: NHWC for an NCHW tensor."""
    return ordered(shape, natural_order(len(shape)))


def same(one: View, other: View) -> bool:
    """Whether two views of one buffer read the same elements; strides of extent-1 dimensions don't matter."""
    return one.shape == other.shape and one.offset == other.offset and all(
        a == b for a, b, extent in zip(one.strides, other.strides, one.shape, strict=True) if extent > 1
    )  # fmt: skip


def dense_order(view: View) -> tuple[int, ...] | None:
    """The order of dimensions in which the view covers a buffer from its start without gaps, or None.

    Dimensions of extent 1 fit anywhere; they are put where the natural order has them.
    """
    rank = len(view.shape)
    preferred = natural_order(rank)
    if same(view, ordered(view.shape, preferred)):
        return preferred
    order = tuple(sorted(range(rank), key=lambda axis: (-view.strides[axis], view.shape[axis], axis)))
    return order if same(view, ordered(view.shape, order)) else None


def transpose(view: View, order: tuple[int, ...]) -> View:
    """ONNX Transpose."""
    return View(
        tuple(view.shape[axis] for axis in order), tuple(view.strides[axis] for axis in order), view.offset
    )


def reshape(view: View, shape: tuple[int, ...]) -> View | None:
    """The same elements in row-major order under another shape, or None where no strides say that."""
    old = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n != 1]
    strides: list[int] = []
    position = 0
    remaining = list(shape)
    while remaining:
        extent = remaining.pop(0)
        if extent == 1:
            strides.append(0)
            continue
        # Gather new dimensions until they cover a whole number of old ones.
        group, have, want = [extent], 1, extent
        start = position
        while have != want:
            if have < want:
                if position == len(old):
                    return None
                have *= old[position][0]
                position += 1
            else:
                extent = remaining.pop(0)
                group.append(extent)
                want *= extent
        chunk = old[start:position]
        if any(outer[1] != inner[1] * inner[0] for outer, inner in zip(chunk, chunk[1:], strict=False)):
            return None
        step = chunk[-1][1]
        inner_strides: list[int] = []
        for extent in reversed(group):
            inner_strides.insert(0, step)
            step *= extent
        strides += inner_strides
    return View(shape, tuple(strides), view.offset)


def take(view: View, axis: int, start: int, count: int, step: int = 1) -> View:
    """ONNX Slice along one axis."""
    shape, strides = list(view.shape), list(view.strides)
    shape[axis] = count
    strides[axis] *= step
    return View(tuple(shape), tuple(strides), view.offset + start * view.strides[axis])


def drop(view: View, axis: int) -> View:
    """Remove a dimension of which only the first element is wanted."""
    return View(view.shape[:axis] + view.shape[axis + 1 :], view.strides[:axis] + view.strides[axis + 1 :], view.offset)


def broadcast_strides(view: View, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides with which `view` is read as a tensor of `shape`, by ONNX's broadcasting."""
    padded = (1,) * (len(shape) - len(view.shape)) + view.shape
    strides = (0,) * (len(shape) - len(view.shape)) + view.strides
    return tuple(0 if extent == 1 else stride for extent, stride in zip(padded, strides, strict=True))
