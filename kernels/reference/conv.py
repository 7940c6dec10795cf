"""Convolutions."""

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import Chain, Conv2d, FloatConv2d
from edgec.kernels.reference.pointwise import binary
from edgec.kernels.reference.rounding import FLOAT, requantize
from edgec.targets.descriptor import Requantization


def conv2d(op: Conv2d, x: Array, other: Array | None = None, requantization: Requantization = FLOAT) -> Array:
    """Compute a convolution: products summed in float64, exact below 2**53, requantized; the residual."""
    total = _convolved(op, x.astype(np.float64) - op.input_zero_point).astype(np.int64) + op.bias
    if total.size and np.abs(total).max() >= 2**31:
        raise OverflowError("accumulator leaves int32")
    bounds = op.output_zero_point, op.low, op.high, op.dtype
    result = requantize(total.astype(np.int32), op.multiplier, *bounds, requantization)
    if op.residual is None:
        return result
    assert other is not None, "a residual operation has a second input"
    return binary(op.residual, result, other, requantization).reshape(result.shape)


def chain(op: Chain, x: Array, other: Array | None = None, requantization: Requantization = FLOAT) -> Array:
    """Compute the convolutions one after the other."""
    *stages, last = op.stages
    for stage in stages:
        x = conv2d(stage, x, requantization=requantization)
    return conv2d(last, x, other, requantization)


def float_conv2d(op: FloatConv2d, x: Array, other: Array | None = None) -> Array:
    """Compute a float convolution in float64, rounded once."""
    total = _convolved(op, x.astype(np.float64)) + op.bias
    if op.residual:
        assert other is not None, "a residual operation has a second input"
        total += other.reshape(total.shape)
    return np.clip(total, op.low, op.high).astype(np.float32)


def _convolved(op: Conv2d | FloatConv2d, x: Array) -> Array:
    """Return sums of products in float64, [N, OH, OW, outputs]; padding is zero."""
    n, oh, ow, outputs = op.output_shape
    _, kh, kw, per_group = op.weights.shape
    top, left, bottom, right = op.pads
    image = np.pad(x.reshape(op.input_shape), ((0, 0), (top, bottom), (left, right), (0, 0)))
    group_outputs = outputs // op.groups
    accumulator = np.zeros((n, oh, ow, outputs), np.float64)
    for row in range(kh):
        for column in range(kw):
            first_row, first_column = row * op.dilations[0], column * op.dilations[1]
            rows = slice(first_row, first_row + (oh - 1) * op.strides[0] + 1, op.strides[0])
            columns = slice(first_column, first_column + (ow - 1) * op.strides[1] + 1, op.strides[1])
            window = image[:, rows, columns]
            weights = op.weights[:, row, column].astype(np.float64)
            if per_group == 1 and group_outputs == 1:  # depthwise
                accumulator += window * weights[:, 0]
                continue
            for g in range(op.groups):
                taken = slice(g * group_outputs, (g + 1) * group_outputs)
                part = window[..., g * per_group : (g + 1) * per_group]
                accumulator[..., taken] += part @ weights[taken].T
    return accumulator
