"""Write subtraction and division by constants as the additions and multiplications that run in int8."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import add_initializer, constant

_REWRITES = {"Sub": ("Add", np.negative), "Div": ("Mul", np.reciprocal)}


def rewrite_arithmetic(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with float Sub and Div by constants rewritten.

    Sub(x, c) --> Add(x, -c)
    Div(x, c) --> Mul(x, 1 / c)
    """
    model = model.clone()
    graph = model.graph
    for node in graph:
        divisor = constant(node.inputs[1]) if node.op_type in _REWRITES and not node.domain else None
        if divisor is None or divisor.dtype != np.float32 or (node.op_type == "Div" and np.any(divisor == 0)):
            continue
        node.op_type, inverse = _REWRITES[node.op_type]
        node.replace_input_with(1, add_initializer(graph, f"{node.name}_operand", inverse(divisor)))
    return model
