"""The one form in which products by constant weights are computed, and why a node hasn't it."""

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.operators import window
from edgec.compiler.operators.constants import is_known, known


def output_axis(node: onnx_ir.Node) -> int:
    """Return the axis of the weights of a Conv, ConvTranspose, Gemm or MatMul that counts the outputs."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def unscaled(node: onnx_ir.Node) -> bool:
    """Whether a product is multiplied by nothing: alpha and beta, which only Gemm has, are 1."""
    return all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))


def per_channel(bias: Array, channels: int) -> bool:
    """Whether a bias is one number, or one for every output channel."""
    return bias.size == 1 or (bias.size, bias.shape[-1]) == (channels, channels)


def bias_of(node: onnx_ir.Node, channels: int) -> NDArray[np.float64] | None:
    """Return the bias as real numbers, one per output channel; None where it is no such constant."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(channels)
    bias = known(node.inputs[2])
    if bias is None or not per_channel(bias, channels):
        return None
    return np.broadcast_to(bias.astype(np.float64).reshape(-1), channels)


def refuses_conv(node: onnx_ir.Node) -> str | None:
    """Return why a Conv has no kernel, or None."""
    return window.refusal(node) or _constants(node)


def refuses_gemm(node: onnx_ir.Node) -> str | None:
    """Return why a Gemm has no kernel, or None."""
    if not unscaled(node) or attribute(node, "transA", 0):
        return "alpha, beta and transA have no integer form"
    late = constant(node.inputs[1]) is not None and not attribute(node, "transB", 0)  # for normalize_gemm
    return _constants(node) or ("its weights aren't constants of the model" if late else None)


def refuses_matmul(node: onnx_ir.Node) -> str | None:
    """Return why a MatMul is no product by a constant matrix, None if it is one."""
    reason, weights = _constants(node), node.inputs[1]
    stack = reason is None and weights is not None and len(shape_of(weights) or ()) != 2
    return "a product by a stack of matrices has no integer kernel" if stack else reason


def _constants(node: onnx_ir.Node) -> str | None:
    weights = node.inputs[1]
    if weights is None or not is_known(weights):
        return "a product of two activations has no integer kernel"
    shape = shape_of(weights)
    if shape is None or len(shape) < 2:
        return "a product by a vector has no integer kernel"
    if node.op_type != "MatMul" and bias_of(node, shape[output_axis(node)]) is None:
        return "its bias isn't a constant per output channel"
    return None
