"""Pooling, means, softmax, normalizations."""

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import (
    PARTIAL_SUMS,
    AveragePool,
    FloatAveragePool,
    FloatMean,
    FloatNormalize,
    MaxPool,
    Mean,
    Normalize,
    Softmax,
    code_range,
)
from edgec.kernels.reference.rounding import (
    FIXED,
    FLOAT,
    bit_length,
    clamp,
    fixed_point,
    requantize,
    rounded_shift,
)
from edgec.targets.descriptor import Requantization


def _windows(
    op: MaxPool | AveragePool | FloatAveragePool,
    x: Array,
    outside: float,
    dilations: tuple[int, int] = (1, 1),
) -> tuple[Array, int]:
    """[N, OH, OW, C, positions] values of every pooling window, `outside` where it leaves the image."""
    n, h, w, c = op.input_shape
    _, oh, ow, _ = op.output_shape
    reach = [(extent - 1) * apart + 1 for extent, apart in zip(op.kernel, dilations, strict=True)]
    below = max(0, (oh - 1) * op.strides[0] + reach[0] - op.pads[0] - h)
    right = max(0, (ow - 1) * op.strides[1] + reach[1] - op.pads[1] - w)
    image = np.pad(
        x.reshape(n, h, w, c),
        ((0, 0), (op.pads[0], below), (op.pads[1], right), (0, 0)),
        constant_values=outside,
    )
    views = []
    for row in range(0, reach[0], dilations[0]):
        for column in range(0, reach[1], dilations[1]):
            rows = slice(row, row + (oh - 1) * op.strides[0] + 1, op.strides[0])
            columns = slice(column, column + (ow - 1) * op.strides[1] + 1, op.strides[1])
            views.append(image[:, rows, columns])
    return np.stack(views, axis=-1), len(views)


def max_pool(op: MaxPool, x: Array) -> Array:
    """Return the largest element of every window; padding is never the largest."""
    lowest = -np.inf if op.dtype == "float32" else np.iinfo(op.dtype).min
    return np.asarray(_windows(op, x, lowest, op.dilations)[0].max(axis=-1))


def average_pool(op: AveragePool, x: Array, requantization: Requantization = FLOAT) -> Array:
    """Return the mean of every window: an integer sum, times one factor per position, requantized."""
    windows, positions = _windows(op, x.astype(np.int32), op.input_zero_point)
    total = windows.sum(axis=-1, dtype=np.int32) - positions * op.input_zero_point
    bounds = op.output_zero_point, op.low, op.high, op.dtype
    return requantize(total, op.multiplier[:, :, None], *bounds, requantization)


def float_average_pool(op: FloatAveragePool, x: Array) -> Array:
    """Return the mean of every window, added up in the order of the window's positions."""
    total = np.zeros(op.output_shape, np.float32)
    windows, positions = _windows(op, x, 0)
    for index in range(positions):
        total += windows[..., index]
    return np.asarray(np.clip(total * op.multiplier[:, :, np.newaxis], op.low, op.high))


def float_mean(op: FloatMean, x: Array) -> Array:
    """Return the mean along the reduced axis, added up in its order."""
    terms = x.reshape(op.outer, op.reduced, op.inner)
    total = np.zeros((op.outer, op.inner), np.float32)
    for index in range(op.reduced):
        total += terms[:, index]
    return np.asarray(np.clip(total * np.float32(1 / op.reduced), op.low, op.high))


def float_normalize(op: FloatNormalize, x: Array) -> Array:
    """Normalize every row, added up in `PARTIAL_SUMS` sums."""
    rows, share = x.reshape(op.outer, op.length), np.float32(1 / op.length)
    if op.kind == "variance":
        rows = rows - _row_sums(rows) * share
    factor = np.float32(1) / np.sqrt(_row_sums(rows * rows) * share + np.float32(op.epsilon))
    return np.asarray((rows * factor) * op.multiplier + op.bias)


def _row_sums(rows: Array) -> Array:
    """Return [outer, 1], of float32 rows."""
    sums = np.zeros((len(rows), PARTIAL_SUMS), np.float32)
    for index in range(rows.shape[1]):
        sums[:, index % PARTIAL_SUMS] += rows[:, index]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums


def mean(op: Mean, x: Array, requantization: Requantization = FLOAT) -> Array:
    """Return the mean along the reduced axis: an integer sum, requantized."""
    total = x.reshape(op.outer, op.reduced, op.inner).astype(np.int64).sum(axis=1)
    total -= op.reduced * op.input_zero_point
    bounds = op.output_zero_point, op.low, op.high, op.dtype
    return requantize(total.astype(np.int32), np.float32(op.multiplier), *bounds, requantization)


def softmax(op: Softmax, x: Array, requantization: Requantization = FLOAT) -> Array:
    """Compute softmax of every row: integer exponentials from a table, and one division by their sum."""
    rows = x.reshape(op.outer, op.length).astype(np.int32)
    exponentials = op.table[rows.max(axis=1, keepdims=True) - rows]
    sums = exponentials.sum(axis=1, keepdims=True, dtype=np.int64).astype(np.int32)
    bounds = op.output_zero_point, *code_range(op.dtype), op.dtype
    if requantization == FIXED:
        # The sum shifted left as far as it goes, its upper 16 bits, and one division of 32 bits by them.
        free = 31 - np.frexp(sums)[1].astype(np.int64)
        reciprocal = 2**31 // ((sums.astype(np.int64) << free) >> 15)
        mantissa, shift = fixed_point(np.float32(op.inverse_scale))
        products = exponentials.astype(np.int64) * (mantissa * reciprocal >> 10)
        return clamp(rounded_shift(products, shift + 36 - free), *bounds)
    total = sums.astype(np.float32)
    factor = np.float32(op.inverse_scale) / total
    return clamp(np.rint(exponentials.astype(np.float32) * factor), *bounds)


def normalize(op: Normalize, x: Array, requantization: Requantization = FLOAT) -> Array:
    """Normalize every group: exact integer sums, one root and one division, one factor for each element."""
    shape = op.outer, op.rows, op.groups, op.length
    centred = x.reshape(shape).astype(np.int64) - op.input_zero_point
    squares = (centred * centred).sum(axis=(1, 3), keepdims=True)
    elements, spread = centred, squares
    if op.kind == "variance":
        total = centred.sum(axis=(1, 3), keepdims=True)
        elements, spread = op.count * centred - total, op.count * squares - total * total
    elif op.kind == "magnitudes":
        spread = np.abs(centred).sum(axis=(1, 3), keepdims=True) ** 2
    if requantization == FIXED:
        return _fixed_normalize(op, elements, spread)
    upper, lower = ((spread >> 24).astype(np.float32), (spread & 0xFFFFFF).astype(np.float32))
    spread = (upper * np.float32(2**24) + lower) + np.float32(op.epsilon)
    factor = (np.float32(1) / np.sqrt(spread)) * op.multiplier.reshape(op.groups, op.length)
    result = elements.astype(np.float32) * factor + op.bias.reshape(op.groups, op.length)
    return clamp(np.rint(result), op.output_zero_point, op.low, op.high, op.dtype)


def _fixed_normalize(op: Normalize, elements: Array, spread: Array) -> Array:
    """Take a root of 16 bits, and its reciprocal by one division of 32 bits; factors have one shift."""
    spread = np.maximum(spread + int(np.rint(min(op.epsilon, 2.0**60))), 1)
    halved = (bit_length(spread) - 31) >> 1  # 4**halved brings the spread to 31 or 32 bits
    upper = (spread >> np.maximum(2 * halved, 0)) << np.maximum(-2 * halved, 0)
    reciprocal = 2**31 // np.floor(np.sqrt(upper.astype(np.float64))).astype(np.int64)
    unit = elements * reciprocal >> (15 + halved)  # in units of 2**-16
    multiplier, bias, shift = op.fixed_affine
    shape = op.groups, op.length
    result = unit * multiplier.reshape(shape) + (bias.astype(np.int64) << 16).reshape(shape)
    rounded = rounded_shift(result, np.asarray(shift + 16))
    return clamp(rounded, op.output_zero_point, op.low, op.high, op.dtype)
