"""Unary operators as functions of real numbers, in float64: what tables are computed from."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import attribute, constant, shape_of

Real = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _clip(node: onnx_ir.Node, x: Real) -> Real:
    low, high = (constant(value) for value in (*node.inputs[1:], None, None)[:2])
    x = x if low is None else np.maximum(x, low.item())
    return x if high is None else np.minimum(x, high.item())


def _gelu(node: onnx_ir.Node, x: Real) -> Real:
    if attribute(node, "approximate", "none") == "tanh":
        return np.asarray(x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x / 2 * (1 + _erf(x / math.sqrt(2))))


def _elu(node: onnx_ir.Node, x: Real) -> Real:
    alpha = attribute(node, "alpha", 1.0)
    return np.asarray(np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


def _selu(node: onnx_ir.Node, x: Real) -> Real:
    alpha = attribute(node, "alpha", 1.67326319217681884765625)
    gamma = attribute(node, "gamma", 1.05070102214813232421875)
    return np.asarray(np.where(x > 0, gamma * x, gamma * alpha * np.expm1(np.minimum(x, 0))))


def _celu(node: onnx_ir.Node, x: Real) -> Real:
    alpha = attribute(node, "alpha", 1.0)
    return np.asarray(np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha)))


def _hard_sigmoid(node: onnx_ir.Node, x: Real) -> Real:
    return np.asarray(np.clip(attribute(node, "alpha", 0.2) * x + attribute(node, "beta", 0.5), 0, 1))


def _thresholded(node: onnx_ir.Node, x: Real) -> Real:
    return np.where(x > attribute(node, "alpha", 1.0), x, 0.0)


def _shrink(node: onnx_ir.Node, x: Real) -> Real:
    bias, threshold = attribute(node, "bias", 0.0), attribute(node, "lambd", 0.5)
    return np.where(np.abs(x) > threshold, x - np.sign(x) * bias, 0.0)


PLAIN: dict[str, Callable[[Real], Any]] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Erf": _erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Log": np.log,
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "Neg": np.negative,
    "Reciprocal": lambda x: 1 / x,
    "Relu": lambda x: np.maximum(x, 0),
    "Round": np.rint,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": lambda x: np.logaddexp(0, x),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Tan": np.tan,
    "Tanh": np.tanh,
}

WITH_ATTRIBUTES: dict[str, Callable[[onnx_ir.Node, Real], Any]] = {
    "Celu": _celu,
    "Clip": _clip,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda node, x: np.where(x < 0, attribute(node, "alpha", 0.01) * x, x),
    "Selu": _selu,
    "Shrink": _shrink,
    "Swish": lambda node, x: x / (1 + np.exp(-attribute(node, "alpha", 1.0) * x)),
    "ThresholdedRelu": _thresholded,
}

WITH_SCALAR: dict[str, Callable[[Real, Real], Any]] = {
    "Add": np.add,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "PRelu": lambda x, slope: np.where(x < 0, slope * x, x),
    "Pow": np.power,
    "Sub": np.subtract,
}
"""Binary operators of which one operand is a single constant."""


def operand(node: onnx_ir.Node) -> int | None:
    """Return which input a node is a unary function of, element by element, or None where it is none."""
    if node.domain:
        return None
    if node.op_type in PLAIN:
        return 0
    if node.op_type in WITH_ATTRIBUTES:
        limits = [constant(value) for value in node.inputs[1:] if value is not None]
        return 0 if all(limit is not None and limit.size == 1 for limit in limits) else None
    if node.op_type in WITH_SCALAR and len(node.inputs) == 2:
        for index in (0,) if node.op_type == "PRelu" else (0, 1):
            value, scalar = node.inputs[index], constant(node.inputs[1 - index])
            if value is None or scalar is None or scalar.size != 1:
                continue
            if shape_of(value) == shape_of(node.outputs[0]):  # no further dimensions by broadcasting
                return index
    return None


def evaluate(node: onnx_ir.Node, x: Real) -> Real:
    """Return the node's result for real numbers `x`; NaN where the function isn't defined."""
    with np.errstate(all="ignore"):
        if node.op_type in PLAIN:
            return np.asarray(PLAIN[node.op_type](x), np.float64)
        if node.op_type in WITH_ATTRIBUTES:
            return np.asarray(WITH_ATTRIBUTES[node.op_type](node, x), np.float64)
        index = operand(node)
        assert index is not None, "operand() said so"
        scalar = constant(node.inputs[1 - index])
        assert scalar is not None, "operand() said so"
        other = scalar.astype(np.float64).reshape(1)
        pair = (x, other) if index == 0 else (other, x)
        return np.asarray(WITH_SCALAR[node.op_type](*pair), np.float64)
