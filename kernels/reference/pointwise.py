"""Operations on elements."""

from collections.abc import Callable

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import Binary, BinaryKind, Dequantize, FloatBinary, Lookup, Quantize, code_range
from edgec.kernels.reference.movement import strided
from edgec.kernels.reference.rounding import FIXED, FLOAT, clamp, fixed_point, rounded_shift
from edgec.targets.descriptor import Requantization


def binary(op: Binary, a: Array, b: Array, requantization: Requantization = FLOAT) -> Array:
    """Combine two int8 tensors, each less its zero point and times its factor; round once."""
    if requantization == FIXED:
        return _fixed_binary(op, a, b)
    left, right = (
        (strided(x, op.shape, strides).astype(np.int32) - zero_point).astype(np.float32) * np.float32(factor)
        for x, strides, zero_point, factor in zip((a, b), op.strides, op.zero_points, op.factors, strict=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        result = COMBINED[op.kind](left, right)
    rounded = np.rint(np.where(np.isnan(result), -np.inf, result))
    return clamp(rounded, op.output_zero_point, op.low, op.high, op.dtype)


COMBINED: dict[BinaryKind, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": lambda a, b: np.where((a >= b) | np.isnan(a), a, b),
    "min": lambda a, b: np.where((a <= b) | np.isnan(a), a, b),
    "prelu": lambda x, slope: np.where(x < 0, x * slope, x),
}
"""What is computed of two numbers, by the kind of `Binary`."""


def _fixed_binary(op: Binary, a: Array, b: Array) -> Array:
    """Factors with one shift, so that an addition rounds once; each is below 2**31, the smaller one cut.

    A quotient is cut to an integer by one division of 32 bits; its second factor is one.
    """
    left, right = (
        strided(x, op.shape, strides).astype(np.int64) - zero_point
        for x, strides, zero_point in zip((a, b), op.strides, op.zero_points, strict=True)
    )
    (one, two), shifts = fixed_point(np.array(op.factors, np.float32))
    bounds = op.output_zero_point, op.low, op.high, op.dtype
    if op.kind in ("mul", "prelu"):
        product = clamp(rounded_shift(left * right * (one * two >> 17), shifts.sum() - 17), *bounds)
        if op.kind == "mul":
            return product
        return np.where(left < 0, product, clamp(rounded_shift(left * one, shifts[0]), *bounds))
    if op.kind == "div":
        quotient = np.abs(left) * one // np.maximum(np.abs(right), 1) * np.sign(left) * np.sign(right)
        infinite = np.where(left > 0, op.high, op.low)
        return np.where(right == 0, infinite, clamp(rounded_shift(quotient, shifts[0]), *bounds)).astype(
            op.dtype
        )
    one, two = ((m << 7) >> min(31, s - shifts.min()) for m, s in zip((one, two), shifts, strict=True))
    return clamp(rounded_shift(COMBINED[op.kind](left * one, right * two), shifts.min() + 7), *bounds)


def float_binary(op: FloatBinary, a: Array, b: Array) -> Array:
    """Combine two float tensors, within limits."""
    left, right = (strided(x, op.shape, strides) for x, strides in zip((a, b), op.strides, strict=True))
    with np.errstate(all="ignore"):
        return np.asarray(np.clip(COMBINED[op.kind](left, right), op.low, op.high))


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
