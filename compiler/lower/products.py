"""Convolutions and matrix products by constant weights, as Conv2d."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.lower import view
from edgec.compiler.lower.builder import Builder, Codes
from edgec.compiler.lower.layer import Layer, Request, result
from edgec.kernels.operators import Conv2d


@dataclass(frozen=True, eq=False)
class Weights:
    """Quantized weights, less their zero point: int8 where they fit."""

    integers: NDArray[np.int8] | NDArray[np.int16]
    scales: NDArray[np.float64]
    """[output channels]."""


def weights_of(value: onnx_ir.Value | None, axis: int) -> Weights | None:
    """Return the weights behind DequantizeLinear(constant), output channels along `axis`, or None."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return None
    integers, scales = constant(node.inputs[0]), constant(node.inputs[1])
    if integers is None or scales is None or integers.dtype not in (np.int8, np.uint8) or scales.ndim > 1:
        return None
    if scales.size > 1 and attribute(node, "axis", 1) % integers.ndim != axis:
        return None
    zero_points = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.int8)
    if zero_points is None:
        return None
    along = [-1 if i == axis else 1 for i in range(integers.ndim)]
    wide = integers.astype(np.int16) - zero_points.astype(np.int16).reshape(along if zero_points.size > 1 else ())
    # -128 is kept out of int8: some instruction sets are exact without it only, and int16 always is.
    fits = wide.size == 0 or (wide.min() >= -127 and wide.max() <= 127)
    channels = integers.shape[axis]
    return Weights(
        wide.astype(np.int8) if fits else wide, np.broadcast_to(scales.astype(np.float64).reshape(-1), channels)
    )


def _bias(value: onnx_ir.Value | None, scales: NDArray[np.float64]) -> NDArray[np.int32] | str:
    """Return the bias in steps of `scales`, or why there is none."""
    if value is None:
        return np.zeros(len(scales), np.int32)
    real = constant(value)
    node = value.producer()
    if real is None and node is not None and node.op_type == "DequantizeLinear":
        integers, steps = constant(node.inputs[0]), constant(node.inputs[1])
        if integers is not None and steps is not None:
            zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else None
            offset = 0 if zero_point is None else zero_point.astype(np.float64).reshape(-1)
            real = (integers.astype(np.float64).reshape(-1) - offset) * steps.astype(np.float64).reshape(-1)
    if real is None:
        return "its bias is no constant"
    real = real.astype(np.float64).reshape(-1)
    if real.size not in (1, len(scales)):
        return f"its bias has {real.size} elements for {len(scales)} outputs"
    rounded = np.rint(real / scales)
    if np.abs(rounded).max(initial=0) >= 2**31:
        return "its bias doesn't fit int32 at the scale of its products"
    return np.broadcast_to(rounded, scales.shape).astype(np.int32)


def _accepts_conv(node: onnx_ir.Node) -> str | None:
    shape = shape_of(node.outputs[0])
    if shape is None or len(shape) not in (3, 4):
        return "only 1-D and 2-D convolutions have an integer kernel"
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "auto_pad isn't explicit"
    return _accepts_product(node, 0)


def _accepts_gemm(node: onnx_ir.Node) -> str | None:
    if attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0 or attribute(node, "transA", 0):
        return "alpha, beta and transA have no integer form"
    return _accepts_product(node, _weights_axis(node))


def _weights_axis(node: onnx_ir.Node) -> int:
    """Which axis of a matrix of weights is the outputs'."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def _accepts_product(node: onnx_ir.Node, axis: int) -> str | None:
    weights = weights_of(node.inputs[1], axis)
    if weights is None:
        return "its weights aren't int8 constants with a scale per tensor or per output channel"
    # Any scale does for the question whether the bias is constant; whether it fits is asked when lowering.
    bias = _bias(node.inputs[2] if len(node.inputs) > 2 else None, weights.scales)
    return bias if isinstance(bias, str) and "fit" not in bias else None


def _product(
    builder: Builder, request: Request, tensor: str, weights: Weights, arranged: NDArray[Any], **geometry: Any
) -> tuple[str, Conv2d]:
    """Emit a Conv2d; `arranged` are the weights as [outputs, kernel height, kernel width, inputs]."""
    node, output = request.node, request.output
    products = request.source.scale * weights.scales
    bias = _bias(node.inputs[2] if len(node.inputs) > 2 else None, products)
    if isinstance(bias, str):
        raise ValueError(bias)
    operation = Conv2d(
        weights=np.ascontiguousarray(arranged), bias=bias,
        multiplier=(products / output.scale).astype(np.float32),
        input_zero_point=request.source.zero_point, output_zero_point=output.zero_point,
        low=request.low, high=request.high, **geometry,
    )  # fmt: skip
    shape = operation.output_shape
    name = builder.emit(request.name, operation, (tensor,), shape, output, tensor=str(node.outputs[0].name))
    return name, operation


def _conv(builder: Builder, request: Request) -> Codes:
    node = request.node
    rank = len(request.inputs[0].view.shape)
    weights = weights_of(node.inputs[1], 0)
    assert weights is not None, "accepts() saw them"
    source = request.inputs[0]
    kernel = weights.integers
    strides, dilations = (attribute(node, name, [1] * (rank - 2)) for name in ("strides", "dilations"))
    pads = attribute(node, "pads", [0] * (2 * rank - 4))
    if rank == 3:  # a sequence is an image of one row
        n, c, length = source.view.shape
        image = view.reshape(source.view, (n, c, 1, length))
        assert image is not None, "a dimension of extent 1 fits everywhere"
        source = Codes(source.tensor, image, source.real, source.quantization)
        kernel = kernel[:, :, None]
        strides, dilations, pads = [1, *strides], [1, *dilations], [0, pads[0], 0, pads[1]]
    source = builder.natural(source, request.name)
    n, c, h, w = source.view.shape
    tensor, operation = _product(
        builder, request, source.tensor, weights, kernel.transpose(0, 2, 3, 1), input_shape=(n, h, w, c),
        strides=tuple(strides), pads=tuple(pads), dilations=tuple(dilations),
        groups=attribute(node, "group", 1),
    )  # fmt: skip
    n, oh, ow, outputs = operation.output_shape
    seen = view.natural((n, outputs, oh, ow))
    if rank == 3:
        row = view.reshape(seen, (n, outputs, ow))
        assert row is not None, "a dimension of extent 1 fits everywhere"
        seen = row
    return result(request, tensor, seen)


def _gemm(builder: Builder, request: Request) -> Codes:
    node = request.node
    axis = _weights_axis(node)
    weights = weights_of(node.inputs[1], axis)
    assert weights is not None, "accepts() saw them"
    matrix = weights.integers if axis == 0 else weights.integers.T
    shape = request.inputs[0].view.shape
    source = builder.arranged(request.inputs[0], view.row_major(shape), request.name)
    rows = math.prod(shape[:-1])
    tensor, _ = _product(
        builder, request, source.tensor, weights, matrix[:, None, None, :],
        input_shape=(1, 1, rows, shape[-1]),
    )  # fmt: skip
    return result(request, tensor, view.row_major((*shape[:-1], len(matrix))))


def _accepts_matmul(node: onnx_ir.Node) -> str | None:
    shape = shape_of(node.inputs[1]) if node.inputs[1] is not None else None
    if shape is None or len(shape) != 2:
        return "a product of two activations has no integer kernel"
    return _accepts_product(node, 1)


PRODUCTS = {
    "Conv": Layer(_conv, _accepts_conv),
    "Gemm": Layer(_gemm, _accepts_gemm),
    "MatMul": Layer(_gemm, _accepts_matmul),
}
