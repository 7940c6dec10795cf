"""Functions with attributes, of real numbers in float64: what tables are computed from."""

import math

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant
from edgec.compiler.operators.row import Real

erf = np.vectorize(math.erf, otypes=[np.float64])
"""The error function of every element."""


def clip(node: onnx_ir.Node, x: Real) -> Real:
    """Clip."""
    low, high = (constant(value) for value in (*node.inputs[1:], None, None)[:2])
    x = x if low is None else np.maximum(x, low.item())
    return x if high is None else np.minimum(x, high.item())


def gelu(node: onnx_ir.Node, x: Real) -> Real:
    """Gelu."""
    if attribute(node, "approximate", "none") == "tanh":
        return np.asarray(x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x / 2 * (1 + erf(x / math.sqrt(2))))


def elu(node: onnx_ir.Node, x: Real) -> Real:
    """Elu."""
    alpha = attribute(node, "alpha", 1.0)
    return np.asarray(np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


def selu(node: onnx_ir.Node, x: Real) -> Real:
    """Selu."""
    alpha = attribute(node, "alpha", 1.67326319217681884765625)
    gamma = attribute(node, "gamma", 1.05070102214813232421875)
    return np.asarray(np.where(x > 0, gamma * x, gamma * alpha * np.expm1(np.minimum(x, 0))))


def celu(node: onnx_ir.Node, x: Real) -> Real:
    """Celu."""
    alpha = attribute(node, "alpha", 1.0)
    return np.asarray(np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha)))


def hard_sigmoid(node: onnx_ir.Node, x: Real) -> Real:
    """HardSigmoid."""
    return np.asarray(np.clip(attribute(node, "alpha", 0.2) * x + attribute(node, "beta", 0.5), 0, 1))


def thresholded(node: onnx_ir.Node, x: Real) -> Real:
    """ThresholdedRelu."""
    return np.where(x > attribute(node, "alpha", 1.0), x, 0.0)


def shrink(node: onnx_ir.Node, x: Real) -> Real:
    """Shrink."""
    bias, threshold = attribute(node, "bias", 0.0), attribute(node, "lambd", 0.5)
    return np.where(np.abs(x) > threshold, x - np.sign(x) * bias, 0.0)


def swish(node: onnx_ir.Node, x: Real) -> Real:
    """Swish."""
    return np.asarray(x / (1 + np.exp(-attribute(node, "alpha", 1.0) * x)))


def refuses_clip(node: onnx_ir.Node) -> str | None:
    """Return why a Clip is no function of one element, or None."""
    limits = [constant(value) for value in node.inputs[1:] if value is not None]
    single = all(limit is not None and limit.size == 1 for limit in limits)
    return None if single else "its limits aren't known at compile time"
