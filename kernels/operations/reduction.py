"""Operations that make one number of many: pooling, means, softmax, normalizations."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MaxPool:
    """Maximum over a window; positions in the padding don't take part. Scale and zero point stay."""

    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    """Top, left; bottom and right follow from `output_shape`."""
    dtype: str = "int8"
    dilations: tuple[int, int] = (1, 1)
    """Pixels from one element of a window to the next; every window has one inside the image."""


@dataclass(frozen=True, eq=False)
class AveragePool:
    """clamp(rne(float32(sum(a - input_zero_point)) * multiplier[oh, ow]) + output_zero_point).

    multiplier[oh, ow] = float32(s_a / (s_y * count)), where count is the number of positions that the
    window divides by there (ONNX count_include_pad decides whether padding counts).
    """

    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    """Top, left; bottom and right follow from `output_shape`."""
    multiplier: NDArray[np.float32]
    """[OH, OW]."""
    input_zero_point: int
    output_zero_point: int
    low: int
    high: int
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""


@dataclass(frozen=True)
class Mean:
    """Mean over the middle of [outer, reduced, inner]: global average pooling, ReduceMean.

    clamp(rne(float32(sum(a - input_zero_point)) * multiplier) + output_zero_point).
    """

    outer: int
    reduced: int
    inner: int
    multiplier: float
    """float32(s_a / (s_y * reduced))."""
    input_zero_point: int
    output_zero_point: int
    low: int
    high: int
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""


@dataclass(frozen=True, eq=False)
class FloatAveragePool:
    """clip(sum(a) * multiplier[oh, ow], low, high) in float32, added up in the order of the window.

    multiplier[oh, ow] = float32(1 / count), the positions that the window divides by there.
    """

    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    """Top, left; bottom and right follow from `output_shape`."""
    multiplier: NDArray[np.float32]
    """[OH, OW]."""
    low: float = -np.inf
    high: float = np.inf
    dtype: str = "float32"
    """Type of the numbers that it reads and writes."""


@dataclass(frozen=True)
class FloatMean:
    """clip(sum(a) * float32(1 / reduced), low, high) over the middle of [outer, reduced, inner].

    Added up in float32, in order.
    """

    outer: int
    reduced: int
    inner: int
    low: float = -np.inf
    high: float = np.inf
    dtype: str = "float32"
    """Type of the numbers that it reads and writes."""


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over the last axis of [outer, length], from a table of exponentials.

    e_i = table[max(x) - x_i], an integer; y_i = clamp(rne(float32(e_i) * (inverse_scale / float32(sum(e))))
    + output_zero_point). table[d] = rne(exp(-d * s_x) * 2**k), k the largest that keeps the sum under 2**31.
    """

    outer: int
    length: int
    table: NDArray[np.int32]
    """[256]."""
    inverse_scale: float
    """float32(1 / s_y)."""
    output_zero_point: int
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""


NormKind = Literal["variance", "squares", "magnitudes"]
"""What a normalization divides by: the deviation from the mean, the root of the squares, the magnitudes."""

LONGEST_NORMALIZED = 131_071
"""Elements of which the squares of int8 add up to less than 2**31."""


@dataclass(frozen=True, eq=False)
class FloatNormalize:
    """Normalize rows of float32 numbers: over the last axis of [outer, length].

    variance   d = x - sum(x) * (1 / n)
    squares    d = x

    n = length; y = (d * r) * multiplier + bias,  r = 1 / sqrt(sum(d * d) * (1 / n) + epsilon). Of
    `PARTIAL_SUMS` sums the one of number i % PARTIAL_SUMS takes element i, in order; then the upper half of
    them is added to the lower one until one is left.
    """

    kind: Literal["variance", "squares"]
    outer: int
    length: int
    epsilon: float
    """float32."""
    multiplier: NDArray[np.float32]
    """[length]."""
    bias: NDArray[np.float32]
    """[length]."""
    dtype: str = "float32"
    """Type of the numbers that it reads and writes."""


PARTIAL_SUMS = 16
"""How many sums a row of floats is added up in: as many as the widest vector has lanes."""


@dataclass(frozen=True, eq=False)
class Normalize:
    """Normalize groups of int8 numbers: over the rows and the last axis of [outer, rows, groups, length].

    Of the n = rows * length elements of a group, d = x - input_zero_point:

    variance    e = n * d - sum(d),  v = n * sum(d**2) - sum(d)**2
    squares     e = d,               v = sum(d**2)
    magnitudes  e = d,               v = sum(|d|)**2

    all exact. With float32 from there on, channel = group * length + place in the group's row:
    r = 1 / sqrt((float32(v >> 24) * 2**24 + float32(v & 0xFFFFFF)) + epsilon);
    y = clamp(rne(float32(e) * (r * multiplier[channel]) + bias[channel]) + output_zero_point, low, high).
    """

    kind: NormKind
    outer: int
    rows: int
    groups: int
    length: int
    epsilon: float
    """float32, what ONNX adds to the variance in units of v; positive."""
    multiplier: NDArray[np.float32]
    """[groups * length]: the model's scale in steps of the result."""
    bias: NDArray[np.float32]
    """[groups * length]: the model's bias in steps of the result."""
    input_zero_point: int
    output_zero_point: int
    low: int
    high: int
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""

    @property
    def count(self) -> int:
        """Elements that are normalized together."""
        return self.rows * self.length

    @property
    def channels(self) -> int:
        """Elements that have a multiplier of their own."""
        return self.groups * self.length

    @property
    def fixed_affine(self) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
        """Multipliers and biases as integers for cores without an FPU, and the bits after their point.

        The point is the same for all of them, as far right as leaves each in 31 bits.
        """
        most = max(float(np.abs(values).max(initial=0.0)) for values in (self.multiplier, self.bias))
        shift = int(np.clip(30 - np.frexp(most)[1], 0, 30))
        wide = (np.rint(values.astype(np.float64) * 2.0**shift) for values in (self.multiplier, self.bias))
        multiplier, bias = (np.clip(values, -(2.0**30), 2.0**30).astype(np.int32) for values in wide)
        return multiplier, bias, shift
