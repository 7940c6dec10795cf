"""Float kernels for the layers of models that aren't quantized."""

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import attribute
from edgec.compiler.operators import arrangement, binary, pooling, view, window
from edgec.compiler.operators.builder import Builder, Seen
from edgec.compiler.operators.constants import known
from edgec.compiler.operators.product_form import bias_of, output_axis
from edgec.compiler.operators.row import FloatRequest
from edgec.compiler.operators.row import emit_float as emit
from edgec.kernels.operations import (
    BinaryKind,
    Concat,
    FloatAveragePool,
    FloatBinary,
    FloatConv2d,
    FloatMean,
    MaxPool,
    Pad,
)


def conv(builder: Builder, request: FloatRequest) -> Seen:
    """Convolve an image or, one-dimensional, an image of one row."""
    node = request.node
    weights = _weights(node)
    source = window.image(builder, request.inputs[0], request.name)
    n, c, h, w = source.view.shape
    place = window.window(node, weights.shape[2:])
    kernel = weights.reshape(*weights.shape[:2], *place.kernel).transpose(0, 2, 3, 1)
    bias = _bias(node, len(weights))
    operation = FloatConv2d(
        (n, h, w, c), np.ascontiguousarray(kernel), bias, request.low, request.high, place.strides,
        place.pads, place.dilations, attribute(node, "group", 1),
    )  # fmt: skip
    return emit(builder, request, operation, (source.tensor,), window.result(request.shape))


def _weights(node: onnx_ir.Node) -> NDArray[np.float32]:
    weights = known(node.inputs[1]) if node.inputs[1] is not None else None
    assert weights is not None, "refuses() saw them"
    return weights.astype(np.float32)


def _bias(node: onnx_ir.Node, channels: int) -> NDArray[np.float32]:
    bias = bias_of(node, channels)
    assert bias is not None, "refuses() saw it"
    return bias.astype(np.float32)


def gemm(builder: Builder, request: FloatRequest) -> Seen:
    """Multiply rows by a matrix, as a convolution of pixels."""
    weights = _weights(request.node)
    if output_axis(request.node) == 1:
        weights = np.ascontiguousarray(weights.T)
    bias = _bias(request.node, len(weights))
    source = builder.row_major(request.inputs[0], request.name)
    rows, inputs = source.view.shape
    operation = FloatConv2d(
        (1, 1, rows, inputs),
        weights[:, np.newaxis, np.newaxis],
        bias,
        request.low,
        request.high,
    )
    return emit(builder, request, operation, (source.tensor,), view.row_major(request.shape))


def arithmetic(kind: BinaryKind, builder: Builder, request: FloatRequest) -> Seen:
    """Combine two tensors."""
    shape = request.shape
    order = binary.result_order(request.inputs, shape)
    whole = view.ordered(shape, order)
    a, b = (
        builder.arranged(value, whole, request.name)  # one copy, where strides would be read one by one
        if value.view.shape == shape
        else binary.operand(builder, value, order, request.name)
        for value in request.inputs
    )
    one, two = (view.broadcast_strides(value.view, shape) for value in (a, b))
    operation = FloatBinary(
        kind,
        tuple(shape[axis] for axis in order),
        (tuple(one[axis] for axis in order), tuple(two[axis] for axis in order)),
        request.low, request.high,
    )  # fmt: skip
    return emit(builder, request, operation, (a.tensor, b.tensor), whole)


def max_pool(builder: Builder, request: FloatRequest) -> Seen:
    """Take the maximum over windows."""
    source, geometry = pooling.pooled(builder, request.node, request.inputs[0])
    operation = MaxPool(**geometry, dtype="float32", dilations=pooling.dilations(request.node))
    return emit(builder, request, operation, (source.tensor,), window.result(request.shape))


def average_pool(builder: Builder, request: FloatRequest) -> Seen:
    """Average over windows, as a mean where one covers the image."""
    if pooling.covers_image(request.node):
        return mean(builder, request)
    source, geometry = pooling.pooled(builder, request.node, request.inputs[0])
    counts = pooling.window_counts(request.node, geometry)
    operation = FloatAveragePool(
        **geometry, multiplier=(1 / counts).astype(np.float32), low=request.low, high=request.high
    )
    return emit(builder, request, operation, (source.tensor,), window.result(request.shape))


def mean(builder: Builder, request: FloatRequest) -> Seen:
    """Average over whole dimensions."""
    given = pooling.averaged(builder, request.node, request.inputs[0])
    operation = FloatMean(given.outer, given.reduced, given.inner, request.low, request.high)
    return emit(builder, request, operation, (given.source.tensor,), given.result)


def concat(builder: Builder, request: FloatRequest) -> Seen:
    """Concatenate tensors."""
    parts = [builder.natural(value, request.name) for value in request.inputs]
    outer, inner = arrangement.runs(request.node, [part.view.shape for part in parts])
    operation = Concat(outer, inner, (None,) * len(parts), "float32")
    tensors = tuple(part.tensor for part in parts)
    return emit(builder, request, operation, tensors, view.natural(request.shape))


def pad(builder: Builder, request: FloatRequest) -> Seen:
    """Pad with a number."""
    source = builder.natural(request.inputs[0], request.name)
    shape = source.view.shape
    pads, filling = arrangement.padding(request.node, len(shape))
    order = view.natural_order(len(shape))
    operation = Pad(tuple(shape[axis] for axis in order), pads, filling, "float32")
    return emit(builder, request, operation, (source.tensor,), view.natural(request.shape))
