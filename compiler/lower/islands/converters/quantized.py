"""Products of 8-bit integers that aren't written with QuantizeLinear and DequantizeLinear."""

import numpy as np
from tvm import relax
from tvm.ir import Expr

from edgec.compiler.lower.islands.converters.given import Converter, Given, array, dtype_of, shape_of


def _centred(given: Given, index: int, zero_index: int, axis: int | None = None) -> Expr:
    """Return an input less its zero point, in int32; `axis` is that of a zero point per channel."""
    values = given.emit(relax.op.astype(given.inputs[index], "int32"))
    zero = given.input(zero_index)
    if zero is None:
        return values
    zero = _along(given, given.emit(relax.op.astype(zero, "int32")), len(shape_of(values)), axis)
    return given.emit(relax.op.subtract(values, zero))


def _along(given: Given, vector: Expr, rank: int, axis: int | None) -> Expr:
    """Return a vector as it is broadcast along one axis; anything else as it is."""
    shape = shape_of(vector)
    if axis is None or len(shape) != 1 or shape[0] == 1:
        return vector
    return given.emit(relax.op.reshape(vector, [-1 if a == axis else 1 for a in range(rank)]))


def _requantized(given: Given, total: Expr, factor: Expr) -> Expr:
    """clamp(rne(total * factor) + zero point)."""
    limits = np.iinfo(given.dtype)
    real = given.emit(relax.op.multiply(given.emit(relax.op.astype(total, "float32")), factor))
    zero = given.emit(relax.op.astype(given.inputs[7], "float32"))
    moved = given.emit(relax.op.add(given.emit(relax.op.round(real)), zero))
    low, high = array(limits.min, "float32"), array(limits.max, "float32")
    clamped = given.emit(relax.op.minimum(given.emit(relax.op.maximum(moved, low)), high))
    return relax.op.astype(clamped, given.dtype)


def _factor(given: Given, rank: int, axis: int | None) -> Expr:
    """Return scale_a * scale_b / scale_y."""
    scales = [given.inputs[1], _along(given, given.inputs[4], rank, axis), given.inputs[6]]
    wide = [
        scale if dtype_of(scale) == "float32" else given.emit(relax.op.astype(scale, "float32"))
        for scale in scales
    ]
    return given.emit(relax.op.divide(given.emit(relax.op.multiply(wide[0], wide[1])), wide[2]))


def _qlinear_matmul(given: Given) -> Expr:
    a, b = _centred(given, 0, 2), _centred(given, 3, 5)
    total = given.emit(relax.op.matmul(a, b, out_dtype="int32"))
    return _requantized(given, total, _factor(given, len(given.shape), None))


def _convolved(given: Given, x: Expr, weights: Expr) -> Expr:
    count = len(shape_of(x)) - 2
    if count != 2 or given.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise NotImplementedError("convolutions of other forms")
    return given.emit(
        relax.op.nn.conv2d(
            x, weights,
            strides=given.attributes.get("strides", [1] * count),
            padding=given.attributes.get("pads", [0] * 2 * count),
            dilation=given.attributes.get("dilations", [1] * count),
            groups=given.attributes.get("group", 1),
            out_dtype="int32",
        )
    )  # fmt: skip


def _conv_integer(given: Given) -> Expr:
    return _convolved(given, _centred(given, 0, 2), _centred(given, 1, 3, axis=0))


def _qlinear_conv(given: Given) -> Expr:
    total = _convolved(given, _centred(given, 0, 2), _centred(given, 3, 5, axis=0))
    if given.input(8) is not None:
        bias = _along(given, given.inputs[8], len(given.shape), 1)
        total = given.emit(relax.op.add(total, bias))
    return _requantized(given, total, _factor(given, len(given.shape), 1))


QUANTIZED: dict[str, Converter] = {
    "ConvInteger": _conv_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
}
