"""Convolutions and matrix products by constant weights, as Conv2d."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.graph import attribute, constant
from edgec.compiler.operators import view, window
from edgec.compiler.operators.builder import Builder, Codes
from edgec.compiler.operators.product_form import bias_of, output_axis
from edgec.compiler.operators.row import Request, emit
from edgec.kernels.operations import Conv2d, Quantization

_DTYPES = ("int8", "uint8", "int4", "uint4")
LARGEST_SUM = 2**31 - 1
REACH = 255 + 256
"""The largest factor that an activation is: less its zero point at most 255, and kernels that multiply
unsigned bytes add 128 to both before they fold the zero point into the bias."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Quantized weights, less their zero point."""

    integers: NDArray[np.int8] | NDArray[np.int16]
    """Output channels first; int8 where they fit."""
    scales: NDArray[np.float64]
    """[output channels]."""


def quantized(value: onnx_ir.Value | None, axis: int) -> Weights | None:
    """Return what DequantizeLinear(constant) is, scaled per output channel, those of `axis`; else None."""
    dequantize = value.producer() if value is not None else None
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or dequantize.domain:
        return None
    integers, scales, zero_points = (constant(part) for part in (*dequantize.inputs, None)[:3])
    if integers is None or scales is None or integers.dtype.name not in _DTYPES or scales.ndim > 1:
        return None
    if zero_points is None:
        if len(dequantize.inputs) > 2 and dequantize.inputs[2] is not None:
            return None
        zero_points = np.zeros(1, np.int8)
    if scales.size > 1 and attribute(dequantize, "axis", 1) % integers.ndim != axis:
        return None
    channels = integers.shape[axis]
    rows = np.moveaxis(integers, axis, 0).astype(np.int16)
    along = (-1, *[1] * (rows.ndim - 1))
    wide = rows - np.broadcast_to(zero_points.astype(np.int16).reshape(-1), channels).reshape(along)
    # -128 is kept out of int8: some instruction sets are exact without it only, and int16 always is.
    fits = np.abs(wide).max(initial=0) <= 127
    steps = np.broadcast_to(scales.astype(np.float64).reshape(-1), channels)
    return Weights(wide.astype(np.int8) if fits else wide, steps)


def _weights(node: onnx_ir.Node) -> Weights | None:
    """Return the weights of a product, None where they have another form."""
    return quantized(node.inputs[1], output_axis(node))


def _steps(weights: Weights, source: Quantization, bias: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what one step of each output channel's sum stands for: input scale * weight scale.

    A channel whose weights are all zero may have any scale; its sum is the bias alone, given all the digits
    that float32 has. With one scale for the tensor it has the others' step, if that gives it no more digits.
    """
    dead = ~weights.integers.reshape(len(weights.integers), -1).any(axis=1)
    steps, finest = source.scale * weights.scales, np.abs(bias) / 2**23
    if not dead.all() and (steps == steps[0]).all():
        dead &= steps < finest
    return np.where(dead & (bias != 0), finest, steps)


def refuses(node: onnx_ir.Node, sources: tuple[Quantization, ...]) -> str | None:
    """Return why a product has no integer form, its own form left aside; None if it has one."""
    weights = _weights(node)
    if weights is None:
        return "its weights aren't int8 constants with one scale, or one per output channel"
    bias = bias_of(node, len(weights.integers))
    assert bias is not None, "the row's refuses() saw it"
    rows = np.abs(weights.integers.reshape(len(weights.integers), -1).astype(np.int64))
    largest = np.abs(np.rint(bias / _steps(weights, sources[0], bias))) + REACH * rows.sum(axis=1)
    return "its sums may leave int32" if largest.max(initial=0) > LARGEST_SUM else None


def _product(request: Request, weights: Weights, kernel: Array, **geometry: Any) -> Conv2d:
    """Return the operation; `kernel` are the weights as [outputs, kernel height, kernel width, inputs]."""
    source, output = request.sources[0], request.output
    bias = bias_of(request.node, len(kernel))
    assert bias is not None, "refuses() saw it"
    steps = _steps(weights, source, bias)
    return Conv2d(
        weights=np.ascontiguousarray(kernel), bias=np.rint(bias / steps).astype(np.int32),
        multiplier=(steps / output.scale).astype(np.float32),
        input_zero_point=source.zero_point, output_zero_point=output.zero_point,
        low=request.low, high=request.high, dtype=output.dtype, **geometry,
    )  # fmt: skip


def conv(builder: Builder, request: Request) -> Codes:
    """Convolve an image or, one-dimensional, an image of one row."""
    weights = _weights(request.node)
    assert weights is not None, "refuses() saw them"
    source = window.image(builder, request.inputs[0], request.name)
    n, c, h, w = source.view.shape
    place = window.window(request.node, weights.integers.shape[2:])
    outputs, per_group = weights.integers.shape[:2]
    kernel = weights.integers.reshape(outputs, per_group, *place.kernel)
    operation = _product(
        request, weights, kernel.transpose(0, 2, 3, 1), input_shape=(n, h, w, c), strides=place.strides,
        pads=place.pads, dilations=place.dilations, groups=attribute(request.node, "group", 1),
    )  # fmt: skip
    return emit(builder, request, operation, (source.tensor,), window.result(request.shape))


def matrix_product(builder: Builder, request: Request) -> Codes:
    """Multiply rows by a matrix, as a convolution of pixels."""
    weights = _weights(request.node)
    assert weights is not None, "refuses() saw them"
    source = builder.row_major(request.inputs[0], request.name)
    *rows, inputs = source.view.shape
    operation = _product(
        request, weights, weights.integers[:, None, None, :], input_shape=(1, 1, math.prod(rows), inputs)
    )
    return emit(builder, request, operation, (source.tensor,), view.row_major(request.shape))
