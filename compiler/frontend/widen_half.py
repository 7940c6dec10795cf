"""float16 is a way to store a network: it is computed in float32, which has every number of it."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import add_initializer, add_node

HALF, FLOAT = onnx_ir.DataType.FLOAT16, onnx_ir.DataType.FLOAT

_TYPE_ATTRIBUTES = ("dtype", "output_dtype", "softmax_precision", "to")
"""Integers that say which type a node computes."""


def widen_half(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with float32 wherever it has float16, but for its inputs and outputs.

    x[float16], y = Conv(x, w[float16]) --> y = Cast(Conv(Cast(x, float32), w[float32]), float16)

    What it made it leaves as it is: a bundle's model is read again.
    """
    model = model.clone()
    graph = model.graph
    ends = {node for node in graph if _is_end(node)}
    for node in (node for node in graph.all_nodes() if node not in ends):
        for attribute in list(node.attributes.values()):
            if (changed := _widened(attribute)) is not None:
                node.attributes.add(changed)
    for value in list(graph.initializers.values()):
        if value.dtype == HALF and value.const_value is not None:
            wide = add_initializer(graph, f"{value.name}_float", value.const_value.numpy().astype(np.float32))
            for node, index in value.uses():
                node.replace_input_with(index, wide)
            if not value.is_graph_output():
                graph.initializers.pop(str(value.name))
    _cast_outputs(graph, ends)
    for node in graph.all_nodes():
        for output in node.outputs:
            if output.dtype == HALF and not output.is_graph_output():
                output.dtype = FLOAT
    _cast_inputs(graph)
    return model


def holds_half(model: onnx_ir.Model) -> bool:
    """Whether any value of a model is float16."""
    values = onnx_ir.convenience.create_value_mapping(model.graph).values()
    return any(value.dtype == HALF for value in values)


def _widened(attribute: onnx_ir.Attr) -> onnx_ir.Attr | None:
    if attribute.type == onnx_ir.AttributeType.INT and attribute.name in _TYPE_ATTRIBUTES:
        return onnx_ir.AttrInt64(attribute.name, FLOAT.value) if attribute.value == HALF.value else None
    if attribute.type == onnx_ir.AttributeType.TENSOR and attribute.value.dtype == HALF:
        return onnx_ir.AttrTensor(attribute.name, onnx_ir.tensor(attribute.value.numpy().astype(np.float32)))
    return None


def _is_end(node: onnx_ir.Node) -> bool:
    """Whether a node makes an output of the model float16 that was float32 until then."""
    source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
    if node.op_type != "Cast" or node.domain or source is None:
        return False
    return source.dtype == FLOAT and result.dtype == HALF and result.is_graph_output()


def _cast_outputs(graph: onnx_ir.Graph, ends: set[onnx_ir.Node]) -> None:
    for index, value in enumerate(list(graph.outputs)):
        producer = value.producer()
        if value.dtype != HALF or producer is None or producer in ends:
            continue  # an input or a constant is handed on as it is
        name, shape = str(value.name), value.shape
        value.name, value.dtype = f"{name}_float", FLOAT
        cast = onnx_ir.node("Cast", [value], {"to": HALF.value}, outputs=[onnx_ir.val(name, HALF, shape)])
        cast.name = f"{name}_cast"
        graph.append(cast)
        graph.outputs[index] = cast.outputs[0]


def _cast_inputs(graph: onnx_ir.Graph) -> None:
    for value in graph.inputs:
        readers = [use for use in value.uses() if not _widens(use.node)] if value.dtype == HALF else []
        if not readers:
            continue
        first = next(node for node in graph if any(use.node is node for use in readers))
        cast = add_node(first, "Cast", [value], {"to": FLOAT.value}, f"{value.name}_cast", value.shape, FLOAT)
        for node, index in readers:
            node.replace_input_with(index, cast)


def _widens(node: onnx_ir.Node) -> bool:
    to = node.attributes.get("to")
    return node.op_type == "Cast" and not node.domain and to is not None and to.value == FLOAT.value
