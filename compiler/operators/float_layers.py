"""The ONNX operators that have a float kernel, for models that aren't quantized."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import attribute, constant
from edgec.compiler.operators import arrangement, binary, pooling, view, window
from edgec.compiler.operators.builder import Builder, Seen
from edgec.compiler.operators.layer import LayerNode, every_input
from edgec.compiler.operators.view import View
from edgec.kernels.operations import (
    Concat,
    FloatAveragePool,
    FloatBinary,
    FloatConv2d,
    FloatMean,
    MaxPool,
    Operation,
    Pad,
)


@dataclass(frozen=True)
class FloatRequest(LayerNode):
    """One layer to lower: a node, its float32 inputs, and the limits that its result is clipped to."""

    inputs: tuple[Seen, ...]
    low: float
    high: float


@dataclass(frozen=True)
class FloatLayer:
    """How one ONNX operator is lowered."""

    lower: Callable[[Builder, FloatRequest], Seen]
    refuses: Callable[[onnx_ir.Node], str | bool | None] = lambda node: None
    """Whether there is no kernel for this node."""
    inputs: Callable[[onnx_ir.Node], tuple[int, ...]] = lambda node: (0,)
    """Which inputs are float tensors."""
    clips: bool = True
    """Whether the operation itself clips to `low` and `high`."""


def _emit(
    builder: Builder, request: FloatRequest, operation: Operation, tensors: tuple[str, ...], seen: View
) -> Seen:
    """Emit an operation whose result lies dense, as `seen` says."""
    order = view.dense_order(seen)
    assert order is not None, "results are dense"
    shape = tuple(seen.shape[axis] for axis in order)
    name = str(request.node.outputs[0].name)
    return Seen(builder.emit(request.name, operation, tensors, shape, None, name, "float32"), seen)


def _bias(node: onnx_ir.Node, channels: int) -> NDArray[np.float32] | None:
    """Return the bias per output channel; None where it is no such constant."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(channels, np.float32)
    bias = constant(node.inputs[2])
    if bias is None or (bias.size != 1 and (bias.size, bias.shape[-1]) != (channels, channels)):
        return None
    return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), channels), np.float32)


def _refuses_product(node: onnx_ir.Node) -> bool:
    """Whether weights or bias aren't constants (normalize_gemm brings a Gemm's to one form)."""
    weights = constant(node.inputs[1])
    if weights is None or weights.dtype != np.float32:
        return True
    other_form = node.op_type == "Gemm" and (
        not attribute(node, "transB", 0)
        or attribute(node, "transA", 0)
        or any(attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta"))
    )
    return other_form or _bias(node, len(weights)) is None


def _conv(builder: Builder, request: FloatRequest) -> Seen:
    node = request.node
    weights = constant(node.inputs[1])
    assert weights is not None, "refuses() saw them"
    source = window.image(builder, request.inputs[0], request.name)
    n, c, h, w = source.view.shape
    place = window.window(node, weights.shape[2:])
    kernel = weights.reshape(*weights.shape[:2], *place.kernel).transpose(0, 2, 3, 1)
    bias = _bias(node, len(weights))
    assert bias is not None, "refuses() saw it"
    operation = FloatConv2d(
        (n, h, w, c), np.ascontiguousarray(kernel), bias, request.low, request.high, place.strides,
        place.pads, place.dilations, attribute(node, "group", 1),
    )  # fmt: skip
    return _emit(builder, request, operation, (source.tensor,), window.result(request.shape))


def _gemm(builder: Builder, request: FloatRequest) -> Seen:
    weights = constant(request.node.inputs[1])
    assert weights is not None, "refuses() saw them"
    bias = _bias(request.node, len(weights))
    assert bias is not None, "refuses() saw it"
    source = builder.row_major(request.inputs[0], request.name)
    rows, inputs = source.view.shape
    operation = FloatConv2d(
        (1, 1, rows, inputs), weights[:, np.newaxis, np.newaxis], bias, request.low, request.high
    )
    return _emit(builder, request, operation, (source.tensor,), view.row_major(request.shape))


def _binary(kind: str, builder: Builder, request: FloatRequest) -> Seen:
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
    return _emit(builder, request, operation, (a.tensor, b.tensor), whole)


def _max_pool(builder: Builder, request: FloatRequest) -> Seen:
    source, geometry = pooling.pooled(builder, request.node, request.inputs[0])
    operation = MaxPool(**geometry, dtype="float32", dilations=pooling.dilations(request.node))
    return _emit(builder, request, operation, (source.tensor,), window.result(request.shape))


def _average_pool(builder: Builder, request: FloatRequest) -> Seen:
    if pooling.covers_image(request.node):
        return _mean(builder, request)
    source, geometry = pooling.pooled(builder, request.node, request.inputs[0])
    counts = pooling.window_counts(request.node, geometry)
    operation = FloatAveragePool(
        **geometry, multiplier=(1 / counts).astype(np.float32), low=request.low, high=request.high
    )
    return _emit(builder, request, operation, (source.tensor,), window.result(request.shape))


def _mean(builder: Builder, request: FloatRequest) -> Seen:
    mean = pooling.averaged(builder, request.node, request.inputs[0])
    operation = FloatMean(mean.outer, mean.reduced, mean.inner, request.low, request.high)
    return _emit(builder, request, operation, (mean.source.tensor,), mean.result)


def _concat(builder: Builder, request: FloatRequest) -> Seen:
    parts = [builder.natural(value, request.name) for value in request.inputs]
    outer, inner = arrangement.runs(request.node, [part.view.shape for part in parts])
    operation = Concat(outer, inner, (None,) * len(parts), "float32")
    tensors = tuple(part.tensor for part in parts)
    return _emit(builder, request, operation, tensors, view.natural(request.shape))


def _pad(builder: Builder, request: FloatRequest) -> Seen:
    source = builder.natural(request.inputs[0], request.name)
    shape = source.view.shape
    pads, filling = arrangement.padding(request.node, len(shape))
    order = view.natural_order(len(shape))
    operation = Pad(tuple(shape[axis] for axis in order), pads, filling, "float32")
    return _emit(builder, request, operation, (source.tensor,), view.natural(request.shape))


def _resize(builder: Builder, request: FloatRequest) -> Seen:
    source = request.inputs[0]
    operation = arrangement.repeated(builder, source, request.shape)
    return _emit(builder, request, operation, (source.tensor,), view.natural(request.shape))


FLOAT_LAYERS: dict[str, FloatLayer] = {
    "Add": FloatLayer(partial(_binary, "add"), inputs=every_input),
    "AveragePool": FloatLayer(_average_pool, pooling.accepts_pool),
    "Concat": FloatLayer(_concat, inputs=every_input, clips=False),
    "Conv": FloatLayer(_conv, lambda node: window.refusal(node) or _refuses_product(node)),
    "Gemm": FloatLayer(_gemm, _refuses_product),
    "GlobalAveragePool": FloatLayer(_mean, pooling.accepts_mean),
    "MaxPool": FloatLayer(_max_pool, pooling.accepts_pool, clips=False),
    "Mul": FloatLayer(partial(_binary, "mul"), inputs=every_input),
    "Pad": FloatLayer(_pad, arrangement.accepts_pad, clips=False),
    "ReduceMean": FloatLayer(_mean, pooling.accepts_mean),
    "Resize": FloatLayer(_resize, arrangement.accepts_resize, clips=False),
}


def has_kernel(node: onnx_ir.Node) -> bool:
    """Whether a node of a float model is computed by a kernel of edgec's own."""
    layer = FLOAT_LAYERS.get(node.op_type)
    if layer is None or node.domain:
        return False
    values = [node.inputs[index] for index in layer.inputs(node)]
    floats = [value is not None and value.dtype == onnx_ir.DataType.FLOAT for value in values]
    return all(floats) and not layer.refuses(node)
