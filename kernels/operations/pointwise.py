"""Operations on elements: sums and products with broadcasting, tables, quantization."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BinaryKind = Literal["add", "sub", "mul", "div", "max", "min", "prelu"]
"""What is computed of two numbers; `prelu` multiplies negative ones by the second operand, a slope."""


def _elementwise(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> bool:
    """Whether element i of a result of `shape` is made of element i of each operand: nothing broadcasts."""
    dense = np.cumprod((1, *shape[:0:-1]))[::-1][: len(shape)]
    return all(
        extent == 1 or stride == wanted
        for steps in strides
        for extent, stride, wanted in zip(shape, steps, dense, strict=True)
    )


@dataclass(frozen=True)
class Binary:
    """Combine two tensors of codes, element by element, with broadcasting.

    clamp(rne(r) + z_y) where, of p = float32(a - z_a) * f_a and q = float32(b - z_b) * f_b, r is

    add, sub, mul, div   p + q, p - q, p * q, p / q; 0 / 0 is clamped to `low`
    max, min             the larger or the smaller of them
    prelu                p * q where p < 0, else p
    """

    kind: BinaryKind
    shape: tuple[int, ...]
    """Shape of the result."""
    strides: tuple[tuple[int, ...], tuple[int, ...]]
    """Elements to step in each operand per dimension of `shape`; 0 broadcasts."""
    zero_points: tuple[int, int]
    factors: tuple[float, float]
    """float32 values: s_a / s_y and s_b / s_y of sums, differences, maxima and minima; s_a and s_b / s_y of
    products; s_a / (s_b * s_y) and 1 of quotients; s_a / s_y and s_b of `prelu`."""
    output_zero_point: int
    low: int
    high: int
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""

    @property
    def elementwise(self) -> bool:
        """Whether element i of the result is made of element i of each operand: nothing broadcasts."""
        return _elementwise(self.shape, self.strides)


@dataclass(frozen=True)
class FloatBinary:
    """Combine two float32 tensors with broadcasting, as `Binary` does numbers, and clip to [low, high].

    A maximum or minimum of NaN and a number is NaN.
    """

    kind: BinaryKind
    shape: tuple[int, ...]
    """Shape of the result."""
    strides: tuple[tuple[int, ...], tuple[int, ...]]
    """Elements to step in each operand per dimension of `shape`; 0 broadcasts."""
    low: float = -np.inf
    high: float = np.inf
    dtype: str = "float32"
    """Type of the numbers that it reads and writes."""

    @property
    def elementwise(self) -> bool:
        """Whether element i of the result is made of element i of each operand: nothing broadcasts."""
        return _elementwise(self.shape, self.strides)


@dataclass(frozen=True, eq=False)
class Lookup:
    """Any chain of unary operators on one int8 tensor: y = table[x + 128]."""

    size: int
    table: NDArray[np.int8]
    """[256], computed in float64 at compile time."""
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""


@dataclass(frozen=True)
class Quantize:
    """float32 to codes: clamp(rne(x / scale) + zero_point), the division in float32 (ONNX QuantizeLinear)."""

    size: int
    scale: float
    zero_point: int
    dtype: str = "int8"
    """Type of the codes."""


@dataclass(frozen=True)
class Dequantize:
    """Codes to float32: float32(x - zero_point) * scale (ONNX DequantizeLinear)."""

    size: int
    scale: float
    zero_point: int
    dtype: str = "int8"
    """Type of the codes."""
