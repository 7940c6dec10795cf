"""Round constants to int8 and int32."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.compiler.compress.scales import quantization
from edgec.kernels.operators import Quantization

_LARGEST_BIAS = 1 << 30
"""Half of int32, so that the sum of products has the other half."""

_SMALLEST_SHARE = 2.0**-20
"""Of the layer's largest weight scale: a channel of weights so small never moves an int8 output by a step."""


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """Weights and bias of one layer in integers."""

    weights: NDArray[np.int8]
    """In [-127, 127], shaped like the float weights, output channels first."""
    weight_scales: NDArray[np.float32]
    """[output channels]."""
    bias: NDArray[np.int32] | None
    bias_scales: NDArray[np.float32]
    """[output channels]: input scale * weight scale."""


def quantize_weights(
    weights: NDArray[Any], bias: NDArray[Any] | None, input_scale: float
) -> QuantizedWeights:
    """Round weights symmetrically with one scale per output channel (axis 0), the bias to int32."""
    wide = weights.astype(np.float64).reshape(len(weights), -1)
    scales = np.abs(wide).max(axis=1, initial=0) / 127
    scales = np.maximum(scales, scales.max(initial=0) * _SMALLEST_SHARE)
    if bias is not None:  # a channel of tiny weights and a large bias needs coarser units for the bias to fit
        scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / (input_scale * _LARGEST_BIAS))
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    rounded = np.clip(np.rint(wide / scales[:, np.newaxis].astype(np.float64)), -127, 127).astype(np.int8)
    bias_scales = (np.float64(input_scale) * scales.astype(np.float64)).astype(np.float32)
    bias_rounded = None
    if bias is not None:
        exact = np.rint(bias.astype(np.float64) / (np.float64(input_scale) * scales.astype(np.float64)))
        bias_rounded = exact.astype(np.int32)
    return QuantizedWeights(rounded.reshape(weights.shape), scales, bias_rounded, bias_scales)


def quantize_operand(array: NDArray[Any]) -> tuple[NDArray[np.int8], Quantization]:
    """Round the constant operand of an addition or multiplication to int8, one scale for the tensor."""
    chosen = quantization(float(array.min()), float(array.max()))
    rounded = np.rint(array.astype(np.float64) / chosen.scale) + chosen.zero_point
    return np.clip(rounded, -128, 127).astype(np.int8), chosen
