"""Round constants to int8 and int32."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.compress.scales import quantization
from edgec.kernels.operations import Quantization

_LARGEST = 127
"""The largest weight, in steps of its channel's scale."""

_LARGEST_PAIR = 128 * (1 - 2.0**-16)
"""In a reduced range, what neighbours of one sign sum up to before they are rounded: rounded, it is 128.

Two products of uint8 by such weights fit int16, as `vpmaddubsw` sums them.
"""

_LARGEST_BIAS = 1 << 30
"""Half of int32, so that the sum of products has the other half."""

_SMALLEST_SHARE = 2.0**-20
"""The smallest scale of a channel, as a share of the layer's largest: a channel of weights so small never
moves an int8 output by a step."""

_SMALLEST_UNIT = float(np.finfo(np.float32).tiny)
"""The smallest scale of weights, and of a bias: smaller ones are float32 subnormals, or zero."""


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """Weights and bias of one layer in integers."""

    weights: NDArray[np.int8]
    """In [-127, 127], shaped like the float weights, output channels first."""
    weight_scales: NDArray[np.float32]
    """[output channels], or one for the tensor: []."""
    bias: NDArray[np.int32]
    bias_scales: NDArray[np.float32]
    """As many: input scale * weight scale."""


def quantize_weights(
    weights: Array,
    bias: Array,
    input_scale: float,
    input_means: NDArray[np.float64],
    groups: int = 1,
    reduce_range: bool = False,
    per_tensor: bool = False,
) -> QuantizedWeights:
    """Round weights symmetrically with one scale per output channel or tensor, and the bias to int32.

    `weights` is [output channels, input channels / groups, ...], `input_means` [input channels]. With
    `reduce_range` scales are as large as it takes for weights of one sign that are multiplied side by side to
    sum up to 128 at most. The bias takes back what rounding the weights adds to an output on average (bias
    correction, section 4.2 of Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
    Correction", 2019).
    """
    wide = weights.astype(np.float64).reshape(len(weights), -1)
    scales = np.abs(wide).max(axis=1, initial=0) / _LARGEST
    depthwise = groups > 1 and weights.shape[1] == 1  # its kernels widen activations anyway
    if reduce_range and not depthwise:
        scales = np.maximum(scales, _largest_pairs(weights.astype(np.float64)) / _LARGEST_PAIR)
    scales = np.maximum(scales, scales.max(initial=0) * _SMALLEST_SHARE)
    # A channel of tiny weights and a large bias needs coarser units for the bias to fit.
    scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / (input_scale * _LARGEST_BIAS))
    scales = scales.max(initial=0) if per_tensor else scales
    scales = (
        np.where(scales > 0, np.maximum(scales, _SMALLEST_UNIT / min(input_scale, 1)), 1.0)
        .astype(np.float32)
        .astype(np.float64)
    )
    steps = scales[..., np.newaxis]
    rounded = np.clip(np.rint(wide / steps), -_LARGEST, _LARGEST)
    shift = _mean_shift((rounded * steps - wide).reshape(weights.shape), input_means, groups)
    units = input_scale * scales
    limit = 2 * _LARGEST_BIAS - 1
    return QuantizedWeights(
        weights=rounded.astype(np.int8).reshape(weights.shape),
        weight_scales=scales.astype(np.float32),
        bias=np.clip(np.rint((bias - shift) / units), -limit, limit).astype(np.int32),
        bias_scales=units.astype(np.float32),
    )


def _largest_pairs(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest sum of two neighbours of one sign, by output channel.

    Neighbours are those of a row of the window, channel by channel, and of a pixel: kernels read either.
    """
    pixels = np.moveaxis(weights, 1, -1)
    largest = np.zeros(len(weights))
    for runs in (pixels, pixels.reshape(*pixels.shape[: max(1, pixels.ndim - 2)], -1)):
        odd = runs.shape[-1] % 2
        pairs = np.pad(runs, [(0, 0)] * (runs.ndim - 1) + [(0, odd)]).reshape(len(weights), -1, 2)
        for sign in (1, -1):
            sums = (sign * pairs).clip(0).sum(axis=2)
            largest = np.maximum(largest, sums.max(axis=1, initial=0))
    return largest


def _mean_shift(
    errors: NDArray[np.float64], input_means: NDArray[np.float64], groups: int
) -> NDArray[np.float64]:
    """Return what weight errors add to the mean of every output channel (borders taken like the inside)."""
    per_input = errors.reshape(groups, len(errors) // groups, errors.shape[1], -1).sum(axis=3)
    shift: NDArray[np.float64] = (per_input * input_means.reshape(groups, 1, -1)).sum(axis=2)
    return shift.reshape(-1)


def quantize_rows(weights: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round [1, outputs, inputs] symmetrically, each output with a scale of its own; return both."""
    wide = weights.astype(np.float64)
    scales = np.abs(wide).max(axis=(0, 2), initial=0) / _LARGEST
    scales = np.maximum(scales, scales.max(initial=0) * _SMALLEST_SHARE)
    steps = np.where(scales > 0, np.maximum(scales, _SMALLEST_UNIT), 1.0).astype(np.float32)
    rounded = np.clip(np.rint(wide / steps.astype(np.float64)[:, np.newaxis]), -_LARGEST, _LARGEST)
    return rounded.astype(np.int8), steps


def quantize_operand(array: Array) -> tuple[Array, Quantization]:
    """Round the constant operand of an addition or multiplication to codes, one scale for the tensor."""
    chosen = quantization(float(array.min()), float(array.max()))
    rounded = np.rint(array.astype(np.float64) / chosen.scale) + chosen.zero_point
    return np.clip(rounded, chosen.lowest, chosen.highest).astype(chosen.dtype), chosen
