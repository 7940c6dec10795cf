"""Quantize what lies between an operator and the QuantizeLinear that its result reaches by other ones.

Some tools quantize what products read, and what they give only behind a function, an addition or a
concatenation. An integer layer ends in codes: here it gets a scale for them, which loses little of what shows
in the codes at the end.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import onnx_ir

from edgec.compiler.graph import add_initializer, only_consumer
from edgec.compiler.model import has_qdq
from edgec.compiler.operators.attention import inner_nodes
from edgec.compiler.operators.constants import known
from edgec.compiler.operators.nodes import clamps, evaluate, moves, operand, row_of
from edgec.compiler.operators.product_form import bias_of, output_axis
from edgec.compiler.operators.row import OnnxOperator
from edgec.compiler.operators.scales import parameters
from edgec.kernels.operations import Quantization

_MOST_LOST = 2.0
"""Steps of the result that a scale in between may cost; where it would be more, the node stays in float."""

_GRID = 1 << 16
"""Numbers at which functions are looked at."""

_NEAR, _FAR = 16.0, 128.0
"""Functions are looked at closely up to here, and as many times as far as their results are quantized."""


@dataclass(frozen=True)
class _Window:
    """What of a value shows in the end: all below `low` looks like `low`, and all above `high` like it."""

    low: float
    high: float
    lost: float
    """Steps of the result in the end that a step of one in this value makes, at most."""
    same: Quantization | None = None
    """The scale that the value is quantized with, where nothing but movement lies between."""


def quantize_between(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return a quantized model with QuantizeLinear and DequantizeLinear where integer layers lack them.

    QuantizeLinear(Sigmoid(Conv(q)))           --> QuantizeLinear(Sigmoid(DQ(Q(Conv(q)))))
    QuantizeLinear(Add(Conv(q), r))            --> QuantizeLinear(Add(DQ(Q(Conv(q))), r))
    QuantizeLinear(v) and other readers of v   --> all read DQ(Q(v))

    A result in the end differs by two steps at most for each such scale, by nothing behind movement, MaxPool
    and concatenation. What is never quantized, or isn't computed of quantized tensors, stays as it is.
    """
    if not has_qdq(model.graph):
        return model
    model = model.clone()
    graph = model.graph
    integers = _integers(graph)
    values = [node.outputs[0] for node in graph if node.outputs and node.outputs[0] in integers]
    values = [value for value in values if _affine(value) is None and not value.is_graph_output()]
    inside = inner_nodes(graph)  # attention's scores stay within it
    values = [value for value in values if value.producer() not in inside]
    for value in values:
        if (shared := _shared(value)) is not None and _ends_layer(value):
            _quantize(value, shared)
    for value in reversed(values):  # what is quantized behind says what shows of what is in front
        if _is_cut(value) and (window := _window(value)) is not None:
            _quantize(value, window.same or _carried(value) or _quantization(_reached(value, window)))
    return model


def _integers(graph: onnx_ir.Graph) -> set[onnx_ir.Value]:
    """Return the values that integers could compute, were every layer's result quantized."""
    found: set[onnx_ir.Value] = set()
    for node in graph:
        row = row_of(node)
        if node.op_type == "DequantizeLinear" and parameters(node) is not None:
            found.update(node.outputs)
        elif moves(node):
            found.update(node.outputs if node.inputs[0] in found else ())
        elif row is not None and row.integer is not None and row.refuses(node) is None:
            sources = [reader.inputs[index] for reader, index in row.inputs(node)]
            if all(source in found for source in sources) and _is_accepted(node, row, sources):
                found.add(node.outputs[0])
        elif (index := operand(node)) is not None and node.inputs[index] in found:
            found.add(node.outputs[0])
    return found


def _is_accepted(node: onnx_ir.Node, row: OnnxOperator, sources: list[onnx_ir.Value | None]) -> bool:
    """Whether a row's integer form takes a node, as far as its inputs are quantized already."""
    given = tuple(_affine(source) for source in sources if source is not None)
    known_ones = tuple(one for one in given if one is not None)
    if len(known_ones) < len(given):
        return row.role != "product"  # its sums may depend on them
    assert row.integer is not None, "the caller saw it"
    return row.integer.refuses(node, known_ones) is None


def _affine(value: onnx_ir.Value | None) -> Quantization | None:
    """Return how a value is quantized that is dequantized and moved, None for any other."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "DequantizeLinear":
            return parameters(node)
        if not moves(node):
            return None
        value = node.inputs[0]
    return None


def _carried(value: onnx_ir.Value) -> Quantization | None:
    """Return the one quantization of all that a concatenation puts together: it has no other numbers."""
    node = value.producer()
    if node is None or node.op_type != "Concat":
        return None
    found = {_affine(part) for part in node.inputs}
    return found.pop() if len(found) == 1 else None


def _is_layer(node: onnx_ir.Node | None) -> bool:
    row = row_of(node) if node is not None else None
    return row is not None and row.integer is not None and not row.integer.keeps_scale


def _ends_layer(value: onnx_ir.Value) -> bool:
    """Whether a value is a layer's result behind all that clamps it."""
    node = value.producer()
    while node is not None and clamps(node) and node.inputs[0] is not None:
        if only_consumer(node.inputs[0]) is None:
            return False
        node = node.inputs[0].producer()
    return _is_layer(node)


def _shared(value: onnx_ir.Value) -> Quantization | None:
    """Return the coarsest scale of those that a value of several readers is quantized with."""
    if only_consumer(value) is not None:
        return None
    scales = [parameters(use.node) for use in value.uses() if use.node.op_type == "QuantizeLinear"]
    return max((one for one in scales if one is not None), key=lambda one: one.scale, default=None)


def _is_cut(value: onnx_ir.Value) -> bool:
    """Whether a value must be quantized for its reader or its own layer to run in integers."""
    reader = only_consumer(value)
    if reader is None or reader.op_type == "QuantizeLinear":
        return False
    row = row_of(reader)
    if (
        row is not None
        and row.integer is not None
        and any(node.inputs[index] is value for node, index in row.inputs(reader))
    ):
        return operand(reader) is None
    ends = _ends_layer(value) and not clamps(reader)
    return ends and operand(reader) is not None


def _window(value: onnx_ir.Value) -> _Window | None:
    """Return what of a value shows in the codes that are computed of it, None where no codes are."""
    reader = only_consumer(value)
    if reader is None or reader.domain:
        return None
    if reader.op_type == "QuantizeLinear":
        given = parameters(reader)
        if given is None:
            return None
        return _Window(*_range(given), 1 / given.scale, given)
    behind = _window(reader.outputs[0]) if len(reader.outputs) == 1 else None
    row = row_of(reader)
    if behind is None or row is None:
        return None
    if moves(reader) or reader.op_type == "Concat" or (row.integer is not None and row.integer.keeps_scale):
        return behind
    if operand(reader) is not None:
        return _through(reader, behind)
    return _beside(reader, value, behind) if reader.op_type == "Add" else None


def _through(node: onnx_ir.Node, behind: _Window) -> _Window | None:
    """Return what of a function's argument shows in its result."""
    far = _FAR * max(abs(behind.low), abs(behind.high), 1.0)
    x = np.unique(np.concatenate([np.linspace(-far, far, _GRID), np.linspace(-_NEAR, _NEAR, _GRID)]))
    y = np.nan_to_num(evaluate(node, x), nan=behind.low)
    steps = np.clip(y, behind.low, behind.high) * behind.lost
    (shown,) = np.nonzero(np.abs(steps - steps[0]) >= 0.5)
    (hidden,) = np.nonzero(np.abs(steps - steps[-1]) >= 0.5)
    if not shown.size or not hidden.size:
        return None
    first, last = max(int(shown[0]) - 1, 0), min(int(hidden[-1]) + 1, len(x) - 1)
    inside = slice(first, last + 1)
    slopes = np.abs(np.diff(steps[inside])) / np.diff(x[inside])
    return _Window(float(x[first]), float(x[last]), float(slopes.max(initial=0.0)))


def _beside(node: onnx_ir.Node, value: onnx_ir.Value, behind: _Window) -> _Window | None:
    """Return what of one summand shows in a sum: what the other can't take out of its range."""
    others = [other for other in node.inputs if other is not value]
    if len(others) != 1:
        return None
    given, array = _affine(others[0]), known(others[0]) if others[0] is not None else None
    if given is not None:
        low, high = _range(given)
    elif array is not None and array.size:
        low, high = float(array.min()), float(array.max())
    else:
        return None
    return _Window(behind.low - high, behind.high - low, behind.lost)


def _reached(value: onnx_ir.Value, window: _Window) -> _Window:
    """Return the part of a window that a product reaches, from its weights and its input's range."""
    node = value.producer()
    row = row_of(node) if node is not None else None
    if node is None or row is None or row.role != "product":
        return window
    given, weights = _affine(node.inputs[0]), known(node.inputs[1])
    if given is None or weights is None:
        return window
    axis = output_axis(node)
    rows = np.moveaxis(weights.astype(np.float64), axis, 0).reshape(weights.shape[axis], -1)
    bias, (low, high) = bias_of(node, len(rows)), _range(given)
    if bias is None:
        return window
    up, down = rows.clip(0, None).sum(axis=1), rows.clip(None, 0).sum(axis=1)
    least, most = (up * low + down * high + bias).min(), (up * high + down * low + bias).max()
    return replace(window, low=max(window.low, float(least)), high=min(window.high, float(most)))


def _range(quantization: Quantization) -> tuple[float, float]:
    """Return the least and the largest number that has a code."""
    low, high = ((code - quantization.zero_point) * quantization.scale for code in (-128, 127))
    return low, high


def _quantization(window: _Window) -> Quantization | None:
    """Return the scale that covers a window, None where a step of it is too coarse."""
    low, high = min(window.low, 0.0), max(window.high, 0.0)
    scale = float(np.float32((high - low) / 255))
    if not 0 < scale < np.inf or window.lost * scale / 2 > _MOST_LOST:
        return None
    return Quantization(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def _quantize(value: onnx_ir.Value, quantization: Quantization | None) -> None:
    """Let every reader of a value read it quantized."""
    node = value.producer()
    if quantization is None or node is None:
        return
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph)
    stem = f"{node.name}_between"
    inputs = [
        add_initializer(graph, f"{stem}_scale", np.array(quantization.scale, np.float32)),
        add_initializer(graph, f"{stem}_zero_point", np.array(quantization.zero_point, np.int8)),
    ]
    made = [value]
    for operator, dtype in (("QuantizeLinear", onnx_ir.DataType.INT8), ("DequantizeLinear", value.dtype)):
        made.append(onnx_ir.val(f"{value.name}_{operator}", dtype, value.shape))
    nodes = [
        onnx_ir.node(operator, [source, *inputs], {}, outputs=[output], name=f"{stem}_{operator}")
        for operator, (source, output) in zip(
            ("QuantizeLinear", "DequantizeLinear"), pairwise(made), strict=True
        )
    ]
    uses = list(value.uses())
    graph.insert_after(node, nodes)
    for use in uses:
        if use.node is not nodes[0]:
            use.node.replace_input_with(use.idx, made[-1])
