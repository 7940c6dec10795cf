"""Operators that compute element by element, and matrix products."""

from edgec.compiler.frontend.tflite.writer import Call
from edgec.errors import ModelError


def same(call: Call) -> str:
    """QUANTIZE, DEQUANTIZE: the numbers stay as they are, and their tensors say how they are stored."""
    return call.real(0)


def cast(call: Call) -> str:
    """CAST."""
    return call.node("Cast", call.real(0), to=call.writer.onnx_type(call.operator.outputs[0]))


def of_one(operator: str, call: Call) -> str:
    """Compute a function of every element that ONNX has too."""
    return call.node(operator, call.real(0))


def of_two(operator: str, call: Call) -> str:
    """Compute a function of two tensors' elements that ONNX has too."""
    return call.node(operator, call.real(0), call.real(1))


def activated(operator: str, call: Call) -> str:
    """Compute one, and a fused activation of it."""
    return call.activated(of_two(operator, call))


def unequal(call: Call) -> str:
    """NOT_EQUAL."""
    return call.node("Not", call.node("Equal", call.real(0), call.real(1)))


def chosen(call: Call) -> str:
    """SELECT, SELECT_V2."""
    return call.node("Where", call.real(0), call.real(1), call.real(2))


def clipped(low: float, high: float, call: Call) -> str:
    """RELU6 and its like."""
    return call.node("Clip", call.real(0), call.scalar(low), call.scalar(high))


def leaky_relu(call: Call) -> str:
    """LEAKY_RELU."""
    return call.node("LeakyRelu", call.real(0), alpha=call.operator.option("Alpha", 0.0))


def prelu(call: Call) -> str:
    """PRELU: both broadcast along the last axes."""
    return call.node("PRelu", call.real(0), call.real(1))


def gelu(call: Call) -> str:
    """GELU."""
    form = "tanh" if call.operator.option("Approximate", False) else "none"
    return call.node("Gelu", call.real(0), approximate=form)


def softmax(call: Call) -> str:
    """SOFTMAX of the last axis, whose input is multiplied by beta."""
    beta, value = call.operator.option("Beta", 1.0), call.real(0)
    scaled = value if beta == 1.0 else call.node("Mul", value, call.scalar(beta))
    return call.node("Softmax", scaled, axis=-1)


def log_softmax(call: Call) -> str:
    """LOG_SOFTMAX of the last axis."""
    return call.node("LogSoftmax", call.real(0), axis=-1)


def squared(call: Call) -> str:
    """SQUARE."""
    return call.node("Mul", call.real(0), call.real(0))


def squared_difference(call: Call) -> str:
    """SQUARED_DIFFERENCE."""
    difference = call.node("Sub", call.real(0), call.real(1))
    return call.node("Mul", difference, difference)


def inverse_root(call: Call) -> str:
    """RSQRT."""
    return call.node("Reciprocal", call.node("Sqrt", call.real(0)))


def normalized(call: Call) -> str:
    """L2_NORMALIZATION of the last axis."""
    return call.activated(call.node("LpNormalization", call.real(0), axis=-1, p=2))


def fully_connected(call: Call) -> str:
    """FULLY_CONNECTED: rows of the input, whatever shape it has, by weights [outputs, inputs]."""
    if call.operator.option("WeightsFormat", 0):
        raise ModelError("shuffled weights aren't read")
    _, inputs = call.shape(1)
    rows = call.real(0)
    if len(call.shape(0)) != 2 or call.shape(0)[1] != inputs:
        rows = call.reshaped(rows, [-1, inputs])
    if call.is_constant(1):
        bias = [call.real(2)] if call.has(2) else []
        made = call.node("Gemm", rows, call.real(1), *bias, transB=1)
    else:
        made = call.node("MatMul", rows, call.transposed(call.real(1), (1, 0)))
        made = call.node("Add", made, call.real(2)) if call.has(2) else made
    made = call.activated(made)
    return made if len(call.result) == 2 else call.reshaped(made, call.result)


def batch_matmul(call: Call) -> str:
    """BATCH_MATMUL, either operand transposed."""
    operands = []
    for position, flag in enumerate(("AdjX", "AdjY")):
        value, rank = call.real(position), len(call.shape(position))
        if call.operator.option(flag, False):
            value = call.transposed(value, [*range(rank - 2), rank - 1, rank - 2])
        operands.append(value)
    return call.node("MatMul", *operands)
