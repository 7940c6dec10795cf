"""ONNX Runtime's fused additions and normalizations, as the additions and normalizations that they are."""

import onnx_ir

from edgec.compiler.frontend.convert_opset import at_opset
from edgec.compiler.graph import add_node, attribute, replace_value

_DOMAIN = "com.microsoft"
_FUSED = {
    "SkipLayerNormalization": "LayerNormalization",
    "SkipSimplifiedLayerNormalization": "RMSNormalization",
}
_OPSETS = {"LayerNormalization": 17, "RMSNormalization": 23}
_EPSILON = 1e-12
"""What these operators add where they don't say."""
_SUM = 3
"""Which output is the sum before it is normalized; those between only training has."""


def separate_skips(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with operators of ONNX's own in the place of fused ones, at an opset that has them.

    SkipLayerNormalization(x, skip, s, b, offset)        --> LayerNormalization(x + skip + offset, s, b)
    SkipSimplifiedLayerNormalization(x, skip, s, offset) --> RMSNormalization(x + skip + offset, s)

    A model that can't be brought to the opset stays as it is.
    """
    model = model.clone()
    fused = [_FUSED[node.op_type] for node in model.graph if _is_fused(node)]
    opset = max((_OPSETS[operator] for operator in fused), default=0)
    newer = model if opset <= model.opset_imports.get("", 0) else at_opset(model, opset)
    if newer is None:
        return model
    for node in list(newer.graph):
        if _is_fused(node):
            _separate(node)
    return newer


def _is_fused(node: onnx_ir.Node) -> bool:
    """Whether a node is such an operator, as inference has it."""
    statistics = any(output.uses() or output.is_graph_output() for output in node.outputs[1:_SUM])
    return node.domain == _DOMAIN and node.op_type in _FUSED and not statistics


def _separate(node: onnx_ir.Node) -> None:
    """Put additions and a normalization in the place of a node."""
    operator, result = _FUSED[node.op_type], node.outputs[0]
    own = 4 if operator == "LayerNormalization" else 3
    scale_and_bias = [value for value in node.inputs[2:own] if value is not None]
    like = (result.shape, result.dtype)
    total = add_node(node, "Add", list(node.inputs[:2]), {}, f"{node.name}_sum", *like)
    for index, offset in enumerate(value for value in node.inputs[own:] if value is not None):
        total = add_node(node, "Add", [total, offset], {}, f"{node.name}_offset_{index}", *like)
    form = {"axis": -1, "epsilon": attribute(node, "epsilon", _EPSILON)}
    normal = add_node(node, operator, [total, *scale_and_bias], form, f"{node.name}_norm", *like)
    replace_value(result, normal)
    if len(node.outputs) > _SUM:
        replace_value(node.outputs[_SUM], total)
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph)
    graph.remove(node, safe=True)
