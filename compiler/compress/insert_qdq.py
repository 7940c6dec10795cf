"""Write a quantized model as plain ONNX: QuantizeLinear and DequantizeLinear around float operators."""

from collections.abc import Mapping

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgec.arrays import Array
from edgec.compiler.compress.int8_regions import Unit, units
from edgec.compiler.compress.policy import dense
from edgec.compiler.compress.scales import tensors
from edgec.compiler.compress.weights import quantize_operand, quantize_rows, quantize_weights
from edgec.compiler.graph import add_initializer, attribute, constant, unique, value_names
from edgec.compiler.operators.product_form import bias_of
from edgec.compiler.operators.recurrent import CELL_FRACTION
from edgec.kernels.operations import Quantization


def insert_qdq(
    model: onnx_ir.Model,
    scales: Mapping[str, Quantization],
    means: Mapping[str, NDArray[np.float64]],
    fractions: Mapping[str, int],
    reduce_range: bool,
    dense_per_tensor: bool,
) -> onnx_ir.Model:
    """Return the model with every int8 tensor, weight and bias in integers.

    `scales` has every int8 tensor by name, `means` the channel means of what Conv and Gemm read, `fractions`
    the bits of every LSTM's cell behind the point, by the node's name. `reduce_range` is as in
    `quantize_weights`. With `dense_per_tensor` dense layers have one scale for all their weights.

    Relu(Conv(x, weights, bias)) -->
    DQ(Q(Relu(Conv(DQ(Q(x)), DQ(int8 weights, axis=0), DQ(int32 bias, axis=0)))))
    """
    model = model.clone()
    graph = model.graph
    found = units(graph)
    for unit in found:
        if unit.role == "product":
            name = str(unit.inputs[0].name)
            per_tensor = dense_per_tensor and dense(unit.node)
            _quantize_product(graph, unit, scales[name], means[name], reduce_range, per_tensor)
        elif unit.role == "recurrent":
            _quantize_recurrent(graph, unit, fractions)
        elif unit.role in ("bilinear", "binary"):
            _quantize_operand(graph, unit)
    results = {value for unit in found for value in unit.outputs}
    int8_nodes = {node for unit in found for node in (unit.node, *unit.inner)}
    for value in tensors(found):
        _quantize_tensor(graph, value, scales[str(value.name)], None if value in results else int8_nodes)
    RemoveUnusedNodesPass()(model)
    return model


def _quantize_product(
    graph: onnx_ir.Graph,
    unit: Unit,
    source: Quantization,
    means: NDArray[np.float64],
    reduce_range: bool,
    per_tensor: bool,
) -> None:
    """Put int8 weights and an int32 bias in the place of float constants, or of no bias."""
    node = unit.node
    weights, groups = constant(node.inputs[1]), attribute(node, "group", 1)
    assert weights is not None, "the operator's row refuses others"
    bias = bias_of(node, len(weights))
    assert bias is not None, "the operator's row refuses others"
    integers = quantize_weights(weights, bias, source.scale, means, groups, reduce_range, per_tensor)
    node.resize_inputs(3)
    zero_points = np.zeros(integers.weight_scales.shape, np.int8)
    _replace_constant(graph, node, 1, "weights", integers.weights, integers.weight_scales, zero_points)
    _replace_constant(graph, node, 2, "bias", integers.bias, integers.bias_scales, None)


def _quantize_recurrent(graph: onnx_ir.Graph, unit: Unit, fractions: Mapping[str, int]) -> None:
    """Put int8 weights in the place of a recurrent layer's, and say what its cell reaches.

    Biases stay as they are: a step of the sums rounds them.
    """
    node = unit.node
    for index, role in ((1, "weights"), (2, "recurrent_weights")):
        weights = constant(node.inputs[index])
        assert weights is not None, "the operator's row refuses others"
        integers, scales = quantize_rows(weights)
        zero_points = np.zeros(scales.shape, np.int8)
        _replace_constant(graph, node, index, role, integers, scales, zero_points, axis=1)
    for reader, index in unit.row.inputs(node):
        _quantize_constant(graph, reader, index)
    if (fraction := fractions.get(str(node.name))) is not None:
        node.metadata_props[CELL_FRACTION] = str(fraction)


def _quantize_operand(graph: onnx_ir.Graph, unit: Unit) -> None:
    """Put an int8 tensor in the place of a constant operand of an addition or a multiplication."""
    own = ((unit.node, index) for index in range(len(unit.node.inputs)))
    for reader, index in dict.fromkeys((*unit.row.inputs(unit.node), *own)):
        _quantize_constant(graph, reader, index)


def _quantize_constant(graph: onnx_ir.Graph, reader: onnx_ir.Node, index: int) -> None:
    """Put an int8 tensor in the place of an input, where that is constant."""
    array = constant(reader.inputs[index])
    if array is not None:
        integers, chosen = quantize_operand(array)
        scale, zero_point = np.array(chosen.scale, np.float32), np.array(chosen.zero_point, chosen.dtype)
        _replace_constant(graph, reader, index, "operand", integers, scale, zero_point)


def _replace_constant(
    graph: onnx_ir.Graph,
    node: onnx_ir.Node,
    index: int,
    role: str,
    integers: Array,
    scale: NDArray[np.float32],
    zero_point: Array | None,
    axis: int = 0,
) -> None:
    """Let a node read DequantizeLinear(integers); scales of one dimension are per element of an axis."""
    name = f"{node.name}_{role}"
    inputs = [
        add_initializer(graph, f"{name}_quantized", integers),
        add_initializer(graph, f"{name}_scale", scale),
    ]
    if zero_point is not None:
        inputs.append(add_initializer(graph, f"{name}_zero_point", zero_point))
    output = _float(unique(f"{name}_dequantized", value_names(graph)), integers.shape)
    attributes = {"axis": axis} if scale.ndim else {}
    graph.insert_before(
        node,
        onnx_ir.node("DequantizeLinear", inputs, attributes, outputs=[output], name=f"{name}_dequantize"),
    )
    node.replace_input_with(index, output)


def _quantize_tensor(
    graph: onnx_ir.Graph, value: onnx_ir.Value, chosen: Quantization, readers: set[onnx_ir.Node] | None
) -> None:
    """Put a QuantizeLinear and DequantizeLinear pair behind `value`, for `readers` or, if None, for all."""
    name, taken, uses = str(value.name), value_names(graph), tuple(value.uses())
    producer, shape = value.producer(), value.shape
    assert shape is not None, "units() takes values of known shape only"
    scale = add_initializer(graph, f"{name}_scale", np.array(chosen.scale, np.float32))
    zero_point = add_initializer(graph, f"{name}_zero_point", np.array(chosen.zero_point, chosen.dtype))
    integers = onnx_ir.val(unique(f"{name}_quantized", taken), onnx_ir.DataType[chosen.dtype.upper()], shape)
    output = _float(unique(f"{name}_dequantized", taken), shape)
    pair = [
        onnx_ir.node(
            "QuantizeLinear", [value, scale, zero_point], outputs=[integers], name=f"{name}_quantize"
        ),
        onnx_ir.node(
            "DequantizeLinear", [integers, scale, zero_point], outputs=[output], name=f"{name}_dequantize"
        ),
    ]
    if producer is not None:
        graph.insert_after(producer, pair)
    else:
        graph.insert_before(graph[0], pair)
    for usage in uses:
        if readers is None or usage.node in readers:
            usage.node.replace_input_with(usage.idx, output)
    if readers is None and value.is_graph_output():
        value.name, output.name = unique(f"{name}_float", taken), name
        for index, graph_output in enumerate(graph.outputs):
            if graph_output is value:
                graph.outputs[index] = output


def _float(name: str, shape: onnx_ir.Shape | tuple[int, ...]) -> onnx_ir.Value:
    """Return a new float32 value."""
    return onnx_ir.val(name, onnx_ir.DataType.FLOAT, shape)
