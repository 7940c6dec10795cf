"""Products of two activations."""

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import Attention, Matrices, Product
from edgec.kernels.reference.rounding import FIXED, FLOAT, fixed_point, requantize, rounded_shift
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


def attention(
    op: Attention, query: Array, key: Array, value: Array, mask: Array | None = None,
    requantization: Requantization = FLOAT,
) -> Array:  # fmt: skip
    """Weigh values by the exponentials of scores, row by row; one division a row."""
    z_q, z_k, z_v = op.zero_points
    queries = matrices(query, op.queries, (*op.batch, op.rows, op.inner)).astype(np.float64) - z_q
    keys = matrices(key, op.keys, (*op.batch, op.inner, op.length)).astype(np.float64) - z_k
    values = matrices(value, op.values, (*op.batch, op.length, op.columns)).astype(np.float64) - z_v
    steps = _steps((queries @ keys).astype(np.int32), np.float32(op.score_multiplier), requantization)
    if op.mask is not None:
        assert mask is not None, "the operation has a fourth input"
        codes = matrices(mask, op.mask, (*op.batch, op.rows, op.length)).astype(np.int32)
        steps = steps + op.mask_steps[codes + 128]
    exponentials = op.table[np.minimum(steps.max(axis=-1, keepdims=True) - steps, 255)].astype(np.int32)
    total = (exponentials.astype(np.float64) @ values).astype(np.int32)
    sums = exponentials.sum(axis=-1, keepdims=True, dtype=np.int32)
    factors = _quotients(np.float32(op.multiplier), sums, requantization)
    bounds = op.output_zero_point, op.low, op.high, op.dtype
    found = requantize(total, factors, *bounds, requantization)
    result = np.empty(op.result.size, op.dtype)
    matrices(result, op.result, found.shape)[...] = found
    return result


def _steps(sums: Array, multiplier: np.float32, requantization: Requantization) -> Array:
    """Return scores in steps of the table, cut to 16 bits."""
    if requantization == FIXED:
        mantissa, shift = fixed_point(multiplier)
        rounded = rounded_shift(sums.astype(np.int64) * mantissa, shift)
    else:
        rounded = np.rint(sums.astype(np.float32) * multiplier)
    return np.clip(rounded, -32767, 32767).astype(np.int32)


def _quotients(multiplier: np.float32, sums: Array, requantization: Requantization) -> Array:
    """Return the multiplier divided by sums, in float32.

    In fixed point it is cut to its upper bits: a sum's upper 16 divide 2**31, as in softmax.
    """
    if requantization != FIXED:
        return np.asarray(multiplier / sums.astype(np.float32))
    free = 31 - np.frexp(sums)[1].astype(np.int64)
    reciprocal = 2**31 // ((sums.astype(np.int64) << free) >> 15)
    mantissa, shift = fixed_point(multiplier)
    product = reciprocal * mantissa >> 15
    more = product >> 24
    exponent = 150 - (shift + 31 - free - more)
    bits = (exponent << 23) | (product >> more & 0x7FFFFF)
    return np.where(exponent > 0, bits, 0).astype(np.int32).view(np.float32)


def matrices(buffer: Array, lie: Matrices, shape: tuple[int, ...]) -> Array:
    """Return matrices of `shape`, batch first, as a view of the buffer that they lie in."""
    flat = np.ascontiguousarray(buffer).reshape(-1)
    strides = [stride * flat.itemsize for stride in (*lie.batch, lie.row, lie.column)]
    return np.lib.stride_tricks.as_strided(flat[lie.offset :], shape, strides)
