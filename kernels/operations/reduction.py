"""Operations that make one number of many: pooling, means, softmax."""

from dataclasses import dataclass

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
