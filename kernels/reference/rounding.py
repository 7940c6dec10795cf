"""From integer sums to int8: the two forms of requantization."""

import numpy as np

from edgec.arrays import Array
from edgec.targets.descriptor import Requantization

FLOAT: Requantization = "float32"
FIXED: Requantization = "fixed-point"
"""The forms of requantization: a target has one of them."""


def requantize(
    accumulator: Array, multiplier: Array | np.float32, zero_point: int, low: int, high: int, dtype: str,
    requantization: Requantization = FLOAT,
) -> Array:  # fmt: skip
    """clamp(rne(float32(accumulator) * multiplier) + zero_point, low, high), as codes of a dtype.

    In the fixed-point form the product is exact, and halves are rounded up.
    """
    if requantization == FIXED:
        mantissa, shift = fixed_point(multiplier)
        rounded = rounded_shift(accumulator.astype(np.int64) * mantissa, shift)
        return clamp(rounded, zero_point, low, high, dtype)
    product = accumulator.astype(np.float32) * multiplier
    return clamp(np.rint(product), zero_point, low, high, dtype)


def fixed_point(value: Array | np.float32) -> tuple[Array, Array]:
    """Return (mantissa, shift) of positive float32: value = mantissa / 2**shift, exactly.

    mantissa has 24 bits. Zero and subnormal numbers get a larger one, whose products are below a half anyway.
    """
    bits = np.asarray(value, np.float32).view(np.int32).astype(np.int64)
    return bits & 0x7FFFFF | 0x800000, 150 - (bits >> 23)


def bit_length(value: Array) -> Array:
    """Return the bits that positive int64 numbers take: 1 for 1, 2 for 2 and 3, 3 for 4."""
    upper = value >> 32
    bits = np.where(upper > 0, np.frexp(upper)[1] + 32, np.frexp(value & 0xFFFFFFFF)[1])
    return np.asarray(bits, np.int64)


def rounded_shift(product: Array, shift: Array) -> Array:
    """floor(product / 2**shift + 1/2); shifts are cut to [1, 62], where results are 0 or leave int8."""
    bounded = np.clip(shift, 1, 62)
    return np.asarray(product + (np.int64(1) << (bounded - 1)) >> bounded)


def clamp(rounded: Array, zero_point: int, low: int, high: int, dtype: str) -> Array:
    """Add the zero point to rounded float32 values and clamp to codes of a dtype."""
    return np.clip(rounded.astype(np.float64) + zero_point, low, high).astype(dtype)
