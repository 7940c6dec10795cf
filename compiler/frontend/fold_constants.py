"""Compute at compile time what doesn't depend on the inputs."""

import numpy as np
import onnx
import onnx_ir
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    LiftSubgraphInitializersToMainGraphPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from onnxscript.optimizer import fold_constants as fold

from edgec.errors import ModelError
from edgec.kernels.precise import Precise

_FLOATS = {onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.DOUBLE}

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
        should_fold=_should_fold,
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


def _should_fold(node: onnx_ir.Node) -> bool:
    """Whether to compute a node whose inputs are constants; one of floats is computed here.

    In float64, rounded once: numpy's float32 sums and exponentials differ in their last bits between CPUs.
    """
    if node.op_type == "DequantizeLinear":
        return False
    output, graph = node.outputs[0], node.graph
    if (
        node.domain
        or len(node.outputs) > 1
        or output.dtype not in _FLOATS
        or not isinstance(graph, onnx_ir.Graph)
    ):
        return True
    given = {
        str(v.name): v.const_value.numpy() for v in node.inputs if v is not None and v.const_value is not None
    }
    try:
        result = Precise(_alone(node, graph)).outputs(given)[str(output.name)]
    except ModelError:
        return True  # the folder leaves alone what ONNX's reference can't compute
    with np.errstate(over="ignore"):
        array = result.astype(output.dtype.numpy())
    name = f"{output.name}_folded"
    constant = onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name))
    graph.register_initializer(constant)
    node.op_type = "Identity"
    node.attributes.clear()
    node.resize_inputs(1)
    node.replace_input_with(0, constant)
    return True


def _alone(node: onnx_ir.Node, graph: onnx_ir.Graph) -> bytes:
    """Return a model of one node."""
    given = {str(value.name): value for value in node.inputs if value is not None}
    inputs = [onnx_ir.serde.serialize_value(value) for value in given.values()]
    outputs = [onnx_ir.serde.serialize_value(node.outputs[0])]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([onnx_ir.serde.serialize_node(node)], "alone", inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid("", graph.opset_imports[""])],
    )
    serialized: bytes = model.SerializeToString()
    return serialized


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
