"""Write subtraction and division by constants as the additions and multiplications that run in int8."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import add_initializer, constant, fits

_REWRITES = {"Sub": ("Add", np.negative), "Div": ("Mul", np.reciprocal)}


def rewrite_arithmetic(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with float Sub and Div by constants rewritten.

    Sub(x, c) --> Add(x, -c)
    Div(x, c) --> Mul(x, 1 / c)

    What is so small that its reciprocal overflows stays.
    """
    model = model.clone()
    graph = model.graph
    for node in graph:
        operand = constant(node.inputs[1]) if node.op_type in _REWRITES and not node.domain else None
        if operand is None or operand.dtype != np.float32:
            continue
        operator, inverse = _REWRITES[node.op_type]
        with np.errstate(divide="ignore", over="ignore"):
            inverted = inverse(operand)
        if node.op_type == "Div" and not fits(inverted, operand.dtype):
            continue
        node.op_type = operator
        node.replace_input_with(1, add_initializer(graph, f"{node.name}_operand", inverted))
    return model
