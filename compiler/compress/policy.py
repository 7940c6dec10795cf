"""Which operators run in int8, and how each treats its scales."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.operators.resizing import no_repetition

Role = Literal["product", "binary", "reduction", "movement", "concat", "unary"]
"""What an operator does with scales.

product    activations by constant weights, with a bias
binary     two tensors of any scales, one of them perhaps constant
reduction  a mean: its result has a scale of its own
movement   every element of the result is an element of the input: scale and zero point are shared
concat     movement of several inputs, which may each have their own scale
unary      a function of one element or, softmax, one row
"""


@dataclass(frozen=True)
class Rule:
    """How one ONNX operator is quantized."""

    role: Role
    accepts: Callable[[onnx_ir.Node], bool] = lambda node: True
    """Whether this node, with its attributes and constants, is one that runs in int8."""
    output: tuple[float, int] | None = None
    """Scale and zero point of a result whose range is known beforehand."""


def _windowed(node: onnx_ir.Node) -> bool:
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    return shape is not None and len(shape) in (3, 4) and "auto_pad" not in node.attributes


def _conv(node: onnx_ir.Node) -> bool:
    return _windowed(node) and _constants(node, 1)


def _gemm(node: onnx_ir.Node) -> bool:
    """Only the form that normalize_gemm leaves."""
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and bias.ndim != 1:
        return False
    form = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    defaults = form | {"transB": 0}
    return _constants(node, 1) and all(attribute(node, key, defaults[key]) == form[key] for key in form)


def _constants(node: onnx_ir.Node, first: int) -> bool:
    """Whether every input from `first` on is constant or absent."""
    return all(value is None or constant(value) is not None for value in node.inputs[first:])


def _parameters(node: onnx_ir.Node) -> bool:
    return _constants(node, 1)


def _one_output(node: onnx_ir.Node) -> bool:
    return _windowed(node) and len(node.outputs) == 1


def _scalar_index(node: onnx_ir.Node) -> bool:
    index = constant(node.inputs[1])
    return index is not None and index.ndim == 0


def _constant_mode(node: onnx_ir.Node) -> bool:
    return attribute(node, "mode", "constant") == "constant" and _constants(node, 1)


def _repeating(node: onnx_ir.Node) -> bool:
    return _constants(node, 1) and no_repetition(node) is None


_TABLE = (
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish",
    "Neg", "Relu", "Selu", "Softplus", "Softsign", "Tanh", "ThresholdedRelu",
)  # fmt: skip

_UNIT_INTERVAL = (1 / 256, -128)
"""Covers [0, 1) whatever the calibration samples show."""

RULES: dict[str, Rule] = {
    "Conv": Rule("product", _conv),
    "Gemm": Rule("product", _gemm),
    "Add": Rule("binary"),
    "Mul": Rule("binary"),
    "AveragePool": Rule("reduction", _windowed),
    "GlobalAveragePool": Rule("reduction"),
    "ReduceMean": Rule("reduction", _parameters),
    "Concat": Rule("concat"),
    "DepthToSpace": Rule("movement"),
    "Flatten": Rule("movement"),
    "Gather": Rule("movement", _scalar_index),
    "MaxPool": Rule("movement", _one_output),
    "Pad": Rule("movement", _constant_mode),
    "Reshape": Rule("movement", _parameters),
    "Resize": Rule("movement", _repeating),
    "Slice": Rule("movement", _parameters),
    "SpaceToDepth": Rule("movement"),
    "Split": Rule("movement", _parameters),
    "Squeeze": Rule("movement", _parameters),
    "Transpose": Rule("movement"),
    "Unsqueeze": Rule("movement", _parameters),
    "Sigmoid": Rule("unary", output=_UNIT_INTERVAL),
    "Softmax": Rule("unary", output=_UNIT_INTERVAL),
    **{operator: Rule("unary", _parameters) for operator in _TABLE},
}
"""Every other operator stays in float."""

CLIPS = ("Relu", "Clip")
"""What a product, binary or reduction does on its way out: the ends of the int8 range."""


def dense(node: onnx_ir.Node) -> bool:
    """Whether a product computes one number of each output channel, so that it reads every weight once."""
    weights, shape = constant(node.inputs[1]), shape_of(node.outputs[0])
    assert weights is not None, "a product's weights are constant"
    return shape is not None and math.prod(shape) == len(weights) and attribute(node, "group", 1) == 1


def activations(node: onnx_ir.Node, rule: Rule) -> list[onnx_ir.Value] | None:
    """Return the inputs that carry data (not weights, shapes or limits); None if one is no float32."""
    if rule.role in ("binary", "concat"):
        values = [value for value in node.inputs if constant(value) is None]
    else:
        values = list(node.inputs[:1])
    found = [value for value in values if value is not None and value.dtype == onnx_ir.DataType.FLOAT]
    if not found or len(found) != len(values) or any(shape_of(value) is None for value in found):
        return None
    if rule.role == "concat" and len(found) != len(node.inputs):
        return None
    if any(0 in (shape_of(value) or ()) for value in [*found, *node.outputs]):
        return None
    return found


def finite(node: onnx_ir.Node) -> bool:
    """Whether the node's float constants are all finite: infinities have no int8 form."""
    arrays = [constant(value) for value in node.inputs]
    floats = [array for array in arrays if array is not None and array.dtype.kind == "f"]
    return node.op_type in CLIPS or all(np.all(np.isfinite(array)) for array in floats)
