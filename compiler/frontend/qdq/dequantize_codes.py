"""Write operators that choose among 8-bit codes as choosing among the numbers that the codes are."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import add_initializer, add_node, constant, replace_value
from edgec.compiler.model import has_qdq

_CODES = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)

_CHOOSE = (
    "Clip", "Concat", "Expand", "Gather", "GatherElements", "GatherND", "Max", "MaxPool", "Min", "Pad",
    "Relu", "Resize", "Tile", "Where",
)  # fmt: skip
"""Operators that give back some of the numbers that they read: the same ones whatever a step stands for."""


def dequantize_codes(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return a quantized model in which such operators on codes stand between DequantizeLinear and Quantize.

    MaxPool(codes) --> QuantizeLinear(MaxPool(DequantizeLinear(codes, 1, 0)), 1, 0)

    ONNX Runtime's quantizer writes them on codes. A model without quantization computes with integers that
    are no codes, and stays as it is.
    """
    if not has_qdq(model.graph):
        return model
    model = model.clone()
    for node in list(model.graph):
        codes = node.outputs[0]
        if node.domain or node.op_type not in _CHOOSE or codes.dtype not in _CODES or len(node.outputs) > 1:
            continue
        graph, dtype = model.graph, codes.dtype
        one = add_initializer(graph, f"{node.name}_one", np.array(1, np.float32))
        zero = add_initializer(graph, f"{node.name}_zero", np.zeros((), dtype.numpy()))
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == dtype:
                node.replace_input_with(index, _real(node, index, value, one, zero))
        real = onnx_ir.val(f"{codes.name}_real", onnx_ir.DataType.FLOAT, codes.shape)
        attributes = dict(node.attributes)
        made = onnx_ir.node(node.op_type, node.inputs, attributes, outputs=[real], name=str(node.name))
        graph.insert_before(node, made)
        name = f"{node.name}_quantized"
        quantized = add_node(node, "QuantizeLinear", [real, one, zero], {}, name, codes.shape, dtype)
        replace_value(codes, quantized)
        graph.remove(node, safe=True)
    return model


def _real(
    node: onnx_ir.Node, index: int, value: onnx_ir.Value, one: onnx_ir.Value, zero: onnx_ir.Value
) -> onnx_ir.Value:
    """Return the numbers that codes are, as an initializer where they are one: limits must be."""
    name, known, graph = f"{node.name}_real_{index}", constant(value), node.graph
    if known is not None:
        assert isinstance(graph, onnx_ir.Graph)
        return add_initializer(graph, name, known.astype(np.float32))
    inputs: list[onnx_ir.Value | None] = [value, one, zero]
    return add_node(node, "DequantizeLinear", inputs, {}, name, value.shape, onnx_ir.DataType.FLOAT)
