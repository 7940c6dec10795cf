"""Codes are never NaN: what guards a Softmax against rows that a mask hides whole has nothing to do."""

import onnx_ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgec.compiler.graph import replace_value


def drop_nan_guards(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model without the choice between a Softmax's result and what stands for NaN.

    Where(IsNaN(s), c, s) --> s,  s = Softmax(x)
    """
    model = model.clone()
    graph = model.graph
    for node in list(graph):
        if node.op_type != "Where" or node.domain or len(node.inputs) != 3:
            continue
        condition, _, chosen = node.inputs
        guard, softmax = _producer(condition, "IsNaN"), _producer(chosen, "Softmax")
        if guard is None or softmax is None or chosen is None or guard.inputs[0] is not chosen:
            continue
        if node.outputs[0].shape == chosen.shape and not node.outputs[0].is_graph_output():
            replace_value(node.outputs[0], chosen)
            graph.remove(node, safe=True)
    RemoveUnusedNodesPass()(model)
    return model


def _producer(value: onnx_ir.Value | None, operator: str) -> onnx_ir.Node | None:
    """Return the node of an operator that computes a value, None for any other."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == operator and not node.domain else None
