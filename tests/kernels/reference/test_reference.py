"""The reference against definitions of its own: one output element at a time, in plain Python numbers."""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgec.kernels import reference
from edgec.kernels.operations import (
    Attention,
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
    FloatNormalize,
    Interpolate,
    Lookup,
    Matrices,
    MaxPool,
    Mean,
    Network,
    Normalize,
    Operation,
    Operator,
    Pad,
    Product,
    Quantization,
    Quantize,
    Rearrange,
    Recurrent,
    Softmax,
    Tensor,
)
from tests.kernels.operations import CASES, Array, Case

Index = Sequence[int]
COMMON = settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def f32(value: float) -> float:
    """The float32 nearest to a double, half to even. Products, quotients and sums of two float32 round right
    this way: a double has more than twice their digits (Figueroa, "When is double rounding innocuous?")."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def int8(value: float, zero_point: int, low: int, high: int) -> int:
    if math.isinf(value):
        return high if value > 0 else low
    return min(max(round(value) + zero_point, low), high)  # Python rounds half to even


def requantize(accumulator: int, multiplier: float, op: Any) -> int:
    return int8(f32(f32(accumulator) * float(multiplier)), op.output_zero_point, op.low, op.high)


def conv2d(op: Conv2d, inputs: Sequence[Array], index: Index) -> int:
    image, row, column, output = index
    outputs, height, width, depth = op.weights.shape
    first = output // (outputs // op.groups) * depth
    total = int(op.bias[output])
    for r, c, k in product(range(height), range(width), range(depth)):
        y = row * op.strides[0] + r * op.dilations[0] - op.pads[0]
        x = column * op.strides[1] + c * op.dilations[1] - op.pads[1]
        inside = 0 <= y < op.input_shape[1] and 0 <= x < op.input_shape[2]
        value = int(inputs[0][image, y, x, first + k]) if inside else op.input_zero_point
        total += (value - op.input_zero_point) * int(op.weights[output, r, c, k])
    result = requantize(total, op.multiplier[output], op)
    if op.residual is None:
        return result
    return _combined(op.residual, (result, int(inputs[1].reshape(op.output_shape)[index])))


def binary(op: Binary, inputs: Sequence[Array], index: Index) -> int:
    return _combined(op, [int(x[_flat(index, s)]) for x, s in zip(inputs, op.strides, strict=True)])


def _combined(op: Binary, values: Sequence[int]) -> int:
    terms = [
        f32((value - zero_point) * factor)
        for value, zero_point, factor in zip(values, op.zero_points, op.factors, strict=True)
    ]
    if op.kind == "div" and terms[1] == 0:
        return op.high if terms[0] > 0 else op.low
    return int8(combine(op.kind, *terms), op.output_zero_point, op.low, op.high)


def combine(kind: str, one: float, two: float) -> float:
    results = {"add": one + two, "sub": one - two, "mul": one * two, "prelu": one * two if one < 0 else one}
    results |= {"div": one / two if two else one * math.inf, "max": max(one, two), "min": min(one, two)}
    return f32(results[kind])


def clip(value: float, op: Any) -> float:
    return min(max(value, f32(op.low)), f32(op.high))


def float_conv2d(op: FloatConv2d, inputs: Sequence[Array], index: Index) -> Any:
    """Return what is equal to the sum of exact products, but for float64's own rounding."""
    image, row, column, output = index
    outputs, height, width, depth = op.weights.shape
    first = output // (outputs // op.groups) * depth
    terms = [op.bias[output].item(), *(other[tuple(index)].item() for other in inputs[1:])]
    for r, c, k in product(range(height), range(width), range(depth)):
        y = row * op.strides[0] + r * op.dilations[0] - op.pads[0]
        x = column * op.strides[1] + c * op.dilations[1] - op.pads[1]
        if 0 <= y < op.input_shape[1] and 0 <= x < op.input_shape[2]:
            terms.append(inputs[0][image, y, x, first + k].item() * op.weights[output, r, c, k].item())
    magnitude = math.fsum(map(abs, terms))
    return pytest.approx(clip(f32(math.fsum(terms)), op), rel=2**-23, abs=2**-40 * magnitude)


def float_binary(op: FloatBinary, inputs: Sequence[Array], index: Index) -> float:
    a, b = (x[_flat(index, strides)].item() for x, strides in zip(inputs, op.strides, strict=True))
    return clip(combine(op.kind, a, b), op)


def float_average_pool(op: FloatAveragePool, inputs: Sequence[Array], index: Index) -> float:
    total = 0.0
    for value in _window(op, inputs[0], index):
        total = f32(total + value)
    return clip(f32(total * op.multiplier[index[1], index[2]].item()), op)


def float_mean(op: FloatMean, inputs: Sequence[Array], index: Index) -> float:
    outer, inner = index
    total = 0.0
    for r in range(op.reduced):
        total = f32(total + inputs[0][(outer * op.reduced + r) * op.inner + inner].item())
    return clip(f32(total * f32(1 / op.reduced)), op)


def float_normalize(op: FloatNormalize, inputs: Sequence[Array], index: Index) -> float:
    row = [value.item() for value in inputs[0].reshape(op.outer, op.length)[index[0]]]
    share = f32(1 / op.length)
    if op.kind == "variance":
        mean = f32(_row_sum(row) * share)
        row = [f32(value - mean) for value in row]
    spread = f32(f32(_row_sum([f32(value * value) for value in row]) * share) + op.epsilon)
    root = f32(math.sqrt(spread))
    factor = f32(1 / root)
    scaled = f32(f32(row[index[1]] * factor) * op.multiplier[index[1]].item())
    return f32(scaled + op.bias[index[1]].item())


def _row_sum(row: Sequence[float]) -> float:
    sums = [0.0] * 16
    for i, value in enumerate(row):
        sums[i % 16] = f32(sums[i % 16] + value)
    for half in (8, 4, 2, 1):
        sums = [f32(sums[i] + sums[half + i]) for i in range(half)]
    return sums[0]


def _flat(index: Index, strides: Index) -> int:
    return sum(i * s for i, s in zip(index, strides, strict=True))


def lookup(op: Lookup, inputs: Sequence[Array], index: Index) -> int:
    return int(op.table[int(inputs[0][index[0]]) + 128])


def quantize(op: Quantize, inputs: Sequence[Array], index: Index) -> int:
    real = float(inputs[0][index[0]])
    return -128 if math.isnan(real) else int8(f32(real / op.scale), op.zero_point, -128, 127)


def dequantize(op: Dequantize, inputs: Sequence[Array], index: Index) -> float:
    return f32((int(inputs[0][index[0]]) - op.zero_point) * op.scale)


def rearrange(op: Rearrange, inputs: Sequence[Array], index: Index) -> float:
    return float(inputs[0][op.offset + _flat(index, op.strides)])


def interpolate(op: Interpolate, inputs: Sequence[Array], index: Index) -> float:
    image, row, column, channel = index
    pixels = [
        [inputs[0][image, y, x, channel].item() for x in op.column_places[column]] for y in op.row_places[row]
    ]
    down, across = op.row_weights[row].item(), op.column_weights[column].item()
    if op.dtype == "float32":
        lines = [f32(f32(one * f32(1 - across)) + f32(two * across)) for one, two in pixels]
        return f32(f32(lines[0] * f32(1 - down)) + f32(lines[1] * down))
    upper, lower = (one * (1024 - across) + two * across for one, two in pixels)
    return int((upper * (1024 - down) + lower * down + 2**19) // 2**20)


def concat(op: Concat, inputs: Sequence[Array], index: Index) -> float:
    outer, position = index
    for x, size, table in zip(inputs, op.inner, op.tables, strict=True):
        if position < size:
            value = x[outer * size + position].item()
            return float(value if table is None else table[value + 128])
        position -= size
    raise IndexError(position)


def pad(op: Pad, inputs: Sequence[Array], index: Index) -> float:
    at = tuple(i - before for i, (before, _) in zip(index, op.pads, strict=True))
    inside = all(0 <= i < n for i, n in zip(at, op.shape, strict=True))
    return float(inputs[0][at]) if inside else op.value


def _window(
    op: MaxPool | AveragePool | FloatAveragePool, x: Array, index: Index, dilations: tuple[int, int] = (1, 1)
) -> list[float]:
    image, row, column, channel = index
    return [
        x[image, y, z, channel].item()
        for y in (row * op.strides[0] - op.pads[0] + r * dilations[0] for r in range(op.kernel[0]))
        for z in (column * op.strides[1] - op.pads[1] + c * dilations[1] for c in range(op.kernel[1]))
        if 0 <= y < op.input_shape[1] and 0 <= z < op.input_shape[2]
    ]


def max_pool(op: MaxPool, inputs: Sequence[Array], index: Index) -> float:
    window = list(_window(op, inputs[0], index, op.dilations))
    return float("nan") if any(value != value for value in window) else max(window)


def average_pool(op: AveragePool, inputs: Sequence[Array], index: Index) -> int:
    total = sum(int(value) - op.input_zero_point for value in _window(op, inputs[0], index))
    return requantize(total, op.multiplier[index[1], index[2]], op)


def mean(op: Mean, inputs: Sequence[Array], index: Index) -> int:
    outer, inner = index
    taken = (int(inputs[0][(outer * op.reduced + r) * op.inner + inner]) for r in range(op.reduced))
    return requantize(sum(value - op.input_zero_point for value in taken), op.multiplier, op)


def softmax(op: Softmax, inputs: Sequence[Array], index: Index) -> int:
    row = [int(v) for v in inputs[0][index[0] * op.length : (index[0] + 1) * op.length]]
    exponentials = [int(op.table[max(row) - v]) for v in row]
    factor = f32(op.inverse_scale / f32(sum(exponentials)))
    return int8(f32(f32(exponentials[index[1]]) * factor), op.output_zero_point, -128, 127)


def normalize(op: Normalize, inputs: Sequence[Array], index: Index) -> int:
    image, row, group, place = index
    x = inputs[0].reshape(op.outer, op.rows, op.groups, op.length)
    centred = [int(value) - op.input_zero_point for value in x[image, :, group].reshape(-1)]
    element, n = centred[row * op.length + place], len(centred)
    spread = sum(value * value for value in centred)
    if op.kind == "variance":
        element, spread = n * element - sum(centred), n * spread - sum(centred) ** 2
    elif op.kind == "magnitudes":
        spread = sum(map(abs, centred)) ** 2
    halves = f32(f32(f32(spread // 2**24) * f32(2**24)) + f32(spread % 2**24))
    reciprocal = f32(f32(1) / f32(np.sqrt(f32(halves + f32(op.epsilon)))))
    channel = group * op.length + place
    scaled = f32(f32(element) * f32(reciprocal * op.multiplier[channel]))
    return int8(f32(scaled + op.bias[channel]), op.output_zero_point, op.low, op.high)


def matrix_product(op: Product, inputs: Sequence[Array], index: Index) -> int:
    """The element that lies at a place of the result's buffer, without gaps between its matrices."""
    places = {}
    for at in np.ndindex(*op.batch, op.rows, op.columns):
        places[_lies(op.result, at)] = at
    *batch, m, n = places[index[0]]
    total = 0
    for k in range(op.inner):
        a, b = inputs[0].flat[_lies(op.left, (*batch, m, k))], inputs[1].flat[_lies(op.right, (*batch, k, n))]
        total += (int(a) - op.zero_points[0]) * (int(b) - op.zero_points[1])
    return requantize(total, op.multiplier, op)


def attention(op: Attention, inputs: Sequence[Array], index: Index) -> int:
    """The element that lies at a place of the result's buffer, without gaps between its matrices."""
    places = {}
    for at in np.ndindex(*op.batch, op.rows, op.columns):
        places[_lies(op.result, at)] = at
    *batch, m, c = places[index[0]]

    def factor(which: int, matrices: Matrices, *at: int) -> int:
        return int(inputs[which].flat[_lies(matrices, (*batch, *at))]) - op.zero_points[which]

    steps = []
    for n in range(op.length):
        score = sum(factor(0, op.queries, m, k) * factor(1, op.keys, k, n) for k in range(op.inner))
        scaled = f32(f32(score) * float(op.score_multiplier))
        step = math.copysign(32767, scaled) if math.isinf(scaled) else min(max(round(scaled), -32767), 32767)
        if op.mask is not None:
            step += int(op.mask_steps[int(inputs[3].flat[_lies(op.mask, (*batch, m, n))]) + 128])
        steps.append(int(step))
    weights = [int(op.table[min(max(steps) - step, 255)]) for step in steps]
    total = sum(weight * factor(2, op.values, n, c) for n, weight in enumerate(weights))
    return requantize(total, f32(float(op.multiplier) / f32(sum(weights))), op)


def recurrent(op: Recurrent, inputs: Sequence[Array], index: Index) -> int:
    """One number of a hidden state: the numbers of all states before it, one by one."""
    step, row, number = index
    x = inputs[0].reshape(op.steps, op.batch, op.inputs)[:, row]
    states = [state.reshape(op.batch, op.hidden)[row] for state in inputs[1:]]
    h = [int(v) for v in states.pop(0)] if op.initial_hidden else [op.output_zero_point] * op.hidden
    begun = [op.state_zero_point] * op.hidden if op.kind == "lstm" else h
    begun = [int(v) for v in states.pop(0)] if op.initial_cell else begun
    state = [int16((code - op.state_zero_point) * op.state_multiplier) for code in begun]
    order = [*range(op.steps)]
    for current in order[::-1] if op.reverse else order:
        h, state = _step(op, [int(v) for v in x[current]], h, state)
        if current == step:
            break
    return h[number]


def _step(op: Recurrent, x: list[int], h: list[int], state: list[int]) -> tuple[list[int], list[int]]:
    n, one = op.hidden, 2**15
    of_input, of_hidden = _arguments(op.products[0], x), _arguments(op.products[1], h)
    gate = [_curve(op, 0, of_input[k] + of_hidden[k]) for k in range(min(len(of_hidden), 3 * n))]
    if op.kind == "lstm":
        fresh = [_curve(op, 1, of_input[3 * n + k] + of_hidden[3 * n + k]) for k in range(n)]
        i, o, f = gate[:n], gate[n : 2 * n], gate[2 * n :]
        state = [_mixed(f[k], state[k], i[k], fresh[k], op.fraction) for k in range(n)]
        seen = [math.floor(Fraction(c) / Fraction(2) ** op.cell_shift + Fraction(1, 2)) for c in state]
        value = [o[k] * _curve(op, 2, seen[k]) for k in range(n)]
    elif op.kind == "rnn":
        value = gate
    else:
        z, r = gate[:n], gate[n : 2 * n]
        if op.kind == "gru":
            reset = [
                int8(f32(f32(r[k] * state[k]) * f32(op.multiplier / one)), op.output_zero_point, -128, 127)
                for k in range(n)
            ]
            added = _arguments(op.products[2], reset)
        else:
            added = [
                math.floor(Fraction(r[k] * of_hidden[2 * n + k], one) + Fraction(1, 2)) for k in range(n)
            ]
        fresh = [_curve(op, 1, of_input[2 * n + k] + added[k]) for k in range(n)]
        value = state = [_mixed(z[k], state[k], one - z[k], fresh[k], op.fraction) for k in range(n)]
    codes = [int8(f32(f32(v) * op.multiplier), op.output_zero_point, -128, 127) for v in value]
    return codes, state


def int16(value: float) -> int:
    """The nearest int16, half to even, of a product that float32 rounds."""
    return round(min(max(f32(value), -(2.0**15)), 2.0**15 - 1))


def _arguments(product: Conv2d, x: list[int]) -> list[int]:
    found = []
    for weights, bias, multiplier in zip(product.weights, product.bias, product.multiplier, strict=True):
        terms = zip(weights.reshape(-1), x, strict=True)
        total = int(bias) + sum(int(w) * (v - product.input_zero_point) for w, v in terms)
        found.append(int16(f32(total) * float(multiplier)))
    return found


def _curve(op: Recurrent, which: int, argument: int) -> int:
    place = min(max(argument, -(2**14)), 2**14 - 1) + 2**14
    entry = int(op.curves[which][place // 128])
    slope = entry % 2**16 - (2**16 if entry % 2**16 >= 2**15 else 0)
    return entry // 2**16 + (slope * (place % 128) + 64) // 128


def _mixed(forget: int, state: int, fresh: int, value: int, fraction: int) -> int:
    total = forget * state + (fresh * value) // 2 ** (15 - fraction)
    return min(max((total + 2**14) // 2**15, -(2**15)), 2**15 - 1)


def _lies(matrices: Matrices, index: Sequence[int]) -> int:
    strides = (*matrices.batch, matrices.row, matrices.column)
    return matrices.offset + sum(i * stride for i, stride in zip(index, strides, strict=True))


def chain(op: Chain, inputs: Sequence[Array], index: Index) -> int:
    *stages, last = op.stages
    x, *others = inputs
    for stage in stages:
        x = reference.conv2d(stage, x)
    return conv2d(last, [x, *others], index)


DEFINITIONS: dict[type[Operation], Callable[[Any, Sequence[Array], Index], float]] = {
    Attention: attention,
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
    FloatNormalize: float_normalize,
    Interpolate: interpolate,
    Lookup: lookup,
    MaxPool: max_pool,
    Mean: mean,
    Normalize: normalize,
    Pad: pad,
    Product: matrix_product,
    Quantize: quantize,
    Rearrange: rearrange,
    Recurrent: recurrent,
    Softmax: softmax,
}


@pytest.mark.parametrize("operation", reference.SEMANTICS)
@settings(COMMON, max_examples=60)
@given(data=st.data())
def test_elements_are_what_their_definition_says(operation: type[Operation], data: st.DataObject) -> None:
    case = data.draw(CASES[operation])
    with np.errstate(over="ignore"):
        result = reference.SEMANTICS[operation](case.operation, *case.inputs)
    rng = np.random.default_rng(0)
    for _ in range(10):
        index = tuple(int(rng.integers(size)) for size in result.shape)
        found, said = result[index].item(), DEFINITIONS[operation](case.operation, case.inputs, index)
        assert found == said or (np.isnan(found) and np.isnan(said)), index


@settings(COMMON, max_examples=40)
@given(case=CASES[Conv2d])
def test_convolution_is_onnx_convolution_of_integers(case: Case) -> None:
    """Float32 convolutions of integers are exact below 2**24: padding, groups and dilations are ONNX's."""
    op = case.operation
    assert isinstance(op, Conv2d)
    assume(op.weights[0].size * 255 * 255 < 2**24)
    op = replace(op, bias=np.zeros_like(op.bias), residual=None)
    top, left, bottom, right = op.pads
    attributes = {"strides": op.strides, "pads": [top, left, bottom, right], "dilations": op.dilations}
    x = (case.inputs[0].astype(np.float32) - op.input_zero_point).transpose(0, 3, 1, 2)
    weights = op.weights.astype(np.float32).transpose(0, 3, 1, 2)
    (sums,) = _onnx("Conv", [x, weights], group=op.groups, **attributes)
    expected = reference.requantize(
        sums.transpose(0, 2, 3, 1).astype(np.int32),
        op.multiplier,
        op.output_zero_point,
        op.low,
        op.high,
        op.dtype,
    )
    np.testing.assert_array_equal(reference.conv2d(op, case.inputs[0]), expected)


@settings(COMMON, max_examples=40)
@given(case=CASES[Quantize])
def test_quantize_is_onnx_quantize_linear(case: Case) -> None:
    op = case.operation
    assert isinstance(op, Quantize)
    parameters: list[Array] = [np.array(op.scale, np.float32), np.array(op.zero_point, np.int8)]
    x = np.clip(case.inputs[0], -1e4 * np.float32(op.scale), 1e4 * np.float32(op.scale))  # ORT's own limits
    (expected,) = _onnx("QuantizeLinear", [x, *parameters])
    np.testing.assert_array_equal(reference.quantize(op, x), expected)


@settings(COMMON, max_examples=40)
@given(case=CASES[Dequantize])
def test_dequantize_is_onnx_dequantize_linear(case: Case) -> None:
    op = case.operation
    assert isinstance(op, Dequantize)
    parameters: list[Array] = [np.array(op.scale, np.float32), np.array(op.zero_point, np.int8)]
    (expected,) = _onnx("DequantizeLinear", [case.inputs[0], *parameters])
    np.testing.assert_array_equal(reference.dequantize(op, case.inputs[0]), expected)


def _onnx(operator: str, inputs: Sequence[Array], **attributes: Any) -> list[Array]:
    """Evaluate one ONNX operator in ONNX Runtime."""
    names = [f"x{i}" for i in range(len(inputs))]
    described = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in zip(names, inputs, strict=True)
    ]
    node = onnx.helper.make_node(operator, names, ["y"], **attributes)
    graph = onnx.helper.make_graph([node], operator, described, [onnx.ValueInfoProto(name="y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


@settings(COMMON, max_examples=40)
@given(seed=st.integers(0, 1000), length=st.integers(1, 300), scale=st.sampled_from((0.01, 0.1, 0.5)))
def test_softmax_is_within_half_a_step_of_the_real_one(seed: int, length: int, scale: float) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, length)
    largest = 2.0 ** math.floor(math.log2((2**31 - 1) / length))
    table = np.rint(np.exp(-np.arange(256) * scale) * largest).astype(np.int32)
    result = reference.softmax(Softmax(1, length, table, 256.0, -128), x.astype(np.int8))
    exponentials = np.exp((x - x.max()) * scale)
    real = np.clip(256 * exponentials / exponentials.sum() - 128, -128, 127)
    assert np.abs(result - real).max() <= 0.5001


@settings(COMMON, max_examples=60)
@given(case=CASES[Normalize], form=st.sampled_from((reference.FLOAT, reference.FIXED)))
def test_a_normalization_is_within_a_step_of_the_real_one(case: Case, form: str) -> None:
    op = case.operation
    assert isinstance(op, Normalize)
    op = replace(op, epsilon=max(op.epsilon, 1.0))  # what is less than 1 is no integer
    d = case.inputs[0].reshape(op.outer, op.rows, op.groups, op.length) - np.float64(op.input_zero_point)
    squares, total = (d * d).sum(axis=(1, 3), keepdims=True), d.sum(axis=(1, 3), keepdims=True)
    element, spread = d, squares
    if op.kind == "variance":
        element, spread = op.count * d - total, op.count * squares - total**2
    elif op.kind == "magnitudes":
        spread = abs(d).sum(axis=(1, 3), keepdims=True) ** 2
    affine = (values.astype(np.float64).reshape(op.groups, -1) for values in (op.multiplier, op.bias))
    multiplier, bias = affine
    normal = element / np.sqrt(spread + np.rint(op.epsilon))
    real = np.clip(normal * multiplier + bias + op.output_zero_point, op.low, op.high)
    bound = 0.501 if form == reference.FLOAT else 0.501 + 2.0**-14 * np.abs(normal * multiplier).max()
    assert np.abs(reference.normalize(op, case.inputs[0], form) - real).max() <= bound


# By hand: accumulator, multiplier, output zero point -> int8.
@pytest.mark.parametrize(
    ("accumulator", "multiplier", "zero_point", "expected"),
    [
        (1, 0.5, 0, 0),  # 0.5 to even
        (3, 0.5, 0, 2),  # 1.5
        (5, 0.5, 0, 2),  # 2.5
        (-1, 0.5, 0, 0),
        (-3, 0.5, 0, -2),
        (-5, 0.5, 0, -2),
        (5, 0.5, 1, 3),  # the zero point is added after rounding
        (254, 0.5, 0, 127),
        (255, 0.5, 0, 127),  # 127.5 rounds to 128, and is clamped
        (-257, 0.5, 0, -128),
        (2**31 - 1, 2.0**-24, -1, 127),  # float32(2**31 - 1) is 2**31: 128 - 1
        (-(2**31), 1.0, 127, -128),
        (2**31 - 1, 1e20, -128, 127),
        (-(2**31) + 1, 1e20, 127, -128),
        (16777217, 2.0**-18, 0, 64),  # 2**24 + 1 is no float32
    ],
)
def test_requantization_by_hand(accumulator: int, multiplier: float, zero_point: int, expected: int) -> None:
    sums = np.array([accumulator], np.int64).astype(np.int32)
    assert reference.requantize(sums, np.float32(multiplier), zero_point, -128, 127, "int8").tolist() == [
        expected
    ]


def test_a_convolution_by_hand() -> None:
    weights = np.array([[1, 2], [3, 4]], np.int8).reshape(1, 2, 2, 1)
    op = Conv2d(
        (1, 2, 2, 1), weights, np.array([10], np.int32), np.array([0.5], np.float32), 1, -3, -128, 127,
        pads=(1, 1, 0, 0),
    )  # fmt: skip
    x = np.array([1, 2, 3, 4], np.int8)
    # Less the zero point [0 1; 2 3]; sums [4*0, 3*0 + 4*1; 2*0 + 4*2, 1*0 + 2*1 + 3*2 + 4*3] = [0 4; 8 20];
    # with the bias [10 14; 18 30]; halved, less 3.
    assert reference.conv2d(op, x).reshape(-1).tolist() == [2, 4, 6, 12]


def test_sums_that_leave_int32_are_noticed() -> None:
    op = Conv2d(
        (1, 1, 1, 1), np.full((1, 1, 1, 1), 127, np.int8), np.array([2**31 - 1], np.int32),
        np.ones(1, np.float32), 0, 0, -128, 127,
    )  # fmt: skip
    with pytest.raises(OverflowError):
        reference.conv2d(op, np.array([127], np.int8))


def test_a_network_is_evaluated_operator_by_operator() -> None:
    """q = quantize(x); y = q + constant; an override replaces what an operator gave."""
    add = Binary("add", (2,), ((1,), (1,)), (0, 0), (1.0, 1.0), 0, -128, 127)
    tensors = [Tensor("x", (1, 2), "float32"), Tensor("q", (2,), "int8"), Tensor("y", (2, 1), "int8")]
    network = Network(
        (Operator("quantize", Quantize(2, 0.5, 0), ("x",), ("q",)), Operator("add", add, ("q", "c"), ("y",))),
        {tensor.name: tensor for tensor in tensors}, ("x",), ("y",), {"c": np.array([10, 20], np.int8)},
    )  # fmt: skip
    x = {"x": np.array([[1.0, -1.0]], np.float32)}
    values = reference.evaluate(network, x)
    assert values["q"].tolist() == [2, -2]
    assert values["y"].tolist() == [[12], [18]]
    changed = reference.evaluate(network, x, {"q": np.array([0, 1], np.int8)})
    assert changed["y"].tolist() == [[10], [21]]


@pytest.mark.parametrize(
    ("total", "multiplier", "expected"),
    [(1, 0.5, 1), (3, 0.5, 2), (-1, 0.5, 0), (-3, 0.5, -1), (5, 0.25, 1), (7, 0.1, 1), (2**30, 2.0**-28, 4),
     (2**31 - 1, 1e-40, 0), (-1, 1e30, -128), (1, 2.0**24, 127)],
)  # fmt: skip
def test_fixed_point_rounds_exact_products_halves_up(total: int, multiplier: float, expected: int) -> None:
    result = reference.requantize(
        np.array([total], np.int32), np.float32(multiplier), 0, -128, 127, "int8", reference.FIXED
    )
    assert result[0] == expected


@given(data=st.data())
def test_both_forms_agree_but_for_ties(data: st.DataObject) -> None:
    """float32 holds sums of 24 bits, and then rounds the product once more: by less than 2**-16 below 256."""
    total = data.draw(st.integers(-(2**24), 2**24))
    multiplier = np.float32(data.draw(st.floats(2.0**-30, 1.0, width=32)))
    value = total * float(multiplier)
    assume(abs(value) < 256 and abs(value - np.floor(value) - 0.5) > 2.0**-14)
    one, two = (
        reference.requantize(np.array([total], np.int32), multiplier, 3, -128, 127, "int8", form)[0]
        for form in (reference.FLOAT, reference.FIXED)
    )
    assert one == two


def test_codes_are_of_the_dtype_that_operation_and_quantization_name() -> None:
    assert (Quantization(0.5, 3).lowest, Quantization(0.5, 3).highest) == (-128, 127)
    wide = Quantization(0.5, 100, "int16")
    assert wide.ends == (0.5 * (-32768 - 100), 0.5 * (32767 - 100))
    assert (wide.codes[0], wide.codes[-1], len(wide.codes)) == (-32768, 32767, 65536)
    x = np.array([-40_000.0, np.nan, 3.0, 40_000.0], np.float32)
    codes = reference.quantize(Quantize(4, wide.scale, wide.zero_point, wide.dtype), x)
    np.testing.assert_array_equal(codes, np.array([-32768, -32768, 106, 32767], np.int16))
    added = Binary("add", (4,), ((1,), (1,)), (0, 0), (1.0, 1.0), 0, -32768, 32767, "int16")
    total = reference.binary(added, codes, np.array([1, 2, 300, 4], np.int16))
    np.testing.assert_array_equal(total, np.array([-32767, -32766, 406, 32767], np.int16))
