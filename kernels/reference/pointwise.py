"""Operations on elements."""

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import Binary, Dequantize, FloatBinary, Lookup, Quantize, code_range
from edgec.kernels.reference.movement import strided
from edgec.kernels.reference.rounding import FIXED, FLOAT, clamp, fixed_point, rounded_shift
from edgec.targets.descriptor import Requantization


def binary(op: Binary, a: Array, b: Array, requantization: Requantization = FLOAT) -> Array:
    """Add or multiply two int8 tensors, each less its zero point and times its factor; round once."""
    if requantization == FIXED:
        return _fixed_binary(op, a, b)
    left, right = (
        (strided(x, op.shape, strides).astype(np.int32) - zero_point).astype(np.float32) * np.float32(factor)
        for x, strides, zero_point, factor in zip((a, b), op.strides, op.zero_points, op.factors, strict=True)
    )
    result = left + right if op.kind == "add" else left * right
    return clamp(np.rint(result), op.output_zero_point, op.low, op.high, op.dtype)


def _fixed_binary(op: Binary, a: Array, b: Array) -> Array:
    """Factors with one shift, so that an addition rounds once; each is below 2**31, the smaller one cut."""
    left, right = (
        strided(x, op.shape, strides).astype(np.int64) - zero_point
        for x, strides, zero_point in zip((a, b), op.strides, op.zero_points, strict=True)
    )
    (one, two), shifts = fixed_point(np.array(op.factors, np.float32))
    if op.kind == "mul":
        product, shift = left * right * (one * two >> 17), shifts.sum() - 17
    else:
        shift = shifts.min() + 7
        one, two = ((m << 7) >> min(31, s - shifts.min()) for m, s in zip((one, two), shifts, strict=True))
        product = left * one + right * two
    return clamp(rounded_shift(product, shift), op.output_zero_point, op.low, op.high, op.dtype)


def float_binary(op: FloatBinary, a: Array, b: Array) -> Array:
    """Add or multiply two float tensors, within limits."""
    left, right = (strided(x, op.shape, strides) for x, strides in zip((a, b), op.strides, strict=True))
    return np.asarray(np.clip(left + right if op.kind == "add" else left * right, op.low, op.high))


def lookup(op: Lookup, x: Array) -> Array:
    """Map every int8 element by a table of 256 values."""
    return np.asarray(op.table[x.view(np.int8).astype(np.int32) + 128])


def quantize(op: Quantize, x: Array) -> Array:
    """Divide floats by the scale, round to even, add the zero point, clamp; NaN becomes the lowest."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is clamped; a signalling NaN is one, too
        quotient = x.astype(np.float32) / np.float32(op.scale)
    rounded = np.rint(np.where(np.isnan(quotient), -np.inf, quotient))
    return clamp(rounded, op.zero_point, *code_range(op.dtype), op.dtype)


def dequantize(op: Dequantize, x: Array) -> Array:
    """Return the floats that int8 elements stand for."""
    return np.asarray((x.astype(np.int32) - op.zero_point).astype(np.float32) * np.float32(op.scale))
