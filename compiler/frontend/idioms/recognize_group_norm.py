"""GroupNormalization as exporters write it: InstanceNormalization of another shape."""

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgec.compiler.frontend.convert_opset import at_opset
from edgec.compiler.graph import (
    add_initializer,
    add_node,
    attribute,
    constant,
    only_consumer,
    replace_value,
    shape_of,
)

_OPSET = 21
"""The first whose GroupNormalization has a scale and bias for each channel."""


def recognize_group_norm(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with groups normalized by one operator, at an opset that has it.

    Add(Mul(Reshape(InstanceNormalization(Reshape(x, [N, G, -1]))), scale), bias) -->
    GroupNormalization<num_groups=G>(x, scale, bias)

    A model that can't be brought to the opset stays as it is.
    """
    model = model.clone()
    if not any(_ends(node) for node in model.graph):
        return model
    newer = model if model.opset_imports.get("", 0) >= _OPSET else at_opset(model, _OPSET)
    if newer is None:
        return model
    for node in list(newer.graph):
        _rewrite(newer.graph, node)
    RemoveUnusedNodesPass()(newer)
    return newer


def _ends(node: onnx_ir.Node) -> tuple[onnx_ir.Value, onnx_ir.Node] | None:
    """Return what an InstanceNormalization normalizes groups of, and the Reshape back behind it."""
    if node.domain or node.op_type != "InstanceNormalization" or node.inputs[0] is None:
        return None
    before, after = node.inputs[0].producer(), only_consumer(node.outputs[0])
    if any(each is None or each.domain or each.op_type != "Reshape" for each in (before, after)):
        return None
    assert before is not None, "it is a Reshape"
    assert after is not None, "it is a Reshape"
    source, groups = before.inputs[0], shape_of(node.inputs[0])
    shape = shape_of(source) if source is not None else None
    constants = [constant(value) for value in node.inputs[1:3]]
    if source is None or shape is None or groups is None or len(shape) < 3 or 0 in shape:
        return None
    fits = shape[0] == groups[0] and shape[1] % groups[1] == 0 and shape_of(after.outputs[0]) == shape
    return (source, after) if fits and all(array is not None for array in constants) else None


def _rewrite(graph: onnx_ir.Graph, node: onnx_ir.Node) -> None:
    """Put one operator in the place of the nodes around an InstanceNormalization, if it is of groups."""
    ends = _ends(node)
    if ends is None:
        return
    source, last = ends
    shape, groups = shape_of(source) or (), shape_of(node.outputs[0]) or ()
    per_group = shape[1] // groups[1]
    arrays = [constant(value) for value in node.inputs[1:3]]
    scale, bias = (np.repeat(a.astype(np.float64), per_group) for a in arrays if a is not None)
    for operator in ("Mul", "Add"):
        found = _channels(last, operator, shape)
        if found is None:
            continue
        last, array = found
        scale, bias = (scale * array, bias * array) if operator == "Mul" else (scale, bias + array)
    inputs: list[onnx_ir.Value | None] = [source]
    for role, array in (("scale", scale), ("bias", bias)):
        inputs.append(add_initializer(graph, f"{node.name}_{role}", array.astype(np.float32)))
    form = {"num_groups": groups[1], "epsilon": attribute(node, "epsilon", 1e-5)}
    name = f"{node.name}_groups"
    replace_value(
        last.outputs[0], add_node(last, "GroupNormalization", inputs, form, name, shape, source.dtype)
    )


def _channels(
    last: onnx_ir.Node, operator: str, shape: tuple[int, ...]
) -> tuple[onnx_ir.Node, NDArray[np.float64]] | None:
    """Return the one reader of a result, if it is this operator with a constant of one number a channel."""
    result = last.outputs[0]
    reader = only_consumer(result)
    if reader is None or reader.domain or reader.op_type != operator or shape_of(reader.outputs[0]) != shape:
        return None
    array = constant(reader.inputs[1 if reader.inputs[0] is result else 0])
    if array is None or array.ndim > len(shape):
        return None
    extents = (1,) * (len(shape) - array.ndim) + array.shape
    if any(extent != 1 for axis, extent in enumerate(extents) if axis != 1):
        return None
    return reader, np.broadcast_to(array.astype(np.float64).reshape(-1), (shape[1],))
