"""The one form in which products by constant weights are computed, and why a node hasn't it."""

from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.graph import add_initializer, add_node, attribute, constant, fits, shape_of
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


def folded_gemm(node: onnx_ir.Node) -> tuple[Array, Array | None] | None:
    """Return a Gemm's weights [N, K] with alpha in them, and its bias, perhaps [N] with beta in it.

    None where they are no constants, no bias per output channel, or more than their types hold.
    """
    weights, value = constant(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant(value)
    if weights is None or (value is not None and bias is None):
        return None
    columns = weights.shape[output_axis(node)]
    if bias is not None and not per_channel(bias, columns):
        return None  # a different bias for every row
    matrix = weights if attribute(node, "transB", 0) else weights.T
    scaled = attribute(node, "alpha", 1.0) * matrix.astype(np.float64)
    if not fits(scaled, weights.dtype):
        return None
    if bias is not None:
        beta = attribute(node, "beta", 1.0)
        row = np.broadcast_to((beta * bias.astype(np.float64)).reshape(-1), (columns,))
        if not fits(row, weights.dtype):
            return None
        bias = row.astype(bias.dtype)
    return scaled.astype(weights.dtype), bias


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


@dataclass(frozen=True, eq=False)
class ScaledWeights:
    """Constant 8-bit weights behind DequantizeLinear, with one scale or one per output channel."""

    dequantize: onnx_ir.Node
    scales: NDArray[np.float64]
    """[output channels]."""
    zero_points: Array | None
    """[output channels]."""

    @property
    def channels(self) -> int:
        """Number of outputs."""
        return len(self.scales)

    def write(self, node: onnx_ir.Node, factors: NDArray[np.float64]) -> None:
        """Let `node` read the weights multiplied by a factor per output channel: others read the old ones."""
        graph, integers = node.graph, self.dequantize.inputs[0]
        assert isinstance(graph, onnx_ir.Graph)
        scales = (self.scales * factors).astype(np.float32)
        inputs = [integers, add_initializer(graph, f"{node.name}_weight_scales", scales)]
        if self.zero_points is not None:
            inputs.append(add_initializer(graph, f"{node.name}_weight_zeros", self.zero_points))
        old, attributes = self.dequantize.outputs[0], {"axis": output_axis(node)}
        name = f"{node.name}_weights"
        node.replace_input_with(
            1, add_node(node, "DequantizeLinear", inputs, attributes, name, old.shape, old.dtype)
        )


def scaled_weights(node: onnx_ir.Node) -> ScaledWeights | None:
    """Return the weights of a Conv, Gemm or MatMul in that form, None where they have another."""
    value = node.inputs[1]
    dequantize = value.producer() if value is not None else None
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or dequantize.domain:
        return None
    integers, scales, zeros = (constant(part) for part in (*dequantize.inputs, None)[:3])
    if integers is None or scales is None or scales.ndim > 1 or scales.dtype != np.float32:
        return None
    given = len(dequantize.inputs) > 2 and dequantize.inputs[2] is not None
    axis = output_axis(node)
    along = attribute(dequantize, "axis", 1) % max(integers.ndim, 1)
    if integers.ndim < 2 or (given and zeros is None) or (scales.size > 1 and along != axis):
        return None
    channels = integers.shape[axis]
    spread = np.broadcast_to(scales.astype(np.float64).reshape(-1), channels)
    return ScaledWeights(
        dequantize, spread, None if zeros is None else np.broadcast_to(zeros.reshape(-1), channels).copy()
    )
