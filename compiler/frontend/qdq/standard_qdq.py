"""One spelling of QuantizeLinear and DequantizeLinear."""

import onnx_ir

_OPERATORS = ("QuantizeLinear", "DequantizeLinear")
_TYPES = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8, onnx_ir.DataType.INT32)


def standard_qdq(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with ONNX's own operators in the place of ONNX Runtime's, where they are the same.

    com.microsoft.QuantizeLinear(x, scale, zero point) --> QuantizeLinear(x, scale, zero point)

    They differ in types that ONNX has only from opset 21 on: 4 and 16 bits stay as they are.
    """
    model = model.clone()
    for node in model.graph.all_nodes():
        if node.domain != "com.microsoft" or node.op_type not in _OPERATORS:
            continue
        integers = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
        zero_point = node.inputs[2] if len(node.inputs) > 2 else None
        known = [value.dtype for value in (zero_point, integers) if value is not None and value.dtype]
        if known and known[0] in _TYPES:
            node.domain = ""
    return model
