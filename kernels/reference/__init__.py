"""The integer semantics in numpy: what every kernel on every target must equal, bit for bit.

This file is docs/semantics.md as code, and is kept plain enough to be read as such. int8 tensors
are flat or shaped arrays; every function returns an array in the physical layout of its operation. The
arithmetic after an integer sum is float32 IEEE 754, one rounding per operation, nothing contracted; or, for
cores without an FPU (`requantization="fixed-point"`), integers of 32 and 64 bits.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.operations import (
    AveragePool,
    Binary,
    Chain,
    Concat,
    Conv2d,
    Dequantize,
    FloatAveragePool,
    FloatBinary,
    FloatConv2d,
    FloatMean,
    Island,
    Lookup,
    MaxPool,
    Mean,
    Network,
    Operation,
    Pad,
    Quantize,
    Rearrange,
    Softmax,
)
from edgec.kernels.reference import oracle

Array = NDArray[Any]


FLOAT, FIXED = "float32", "fixed-point"
"""The forms of requantization: a target has one of them."""


def requantize(
    accumulator: Array, multiplier: Array | np.float32, zero_point: int, low: int, high: int,
    requantization: str = FLOAT,
) -> Array:  # fmt: skip
    """clamp(rne(float32(accumulator) * multiplier) + zero_point, low, high), as int8.

    In the fixed-point form the product is exact, and halves are rounded up.
    """
    if requantization == FIXED:
        mantissa, shift = fixed_point(multiplier)
        return clamp(rounded_shift(accumulator.astype(np.int64) * mantissa, shift), zero_point, low, high)
    product = accumulator.astype(np.float32) * multiplier
    return clamp(np.rint(product), zero_point, low, high)


def fixed_point(value: Array | np.float32) -> tuple[Array, Array]:
    """Return (mantissa, shift) of positive float32: value = mantissa / 2**shift, exactly.

    mantissa has 24 bits. Zero and subnormal numbers get a larger one, whose products are below a half anyway.
    """
    bits = np.asarray(value, np.float32).view(np.int32).astype(np.int64)
    return bits & 0x7FFFFF | 0x800000, 150 - (bits >> 23)


def rounded_shift(product: Array, shift: Array) -> Array:
    """floor(product / 2**shift + 1/2); shifts are cut to [1, 62], where results are 0 or leave int8."""
    bounded = np.clip(shift, 1, 62)
    return np.asarray(product + (np.int64(1) << (bounded - 1)) >> bounded)


def clamp(rounded: Array, zero_point: int, low: int, high: int) -> Array:
    """Add the zero point to rounded float32 values and clamp to int8."""
    return np.clip(rounded.astype(np.float64) + zero_point, low, high).astype(np.int8)


def conv2d(op: Conv2d, x: Array, other: Array | None = None, requantization: str = FLOAT) -> Array:
    """See `Conv2d`; the products are summed in float64 matrix products, exact below 2**53."""
    total = _convolved(op, x.astype(np.float64) - op.input_zero_point).astype(np.int64) + op.bias
    if total.size and np.abs(total).max() >= 2**31:
        raise OverflowError("accumulator leaves int32")
    bounds = op.output_zero_point, op.low, op.high
    result = requantize(total.astype(np.int32), op.multiplier, *bounds, requantization)
    if op.residual is None:
        return result
    assert other is not None, "a residual operation has a second input"
    return binary(op.residual, result, other, requantization).reshape(result.shape)


def chain(op: Chain, x: Array, other: Array | None = None, requantization: str = FLOAT) -> Array:
    """See `Chain`."""
    *stages, last = op.stages
    for stage in stages:
        x = conv2d(stage, x, requantization=requantization)
    return conv2d(last, x, other, requantization)


def float_conv2d(op: FloatConv2d, x: Array, other: Array | None = None) -> Array:
    """See `FloatConv2d`; in float64, rounded once."""
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


def _strided(x: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Array:
    """View of a flat array by strides in elements."""
    index = np.full(shape, offset, np.int64)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        index += (np.arange(size) * stride).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.asarray(x.reshape(-1)[index])


def binary(op: Binary, a: Array, b: Array, requantization: str = FLOAT) -> Array:
    """See `Binary`."""
    if requantization == FIXED:
        return _fixed_binary(op, a, b)
    left, right = (
        (_strided(x, op.shape, strides).astype(np.int32) - zero_point).astype(np.float32) * np.float32(factor)
        for x, strides, zero_point, factor in zip((a, b), op.strides, op.zero_points, op.factors, strict=True)
    )
    result = left + right if op.kind == "add" else left * right
    return clamp(np.rint(result), op.output_zero_point, op.low, op.high)


def _fixed_binary(op: Binary, a: Array, b: Array) -> Array:
    """Factors with one shift, so that an addition rounds once; each is below 2**31, the smaller one cut."""
    left, right = (
        _strided(x, op.shape, strides).astype(np.int64) - zero_point
        for x, strides, zero_point in zip((a, b), op.strides, op.zero_points, strict=True)
    )
    (one, two), shifts = fixed_point(np.array(op.factors, np.float32))
    if op.kind == "mul":
        product, shift = left * right * (one * two >> 17), shifts.sum() - 17
    else:
        shift = shifts.min() + 7
        one, two = ((m << 7) >> min(31, s - shifts.min()) for m, s in zip((one, two), shifts, strict=True))
        product = left * one + right * two
    return clamp(rounded_shift(product, shift), op.output_zero_point, op.low, op.high)


def float_binary(op: FloatBinary, a: Array, b: Array) -> Array:
    """See `FloatBinary`."""
    left, right = (_strided(x, op.shape, strides) for x, strides in zip((a, b), op.strides, strict=True))
    return np.asarray(np.clip(left + right if op.kind == "add" else left * right, op.low, op.high))


def lookup(op: Lookup, x: Array) -> Array:
    """See `Lookup`."""
    return np.asarray(op.table[x.view(np.int8).astype(np.int32) + 128])


def quantize(op: Quantize, x: Array) -> Array:
    """See `Quantize`."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is clamped; a signalling NaN is one, too
        quotient = x.astype(np.float32) / np.float32(op.scale)
    return clamp(np.rint(np.where(np.isnan(quotient), -np.inf, quotient)), op.zero_point, -128, 127)


def dequantize(op: Dequantize, x: Array) -> Array:
    """See `Dequantize`."""
    return np.asarray((x.astype(np.int32) - op.zero_point).astype(np.float32) * np.float32(op.scale))


def rearrange(op: Rearrange, x: Array) -> Array:
    """See `Rearrange`."""
    return _strided(x, op.shape, op.strides, op.offset)


def concat(op: Concat, *inputs: Array) -> Array:
    """See `Concat`."""
    parts = []
    for x, inner, table in zip(inputs, op.inner, op.tables, strict=True):
        part = x.reshape(op.outer, inner)
        parts.append(part if table is None else table[part.astype(np.int32) + 128])
    return np.concatenate(parts, axis=1)


def pad(op: Pad, x: Array) -> Array:
    """See `Pad`."""
    return np.pad(x.reshape(op.shape), op.pads, constant_values=op.value)


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
    """See `MaxPool`."""
    lowest = -np.inf if op.dtype == "float32" else np.iinfo(op.dtype).min
    return np.asarray(_windows(op, x, lowest, op.dilations)[0].max(axis=-1))


def average_pool(op: AveragePool, x: Array, requantization: str = FLOAT) -> Array:
    """See `AveragePool`."""
    windows, positions = _windows(op, x.astype(np.int32), op.input_zero_point)
    total = windows.sum(axis=-1, dtype=np.int32) - positions * op.input_zero_point
    bounds = op.output_zero_point, op.low, op.high
    return requantize(total, op.multiplier[:, :, None], *bounds, requantization)


def float_average_pool(op: FloatAveragePool, x: Array) -> Array:
    """See `FloatAveragePool`."""
    total = np.zeros(op.output_shape, np.float32)
    windows, positions = _windows(op, x, 0)
    for index in range(positions):
        total += windows[..., index]
    return np.asarray(np.clip(total * op.multiplier[:, :, np.newaxis], op.low, op.high))


def float_mean(op: FloatMean, x: Array) -> Array:
    """See `FloatMean`."""
    terms = x.reshape(op.outer, op.reduced, op.inner)
    total = np.zeros((op.outer, op.inner), np.float32)
    for index in range(op.reduced):
        total += terms[:, index]
    return np.asarray(np.clip(total * np.float32(1 / op.reduced), op.low, op.high))


def mean(op: Mean, x: Array, requantization: str = FLOAT) -> Array:
    """See `Mean`."""
    total = x.reshape(op.outer, op.reduced, op.inner).astype(np.int64).sum(axis=1)
    total -= op.reduced * op.input_zero_point
    bounds = op.output_zero_point, op.low, op.high
    return requantize(total.astype(np.int32), np.float32(op.multiplier), *bounds, requantization)


def softmax(op: Softmax, x: Array, requantization: str = FLOAT) -> Array:
    """See `Softmax`."""
    rows = x.reshape(op.outer, op.length).astype(np.int32)
    exponentials = op.table[rows.max(axis=1, keepdims=True) - rows]
    sums = exponentials.sum(axis=1, keepdims=True, dtype=np.int64).astype(np.int32)
    if requantization == FIXED:
        # The sum shifted left as far as it goes, its upper 16 bits, and one division of 32 bits by them.
        free = 31 - np.frexp(sums)[1].astype(np.int64)
        reciprocal = 2**31 // ((sums.astype(np.int64) << free) >> 15)
        mantissa, shift = fixed_point(np.float32(op.inverse_scale))
        products = exponentials.astype(np.int64) * (mantissa * reciprocal >> 10)
        return clamp(rounded_shift(products, shift + 36 - free), op.output_zero_point, -128, 127)
    total = sums.astype(np.float32)
    factor = np.float32(op.inverse_scale) / total
    return clamp(np.rint(exponentials.astype(np.float32) * factor), op.output_zero_point, -128, 127)


SEMANTICS: dict[type[Operation], Callable[..., Array]] = {
    AveragePool: average_pool,
    Binary: binary,
    Chain: chain,
    Concat: concat,
    Conv2d: conv2d,
    Dequantize: dequantize,
    FloatAveragePool: float_average_pool,
    FloatBinary: float_binary,
    FloatConv2d: float_conv2d,
    FloatMean: float_mean,
    Lookup: lookup,
    MaxPool: max_pool,
    Mean: mean,
    Pad: pad,
    Quantize: quantize,
    Rearrange: rearrange,
    Softmax: softmax,
}
"""What every exact operation computes."""

REQUANTIZING = (AveragePool, Binary, Chain, Conv2d, Mean, Softmax)
"""Those whose meaning depends on the form of requantization, their last argument."""


Evaluator = Callable[[bytes, Mapping[str, Array]], Mapping[str, Array]]
"""What ONNX says: a serialized model and its inputs by name in, its outputs by name out."""


def run_onnx(
    model: bytes,
    inputs: Iterable[Array],
    order: tuple[int, ...] | None = None,
    onnx_says: Evaluator = oracle.evaluate,
) -> list[Array]:
    """Evaluate a serialized ONNX model; inputs and result are in the model's order.

    With `order` tensors come and go with their axes in that order. Raises OracleError.
    """
    import onnx  # only float islands and float models need it

    feeds = {}
    for value, given in zip(onnx.load_from_string(model).graph.input, inputs, strict=True):
        array = given
        if order is not None:
            extents = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
            array = given.reshape([extents[axis] for axis in order]).transpose(np.argsort(order))
        feeds[value.name] = array
    results = onnx_says(model, feeds).values()
    return list(results) if order is None else [array.transpose(order) for array in results]


def compute(
    operation: Operation,
    inputs: Sequence[Array],
    requantization: str = FLOAT,
    onnx_says: Evaluator = oracle.evaluate,
) -> list[Array]:
    """Return the outputs of an operation."""
    if isinstance(operation, Island):
        return run_onnx(operation.model, inputs, operation.order, onnx_says)
    form = {"requantization": requantization} if isinstance(operation, REQUANTIZING) else {}
    return [SEMANTICS[type(operation)](operation, *inputs, **form)]


def evaluate(
    network: Network,
    inputs: Mapping[str, Array],
    overrides: Mapping[str, Array] | None = None,
    requantization: str = FLOAT,
    onnx_says: Evaluator = oracle.evaluate,
) -> dict[str, Array]:
    """Return every tensor of `network`, by name, shaped as the network declares it; islands as `onnx_says`.

    `overrides` gives values for an island's outputs (a device's own, within tolerance of the reference), so
    that every integer layer behind an island can still be compared bit for bit. Raises OracleError where
    `inputs` say that a result has another shape than the model declares.
    """
    values: dict[str, Array] = {name: np.asarray(inputs[name]) for name in network.inputs}
    values.update(network.constants)
    for operator in network.operators:
        arguments = [values[name] for name in operator.inputs]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # infinities are values, too
            results = compute(operator.operation, arguments, requantization, onnx_says)
        for name, result in zip(operator.outputs, results, strict=True):
            tensor = network.tensors[name]
            value = np.asarray((overrides or {}).get(name, result))
            if value.size != math.prod(tensor.shape):  # an input says which axes are reduced, or the like
                raise oracle.OracleError(
                    f"'{name}' has the shape {list(value.shape)} for these inputs, and in the model "
                    f"{list(tensor.shape)}: give samples of inputs that fit it (--calibration, --data)"
                )
            values[name] = (value.view(tensor.dtype) if value.itemsize == 1 else value).reshape(tensor.shape)
    return values
