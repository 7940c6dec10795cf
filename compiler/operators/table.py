"""Every ONNX operator that edgec computes itself: one row each.

The quantizer, the lowering, `check` and the page of supported operators all read it. What isn't here, or what
a row refuses, is left to float islands.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute
from edgec.compiler.operators import (
    arrangement,
    bilinear,
    binary,
    float_layers,
    movement,
    normalization,
    pooling,
    product_form,
    products,
    recurrent,
    resizing,
    unary,
)
from edgec.compiler.operators.row import FloatForm, IntegerForm, OnnxOperator, Real, every_input
from edgec.kernels.operations import LONGEST, BinaryKind, Quantization

_UNIT_INTERVAL = Quantization(1 / 256, -128)
"""Covers [0, 1) whatever the calibration samples show."""

_FREE = "free behind a product, an addition or a mean"


def _normalization(
    limits: str = "constant scale and bias", floating: FloatForm | None = None
) -> OnnxOperator:
    """Return the row of an operator that normalizes; one of them after the other is the same operation."""
    integer = IntegerForm(normalization.normalize)
    return OnnxOperator("reduction", normalization.refuses, integer=integer, floating=floating, limits=limits)


_NORMALIZED_ROWS = FloatForm(normalization.float_normalize, clips=False)


def _arithmetic(
    kind: BinaryKind,
    of_two: Callable[[Real, Real], Any],
    refuses: Callable[[onnx_ir.Node], str | None] = lambda node: None,
) -> OnnxOperator:
    """Return the row of what is computed of two tensors."""
    return OnnxOperator(
        "binary",
        refuses,
        inputs=every_input,
        integer=IntegerForm(partial(binary.arithmetic, kind)),
        floating=FloatForm(partial(float_layers.arithmetic, kind)),
        of_two=of_two,
    )


_RECURRENT = OnnxOperator(
    "recurrent",
    recurrent.refuses,
    inputs=recurrent.inputs,
    integer=IntegerForm(recurrent.lower, recurrent.refuses_quantized, clamps=False),
    limits="constant weights, sequences of one length, no peepholes; Sigmoid, Tanh, HardSigmoid, RNN's Relu",
)


def _curve(function: Callable[[Real], Any], **keywords: Any) -> OnnxOperator:
    """Return the row of a function of one element that has no attributes."""
    return OnnxOperator("unary", function=lambda node, x: function(x), **keywords)


_left_alone = partial(_curve, quantized=False)

OPERATORS: dict[str, OnnxOperator] = {
    # Products by constant weights.
    "Conv": OnnxOperator(
        "product",
        product_form.refuses_conv,
        integer=IntegerForm(products.conv, products.refuses),
        floating=FloatForm(float_layers.conv),
        limits="1-D and 2-D; constant weights; any stride, padding, dilation and number of groups",
    ),
    "Gemm": OnnxOperator(
        "product",
        product_form.refuses_gemm,
        integer=IntegerForm(products.matrix_product, products.refuses),
        floating=FloatForm(float_layers.gemm),
        limits="constant weights, A not transposed",
    ),
    "MatMul": OnnxOperator(  # where normalize_gemm made no Gemm of it
        "bilinear",
        bilinear.refuses,
        inputs=bilinear.inputs,
        integer=IntegerForm(bilinear.matmul, bilinear.refuses_quantized),
        limits=f"of two activations, sums of {LONGEST} products at most",
    ),
    "GRU": _RECURRENT,
    "LSTM": _RECURRENT,
    "RNN": _RECURRENT,
    # Two tensors, or one and a constant.
    "Add": _arithmetic("add", np.add),
    "Mul": _arithmetic("mul", np.multiply),
    "Div": _arithmetic("div", np.divide),
    "Max": _arithmetic("max", np.maximum, binary.refuses),
    "Min": _arithmetic("min", np.minimum, binary.refuses),
    "PRelu": _arithmetic("prelu", lambda x, slope: np.where(x < 0, slope * x, x)),
    "Pow": OnnxOperator("unary", quantized=False, of_two=np.power),
    "Sub": _arithmetic("sub", np.subtract),
    # Means, normalizations and softmax.
    "AveragePool": OnnxOperator(
        "reduction",
        pooling.refuses_pool,
        integer=IntegerForm(pooling.average_pool),
        floating=FloatForm(float_layers.average_pool),
        limits="1-D and 2-D, explicit padding, no dilation",
    ),
    "GlobalAveragePool": OnnxOperator(
        "reduction",
        pooling.refuses_mean,
        integer=IntegerForm(pooling.mean),
        floating=FloatForm(float_layers.mean),
    ),
    "ReduceMean": OnnxOperator(
        "reduction",
        pooling.refuses_mean,
        integer=IntegerForm(pooling.mean),
        floating=FloatForm(float_layers.mean),
        limits="constant axes",
    ),
    "GroupNormalization": _normalization(),
    "InstanceNormalization": _normalization(),
    "LayerNormalization": _normalization("constant scale and bias, one result", _NORMALIZED_ROWS),
    "LpNormalization": _normalization("p of 1 or 2"),
    "RMSNormalization": _normalization("constant scale", _NORMALIZED_ROWS),
    "Softmax": OnnxOperator(
        "unary",
        integer=IntegerForm(pooling.softmax, clamps=False),
        output=_UNIT_INTERVAL,
        output_narrows=True,  # a long row's numbers may all be less than one step of 1/256
    ),
    # Elements in other places.
    "Concat": OnnxOperator(
        "concat",
        inputs=every_input,
        integer=IntegerForm(arrangement.concat, clamps=False),
        floating=FloatForm(float_layers.concat, clips=False),
    ),
    "Pad": OnnxOperator(
        "movement",
        arrangement.refuses_pad,
        integer=IntegerForm(arrangement.pad, clamps=False),
        floating=FloatForm(float_layers.pad, clips=False),
        limits="constant padding by constant amounts, none negative, no chosen axes",
    ),
    "MaxPool": OnnxOperator(
        "movement",
        pooling.refuses_pool,
        integer=IntegerForm(pooling.max_pool, keeps_scale=True),
        floating=FloatForm(float_layers.max_pool, clips=False),
        limits="1-D and 2-D, explicit padding, no indices",
    ),
    "Resize": OnnxOperator(
        "movement",
        resizing.refuses,
        integer=IntegerForm(resizing.resize, keeps_scale=True),
        floating=FloatForm(resizing.float_resize, clips=False),
        limits="height and width: linear, or nearest neighbour by whole factors, where that is repetition",
    ),
    "DepthToSpace": OnnxOperator("movement", movement.refuses, move=movement.depth_to_space),
    "Flatten": OnnxOperator("movement", movement.refuses, move=movement.to_output_shape),
    "Gather": OnnxOperator(
        "movement",
        movement.refuses_gather,
        move=movement.gather,
        limits="one constant index along an axis",
    ),
    "Identity": OnnxOperator("movement", movement.refuses, move=movement.same, quantized=False),
    "Reshape": OnnxOperator("movement", movement.refuses, move=movement.to_output_shape),
    "Slice": OnnxOperator("movement", movement.refuses_slice, move=movement.take, limits="constant bounds"),
    "SpaceToDepth": OnnxOperator("movement", movement.refuses, move=movement.space_to_depth),
    "Split": OnnxOperator("movement", movement.refuses, move=movement.split),
    "Squeeze": OnnxOperator("movement", movement.refuses, move=movement.to_output_shape),
    "Transpose": OnnxOperator("movement", movement.refuses_transpose, move=movement.transpose),
    "Unsqueeze": OnnxOperator("movement", movement.refuses, move=movement.to_output_shape),
    # Functions of one element, of which edgec makes tables.
    "Abs": _curve(np.abs),
    "Acos": _left_alone(np.arccos),
    "Acosh": _left_alone(np.arccosh),
    "Asin": _left_alone(np.arcsin),
    "Asinh": _left_alone(np.arcsinh),
    "Atan": _left_alone(np.arctan),
    "Atanh": _left_alone(np.arctanh),
    "Ceil": _left_alone(np.ceil),
    "Celu": OnnxOperator("unary", function=unary.celu),
    "Clip": OnnxOperator(
        "unary",
        unary.refuses_clip,
        function=unary.clip,
        clamps=True,
        limits=f"constant limits; {_FREE}",
    ),
    "Cos": _left_alone(np.cos),
    "Cosh": _left_alone(np.cosh),
    "Elu": OnnxOperator("unary", function=unary.elu),
    "Erf": _curve(unary.erf),
    "Exp": _curve(np.exp),
    "Floor": _left_alone(np.floor),
    "Gelu": OnnxOperator("unary", function=unary.gelu),
    "HardSigmoid": OnnxOperator("unary", function=unary.hard_sigmoid),
    "HardSwish": _curve(lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "LeakyRelu": OnnxOperator(
        "unary", function=lambda node, x: np.where(x < 0, attribute(node, "alpha", 0.01) * x, x)
    ),
    "Log": _left_alone(np.log),
    "Mish": _curve(lambda x: x * np.tanh(np.logaddexp(0, x))),
    "Neg": _curve(np.negative),
    "Reciprocal": _left_alone(lambda x: 1 / x),
    "Relu": _curve(lambda x: np.maximum(x, 0), clamps=True, limits=_FREE),
    "Round": _left_alone(np.rint),
    "Selu": OnnxOperator("unary", function=unary.selu),
    "Shrink": OnnxOperator("unary", function=unary.shrink, quantized=False),
    "Sigmoid": _curve(lambda x: 1 / (1 + np.exp(-x)), output=_UNIT_INTERVAL),
    "Sign": _left_alone(np.sign),
    "Sin": _left_alone(np.sin),
    "Sinh": _left_alone(np.sinh),
    "Softplus": _curve(lambda x: np.logaddexp(0, x)),
    "Softsign": _curve(lambda x: x / (1 + np.abs(x))),
    "Sqrt": _left_alone(np.sqrt),
    "Swish": OnnxOperator("unary", function=unary.swish, quantized=False),
    "Tan": _left_alone(np.tan),
    "Tanh": _curve(np.tanh),
    "ThresholdedRelu": OnnxOperator("unary", function=unary.thresholded),
}
