"""Compute at compile time what doesn't depend on the inputs."""

import onnx_ir
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    LiftSubgraphInitializersToMainGraphPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from onnxscript.optimizer import fold_constants as fold

_SIZE_LIMIT = 1 << 27
"""Elements of the largest constant to make: above it, folding would cost more memory than it saves work."""


def fold_constants(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model without constant expressions, Constant, Identity, Dropout or unused nodes.

    Reshape(x, Concat(Shape(x), ...)) --> Reshape(x, initializer)
    QuantizeLinear(initializer)       --> initializer (int8)
    DequantizeLinear(initializer)     stays: that is how a quantized model carries its weights.
    """
    model = model.clone()
    fold(
        model,
        onnx_shape_inference=True,
        input_size_limit=_SIZE_LIMIT,
        output_size_limit=_SIZE_LIMIT,
        should_fold=lambda node: node.op_type != "DequantizeLinear",
    )
    _remove_identities(model.graph)
    RemoveUnusedNodesPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    LiftSubgraphInitializersToMainGraphPass()(model)
    RemoveUnusedOpsetsPass()(model)
    for node in model.graph.all_nodes():  # the folder's notes on what it did
        node.metadata_props.clear()
        for output in node.outputs:
            output.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    return model


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
