"""Convolutions, which with a 1x1 window are all matrix products by constant weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.operations.pointwise import Binary
from edgec.kernels.operations.tensors import code_range


def convolved(
    image: tuple[int, int, int, int],
    weights: tuple[int, ...],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilations: tuple[int, int],
) -> tuple[int, int, int, int]:
    """N, H, W, C of a convolution's result; `weights` is [outputs, kernel height, kernel width, inputs]."""
    n, h, w, _ = image
    outputs, kh, kw, _ = weights
    top, left, bottom, right = pads
    oh = (h + top + bottom - dilations[0] * (kh - 1) - 1) // strides[0] + 1
    ow = (w + left + right - dilations[1] * (kw - 1) - 1) // strides[1] + 1
    return n, oh, ow, outputs


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Convolution, and with a 1x1 window every matrix product by constant weights.

    acc = bias + sum((a - input_zero_point) * w); padding pads with input_zero_point;
    y = clamp(rne(float32(acc) * multiplier) + output_zero_point, low, high).
    With a `residual`, y is not stored but goes on into that addition.
    """

    input_shape: tuple[int, int, int, int]
    """N, H, W, C."""
    weights: NDArray[np.int8] | NDArray[np.int16]
    """[output channels, kernel height, kernel width, C / groups]; int16 only where an imported model's
    weights less their zero point leave [-127, 127]."""
    bias: NDArray[np.int32]
    """[output channels]."""
    multiplier: NDArray[np.float32]
    """[output channels]: s_a * s_w / s_y, computed in float64."""
    input_zero_point: int
    output_zero_point: int
    low: int
    high: int
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right."""
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    residual: Binary | None = None
    """The elementwise addition of y, as its first operand (whose zero point is y's), and the operator's
    second input."""
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C of the result."""
        return convolved(self.input_shape, self.weights.shape, self.strides, self.pads, self.dilations)

    @property
    def saturating(self) -> bool:
        """Whether the codes' own range is all that results are clamped to."""
        clamps = [(self.low, self.high)]
        if self.residual is not None:
            clamps.append((self.residual.low, self.residual.high))
        return set(clamps) == {code_range(self.dtype)}

    @property
    def sums(self) -> int:
        """Largest magnitude of any sum, bias included, for all inputs there are."""
        return int(self._sums.max(initial=0))

    @property
    def _sums(self) -> NDArray[np.int64]:
        """Largest magnitude of the sums per output channel."""
        weights = self.weights.reshape(len(self.weights), -1).astype(np.int64)
        lowest, highest = (code - self.input_zero_point for code in code_range(self.dtype))
        positive, negative = weights.clip(0).sum(axis=1), weights.clip(None, 0).sum(axis=1)
        ends = ((lowest, highest), (highest, lowest))
        magnitudes = [np.abs(self.bias + positive * a + negative * b) for a, b in ends]
        return np.asarray(np.maximum(*magnitudes), np.int64)

    @property
    def reach(self) -> float:
        """Largest magnitude of any value that is rounded, for all inputs there are."""
        reach = float((self._sums * self.multiplier.astype(np.float64)).max(initial=0.0))
        if self.residual is not None:
            lowest, highest = code_range(self.residual.dtype)
            reach = max(reach, float(highest - lowest) * sum(map(abs, self.residual.factors)))
        return reach

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        n, oh, ow, _ = self.output_shape
        return n * oh * ow * int(self.weights.size)


@dataclass(frozen=True, eq=False)
class Chain:
    """Convolutions, each of the result of the one before; only the last one's result is stored.

    The last may have a residual: the operator's second input.
    """

    stages: tuple[Conv2d, ...]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C of the first convolution's input."""
        return self.stages[0].input_shape

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C of the result."""
        return self.stages[-1].output_shape

    @property
    def dtype(self) -> str:
        """Type of the codes that its convolutions read and write."""
        return self.stages[0].dtype

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(stage.macs for stage in self.stages)


@dataclass(frozen=True, eq=False)
class FloatConv2d:
    """Convolution in float32, and with a 1x1 window every matrix product by constant weights.

    y = clip(bias + sum(a * w) + residual, low, high); sums in float32, in an order of the kernel's own.
    """

    input_shape: tuple[int, int, int, int]
    """N, H, W, C."""
    weights: NDArray[np.float32]
    """[output channels, kernel height, kernel width, C / groups]."""
    bias: NDArray[np.float32]
    """[output channels]."""
    low: float = -np.inf
    high: float = np.inf
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right; padding is zero."""
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    residual: bool = False
    """Whether the operator's second input, of the result's shape, is added."""
    dtype: str = "float32"
    """Type of the numbers that it reads and writes."""

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C of the result."""
        return convolved(self.input_shape, self.weights.shape, self.strides, self.pads, self.dilations)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        n, oh, ow, _ = self.output_shape
        return n * oh * ow * int(self.weights.size)
