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
    """
    model = model.clone()
    graph = model.graph
    for node in graph.all_nodes():
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
    _cast_outputs(graph)
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


def _cast_outputs(graph: onnx_ir.Graph) -> None:
    for index, value in enumerate(list(graph.outputs)):
        if value.dtype != HALF or value.producer() is None:
            continue  # an input or a constant is handed on as it is
        name, shape = str(value.name), value.shape
        value.name, value.dtype = f"{name}_float", FLOAT
        cast = onnx_ir.node("Cast", [value], {"to": HALF.value}, outputs=[onnx_ir.val(name, HALF, shape)])
        cast.name = f"{name}_cast"
        graph.append(cast)
        graph.outputs[index] = cast.outputs[0]


def _cast_inputs(graph: onnx_ir.Graph) -> None:
    for value in graph.inputs:
        if value.dtype != HALF or not value.uses():
            continue
        first = next(node for node in graph if value in node.inputs)
        readers = tuple(value.uses())
        cast = add_node(first, "Cast", [value], {"to": FLOAT.value}, f"{value.name}_cast", value.shape, FLOAT)
        for node, index in readers:
            node.replace_input_with(index, cast)
