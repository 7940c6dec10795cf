"""Compute at compile time what doesn't depend on the inputs."""

import logging
import math

import numpy as np
import onnx_ir
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    LiftSubgraphInitializersToMainGraphPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from onnxscript.optimizer import fold_constants as fold

from edgec.compiler.frontend.compute_floats import compute_floats
from edgec.compiler.graph import OWN_METADATA, shape_of

_SIZE_LIMIT = 1 << 27
"""Elements of the largest constant to make: above it, folding would cost more memory than it saves work."""

_GROWTH_LIMIT = 1 << 24
"""Elements of the largest constant to make of smaller ones: a few numbers can ask for any memory."""

for _name in ("onnx_ir", "onnxscript"):  # they tell of every node that they leave as it is
    logging.getLogger(_name).setLevel(logging.ERROR)


def fold_constants(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model without constant expressions, Constant, Identity, Dropout or unused nodes.

    Reshape(x, Concat(Shape(x), ...)) --> Reshape(x, initializer)
    QuantizeLinear(initializer)       --> initializer (int8)
    DequantizeLinear(initializer)     stays: that is how a quantized model carries its weights.
    """
    model = _folded(model)
    _remove_identities(model.graph)
    RemoveUnusedNodesPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    LiftSubgraphInitializersToMainGraphPass()(model)
    _lift_outputs(model.graph)
    RemoveUnusedOpsetsPass()(model)
    for node in model.graph.all_nodes():  # the folder's notes on what it did
        for key in [key for key in node.metadata_props if not key.startswith(OWN_METADATA)]:
            del node.metadata_props[key]
        for output in node.outputs:
            output.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    return model


def _folded(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return a copy of the model with its constant expressions computed; as it is if a node is malformed."""
    copy = model.clone()
    try:
        with np.errstate(all="ignore"):
            fold(
                copy,
                onnx_shape_inference=True,
                input_size_limit=_SIZE_LIMIT,
                output_size_limit=_SIZE_LIMIT,
                should_fold=_should_fold,
            )
    except Exception:  # of any kind that numpy or the folder raises; later passes name the node
        return model.clone()
    return copy


def _should_fold(node: onnx_ir.Node) -> bool:
    """Whether to compute a node of constants; what it computes of floats is computed here."""
    if not _is_worth_it(node):
        return False
    compute_floats(node)
    return True


def _is_worth_it(node: onnx_ir.Node) -> bool:
    text = any(value.dtype == onnx_ir.DataType.STRING for value in (*node.inputs, *node.outputs) if value)
    if node.op_type == "DequantizeLinear" or text:
        return False
    given = sum(value.const_value.size for value in node.inputs if value is not None and value.const_value)
    shapes = [shape_of(value) for value in node.outputs]
    made = sum(math.prod(shape) for shape in shapes if shape is not None)
    return made <= max(given, _GROWTH_LIMIT)


def _lift_outputs(graph: onnx_ir.Graph) -> None:
    """Make initializers of the model's outputs that Constant nodes compute; the passes leave these alone."""
    for node in [node for node in graph if node.op_type == "Constant" and not node.domain]:
        output = node.outputs[0]
        if output.const_value is None or output.dtype == onnx_ir.DataType.STRING:
            continue
        name, tensor = str(output.name), output.const_value
        array = tensor.numpy()
        value = onnx_ir.val(f"{name}_constant", const_value=onnx_ir.tensor(array, name=name))
        output.name = f"{name}_replaced"
        value.name = name
        graph.register_initializer(value)
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(node, safe=True)


def _remove_identities(graph: onnx_ir.Graph) -> None:
    """Remove Identity and inference-mode Dropout wherever a name of the model's interface isn't at stake."""
    for node in list(graph):
        if node.op_type not in ("Identity", "Dropout") or node.domain:
            continue
        if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
            continue  # a Dropout whose mask is read
        source, output = node.inputs[0], node.outputs[0]
        assert source is not None
        if output.is_graph_output():
            if source.producer() is None or source.is_graph_output():
                continue  # an input or constant can't take over the output's name
            name = output.name
            output.name, source.name = f"{name}_identity", name
        output.replace_all_uses_with(source, replace_graph_outputs=True)
        graph.remove(node, safe=True)
