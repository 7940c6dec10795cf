"""A tensor without elements is a constant: there is nothing in it to be computed."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import add_initializer, shape_of


def fold_empty(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with constants in the place of values that have a dimension of 0 elements.

    axes[0], y = ReduceSum(x, axes) --> y = ReduceSum(x, initializer)

    An input stays the model's input, which nobody reads then.
    """
    model = model.clone()
    graph = model.graph
    for value in [*graph.inputs, *(output for node in graph for output in node.outputs)]:
        if value.is_graph_output() or not value.uses() or value.is_initializer():
            continue
        shape = shape_of(value)
        if shape is None or 0 not in shape or value.dtype is None or not _is_tensor(value):
            continue
        empty = add_initializer(graph, f"{value.name}_empty", np.zeros(shape, value.dtype.numpy()))
        value.replace_all_uses_with(empty)
    return model


def _is_tensor(value: onnx_ir.Value) -> bool:
    return isinstance(value.type, onnx_ir.TensorType) and value.dtype != onnx_ir.DataType.STRING
