"""What QuantizeLinear and DequantizeLinear say of 8-bit integers."""

import onnx_ir

from edgec.compiler.graph import constant
from edgec.kernels.operations import Quantization

INT8 = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)
"""Types of codes."""


def parameters(node: onnx_ir.Node) -> Quantization | None:
    """Return the quantization of a per-tensor QuantizeLinear or DequantizeLinear of 8 bits, else None.

    The zero point is that of int8: uint8 is shifted by 128. A Cast of 8 bits to float32 dequantizes, too.
    """
    if node.domain or node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Cast"):
        return None
    integers = node.inputs[0] if node.op_type != "QuantizeLinear" else node.outputs[0]
    real = node.inputs[0] if node.op_type == "QuantizeLinear" else node.outputs[0]
    if integers is None or real is None or integers.dtype not in INT8 or real.dtype != onnx_ir.DataType.FLOAT:
        return None
    shift = 128 if integers.dtype == onnx_ir.DataType.UINT8 else 0
    if node.op_type == "Cast":
        return Quantization(1.0, -shift)
    scale, zero_point = (constant(value) for value in (*node.inputs[1:], None)[:2])
    given = len(node.inputs) > 2 and node.inputs[2] is not None
    if scale is None or scale.size != 1 or (given and zero_point is None):
        return None
    if zero_point is not None and zero_point.size != 1:
        return None
    offset = 0 if zero_point is None else int(zero_point.reshape(()))
    return Quantization(float(scale.reshape(())), offset - shift)
