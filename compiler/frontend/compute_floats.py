"""What a node of constant floats computes, in float64 and rounded once: the same on every machine.

numpy's float32 sums and exponentials differ in their last bits from one CPU to another.
"""

import numpy as np
import onnx
import onnx_ir

from edgec.errors import ModelError
from edgec.kernels.reference.precise import Precise

_FLOATS = {onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.DOUBLE}


def compute_floats(node: onnx_ir.Node) -> None:
    """Turn a node of constants, in place, into the Identity of its result, if that is one array of floats.

    Exp(initializer) --> Identity(initializer)
    """
    output, graph = node.outputs[0], node.graph
    if len(node.outputs) > 1 or node.domain or output.dtype is None or output.dtype not in _FLOATS:
        return
    if not isinstance(graph, onnx_ir.Graph):
        return
    given = {str(v.name): v.const_value.numpy() for v in node.inputs if v is not None and v.const_value}
    try:
        result = Precise(_alone(node, graph.opset_imports[""])).outputs(given)[str(output.name)]
    except ModelError:
        return  # what ONNX's reference can't compute stays a node
    with np.errstate(over="ignore"):
        array = result.astype(output.dtype.numpy())
    name = f"{output.name}_computed"
    computed = onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name))
    graph.register_initializer(computed)
    node.op_type = "Identity"
    node.attributes.clear()
    node.resize_inputs(1)
    node.replace_input_with(0, computed)


def _alone(node: onnx_ir.Node, opset: int) -> bytes:
    """Return a model of one node."""
    inputs = {str(value.name): value for value in node.inputs if value is not None}
    graph = onnx.helper.make_graph(
        [onnx_ir.serde.serialize_node(node)],
        "alone",
        [onnx_ir.serde.serialize_value(value) for value in inputs.values()],
        [onnx_ir.serde.serialize_value(node.outputs[0])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    serialized: bytes = model.SerializeToString()
    return serialized
