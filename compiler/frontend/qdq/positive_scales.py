"""Make negative scales positive, which some quantizers learn and no integer kernel knows."""

from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import add_initializer, constant

_CODES = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)


def positive_scales(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with constant scales of 8-bit integers positive.

    DequantizeLinear(w, -s, z)   --> DequantizeLinear(~w, s, ~z)
    QuantizeLinear(x, -s, z) = q --> ~QuantizeLinear(x, s, ~z), if q is only dequantized

    where ~ turns every bit over, -1 - w in int8 and 255 - w in uint8: it keeps all that a type can hold, and
    (w - z) * -s is (~w - ~z) * s. Biases have int32 and no zero point: their integers change sign.
    """
    model = model.clone()
    for node in list(model.graph):
        if node.domain or not _is_negative(node):
            continue
        if node.op_type == "QuantizeLinear":
            readers = [use.node for use in node.outputs[0].uses()]
            alike = all(reader.op_type == "DequantizeLinear" and _is_negative(reader) for reader in readers)
            if alike and not node.outputs[0].is_graph_output():
                for each in (node, *readers):
                    _turn(each, None)
        elif node.op_type == "DequantizeLinear":
            integers = constant(node.inputs[0])
            if integers is not None:
                _turn(node, integers)
    return model


def _is_negative(node: onnx_ir.Node) -> bool:
    """Whether some of a node's scales are negative; those of activations are one."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return False
    scale = constant(node.inputs[1])
    return scale is not None and scale.ndim < 2 and bool((scale < 0).any())


def _turn(node: onnx_ir.Node, integers: NDArray[Any] | None) -> None:
    """Turn scales, zero points and, where they are constants, the integers over where scales are negative."""
    graph, scale = node.graph, constant(node.inputs[1])
    assert isinstance(graph, onnx_ir.Graph)
    assert scale is not None, "it is negative"
    negative, codes = scale < 0, node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    assert codes is not None
    node.replace_input_with(1, add_initializer(graph, f"{node.name}_scale", np.abs(scale)))
    if codes.dtype in _CODES:
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if zero is None:
            zero = np.zeros(scale.shape, codes.dtype.numpy())
        turned = add_initializer(graph, f"{node.name}_zero", np.where(negative, ~zero, zero))
        node.resize_inputs(3)
        node.replace_input_with(2, turned)
    if integers is None:
        return
    if scale.size > 1:
        axis = int(node.attributes["axis"].as_int()) if "axis" in node.attributes else 1
        negative = negative.reshape([-1 if i == axis % integers.ndim else 1 for i in range(integers.ndim)])
    opposite = ~integers if codes.dtype in _CODES else -integers
    values = np.where(negative, opposite, integers)
    node.replace_input_with(0, add_initializer(graph, f"{node.name}_integers", values))
