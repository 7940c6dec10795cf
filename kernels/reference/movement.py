"""Operations that move elements."""

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import WEIGHT_BITS, Concat, Interpolate, Pad, Rearrange


def strided(x: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Array:
    """View of a flat array by strides in elements."""
    index = np.full(shape, offset, np.int64)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        index += (np.arange(size) * stride).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.asarray(x.reshape(-1)[index])


def rearrange(op: Rearrange, x: Array) -> Array:
    """Return the elements in another order, by strides and offset."""
    return strided(x, op.shape, op.strides, op.offset)


def concat(op: Concat, *inputs: Array) -> Array:
    """Join the inputs along an axis, each mapped by its table where it has one."""
    parts = []
    for x, inner, table in zip(inputs, op.inner, op.tables, strict=True):
        part = x.reshape(op.outer, inner)
        parts.append(part if table is None else table[part.astype(np.int32) + 128])
    return np.concatenate(parts, axis=1)


def pad(op: Pad, x: Array) -> Array:
    """Surround the input with a value."""
    return np.pad(x.reshape(op.shape), op.pads, constant_values=op.value)


def interpolate(op: Interpolate, x: Array) -> Array:
    """Interpolate between columns, then between rows."""
    whole, wide = (1, np.float32) if op.dtype == "float32" else (1 << WEIGHT_BITS, np.int32)
    image, one = x.reshape(op.input_shape).astype(wide), wide(whole)
    across, down = op.column_weights[:, np.newaxis], op.row_weights[:, np.newaxis, np.newaxis]
    left, right = (image[:, :, op.column_places[:, which]] for which in (0, 1))
    lines = left * (one - across) + right * across
    upper, lower = (lines[:, op.row_places[:, which]] for which in (0, 1))
    found = upper * (one - down) + lower * down
    if op.dtype == "float32":
        return np.asarray(found)
    return ((found + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS)).astype(op.dtype)
