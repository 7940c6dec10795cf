"""Products of two activations."""

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import Matrices, Product
from edgec.kernels.reference.rounding import FLOAT, requantize
from edgec.targets.descriptor import Requantization


def product(op: Product, a: Array, b: Array, requantization: Requantization = FLOAT) -> Array:
    """Multiply every pair of matrices: sums in float64, exact below 2**53, requantized."""
    left = matrices(a, op.left, (*op.batch, op.rows, op.inner)).astype(np.float64) - op.zero_points[0]
    right = matrices(b, op.right, (*op.batch, op.inner, op.columns)).astype(np.float64) - op.zero_points[1]
    total = (left @ right).astype(np.int64)
    if total.size and np.abs(total).max() >= 2**31:
        raise OverflowError("accumulator leaves int32")
    bounds = op.output_zero_point, op.low, op.high, op.dtype
    values = requantize(total.astype(np.int32), np.float32(op.multiplier), *bounds, requantization)
    result = np.empty(op.result.size, op.dtype)
    matrices(result, op.result, values.shape)[...] = values
    return result


def matrices(buffer: Array, lie: Matrices, shape: tuple[int, ...]) -> Array:
    """Return matrices of `shape`, batch first, as a view of the buffer that they lie in."""
    flat = np.ascontiguousarray(buffer).reshape(-1)
    strides = [stride * flat.itemsize for stride in (*lie.batch, lie.row, lie.column)]
    return np.lib.stride_tricks.as_strided(flat[lie.offset :], shape, strides)
