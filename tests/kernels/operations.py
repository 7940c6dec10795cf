"""Operations to try kernels on: a hypothesis strategy for each type, shapes drawn, values from a seed.

Values go to extremes on purpose: all -128, all 127, accumulators near 2**31, multipliers that leave int8,
int32 or the normal floats, products that lie exactly between two integers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.random import Generator
from numpy.typing import NDArray

from edgec.kernels.kernel import Kernel, KernelCode
from edgec.kernels.operations import (
    FREE,
    Attention,
    AveragePool,
    Binary,
    BinaryKind,
    Chain,
    Concat,
    Conv2d,
    Demands,
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
    Normalize,
    Operation,
    Pad,
    Product,
    Quantize,
    Rearrange,
    Recurrent,
    Runs,
    Softmax,
    span,
)
from edgec.kernels.operations.recurrent import CURVES, GATES, curve
from edgec.targets.descriptor import Target
from tests.kernels.harness import Call

Array = NDArray[Any]

# Around the widths of registers and register tiles: 1, odd, just below and above, several.
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 80, 130)
CHUNKS = (1, 2, 15, 16, 17, 100, 8191, 8192, 8193, 17000)
"""Sizes of flat operations, around their tile of 8192 elements."""


ODD = np.array(
    [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7FA00001, 0x7F61B1E6, 0xFF61B1E6], np.uint32
)
ODD = ODD.view(np.float32)
"""Infinities, NaNs of both signs, a signalling one, and 3e38 of both signs."""


@dataclass(frozen=True, eq=False)
class Case:
    """An operation, inputs for it, and what is demanded of its code."""

    operation: Operation
    inputs: tuple[Array, ...]
    demands: Demands = FREE

    def code(self, kernel: Kernel, target: Target) -> KernelCode | None:
        """A kernel's first choice, or None where it takes no such case."""
        return kernel.code(self.operation, target, self.demands)


def _generator(draw: DrawFn) -> Generator:
    return np.random.default_rng(draw(st.integers(0, 2**16)))


def _int8(draw: DrawFn, rng: Generator, shape: int | tuple[int, ...], low: int = -128) -> Array:
    """Random int8, or all at one end, or each at one of the two."""
    fill = draw(st.sampled_from(("random", "lowest", "highest", "ends")))
    if fill == "random":
        return rng.integers(low, 128, shape).astype(np.int8)
    ends = {"lowest": [low], "highest": [127], "ends": [low, 127]}[fill]
    return rng.choice(np.array(ends, np.int8), shape)


def _zero_point(draw: DrawFn) -> int:
    return draw(st.sampled_from((0, -128, 127, 5, -3)))


def _bounds(draw: DrawFn) -> tuple[int, int]:
    low, high = sorted(draw(st.sampled_from(((-128, 127), (-128, 127), (-3, 127), (-100, 90), (7, 7)))))
    return low, high


def _multipliers(rng: Generator, shape: int | tuple[int, ...], typical: float) -> NDArray[np.float32]:
    """Each of a kind of its own: typical, ties, for sums near 2**31, far out of int8, subnormal products."""
    kinds = [
        typical * rng.uniform(0.5, 2, shape),
        2.0 ** -rng.integers(0, 4, shape),
        2.0 ** -rng.uniform(20, 31, shape),
        10.0 ** rng.uniform(0, 6, shape),
        10.0 ** rng.uniform(0, 20, shape),
        10.0 ** -rng.uniform(10, 44, shape),
    ]
    chosen = rng.choice(len(kinds), shape, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    return np.choose(chosen, kinds).astype(np.float32)


def _alike(draw: DrawFn, multiplier: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """The multipliers, or the first for every channel, and whether kernels may keep it once."""
    alike, uniform = draw(st.sampled_from(((False, False), (False, False), (True, False), (True, True))))
    return np.full_like(multiplier, multiplier[0]) if alike else multiplier, uniform


@st.composite
def _convolutions(draw: DrawFn, family: str) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of image and weights, and the rest of a convolution's geometry."""
    channels = st.sampled_from(CHANNELS)
    groups, inputs, outputs = 1, draw(channels), draw(channels)
    if family == "depthwise":
        groups, inputs, outputs = draw(channels), 1, draw(st.sampled_from((1, 1, 1, 2, 3, 9)))
    elif family == "depthwise window":
        groups, inputs, outputs = draw(st.sampled_from((8, 16, 24, 40, 12))), 1, 1
    elif family == "grouped":
        groups, inputs, outputs = draw(st.integers(2, 4)), draw(st.integers(1, 17)), draw(st.integers(1, 17))
    kernel: tuple[int, int] = (1, 1)
    strides = dilations = kernel
    pads = (0, 0, 0, 0)
    if family == "window":
        kernel = (3, 3)
        pads = draw(st.just((1, 1, 1, 1)) | st.tuples(*[st.integers(0, 3)] * 4))
    elif family == "depthwise window":
        kernel, strides = (3, 3), draw(st.sampled_from(((1, 1), (2, 2))))
        pads = draw(st.sampled_from(((1, 1, 1, 1), (0, 0, 1, 1), (0, 0, 0, 0), (3, 2, 2, 3))))
    elif family != "pointwise":
        small = st.integers(1, 3)
        kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
        strides, dilations = draw(st.tuples(small, small)), draw(st.tuples(small, small))
        pads = draw(st.just(pads) | st.tuples(*[st.integers(0, 3)] * 4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    smallest = [max(1, reach[0] - pads[0] - pads[2]), max(1, reach[1] - pads[1] - pads[3])]
    larger = st.integers(3, 20) if family.endswith("window") else st.just(0) | st.integers(0, 12)
    height, width = (n + draw(larger) for n in smallest)
    shape = (draw(st.integers(1, 2)), height, width, groups * inputs)
    geometry = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    return shape, (groups * outputs, *kernel, inputs), geometry


@st.composite
def _conv2d(draw: DrawFn, family: str) -> Case:
    """`pointwise`, `dense`, `grouped`, `depthwise`, 3x3 `window` of either; `wide` (int16 weights)."""
    shape, window, geometry = draw(_convolutions(family))
    rng = _generator(draw)
    if family == "wide":
        weights: Array = rng.integers(-255, 256, window).astype(np.int16)
    else:
        weights = _int8(draw, rng, window, draw(st.sampled_from((-127, -127, -128))))
        if draw(st.booleans()):  # 7 bits, as where `vpmaddubsw` may not saturate
            weights //= 2
    # The kernels must take any bias that int32 sums can be proved for; 255 + 256 bounds what is proved.
    largest = (
        2**31 - 1 - 511 * int(np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(axis=1).max())
    )
    # Winograd's transforms need room above the sums: every other layer for them leaves it.
    sizes = [0, 3000] if family == "window" and draw(st.booleans()) else [0, 3000, largest]
    bias = rng.choice(sizes, len(weights)) * rng.uniform(-1, 1, len(weights))
    multiplier = _multipliers(rng, len(weights), 0.01 / np.sqrt(weights[0].size))
    if draw(st.booleans()):  # so small that nothing leaves int32
        multiplier = np.minimum(multiplier, np.float32(0.2))
    multiplier, uniform = _alike(draw, multiplier)
    low, high = _bounds(draw)
    operation = Conv2d(
        shape, weights, bias.astype(np.int32), multiplier,
        _zero_point(draw), _zero_point(draw), low, high, **geometry,
    )  # fmt: skip
    inputs = [_int8(draw, rng, shape)]
    if not family.startswith("depthwise") and draw(st.booleans()):
        operation, other = draw(_with_residual(rng, operation))
        inputs.append(other)
    return Case(operation, tuple(inputs), Demands(uniform=uniform))


def called(operation: Operation, call: Call, demands: Demands) -> Call:
    """Return the call of a kernel whose result is part of a wider tensor, or lies there in part already."""
    runs, size = demands.runs, call.expected.size
    if runs is None and not demands.placed:
        return call
    elements = np.arange(size)
    positions = elements
    if runs is not None:
        positions = elements // runs.length * runs.pitch + elements % runs.length
    expected = call.expected
    if isinstance(operation, Concat):
        copied = [i for i in range(len(operation.inner)) if i not in demands.placed]
        ends = np.cumsum(operation.inner)
        taken = np.isin(np.searchsorted(ends, elements % ends[-1], side="right"), copied)
        expected, positions = expected.reshape(-1)[taken], positions[taken]
        call = replace(call, inputs=tuple(call.inputs[i] for i in copied))
    return replace(call, expected=expected, positions=positions, elements=span(runs, size))


@st.composite
def _lying(draw: DrawFn, cases: SearchStrategy[Case], lengths: Callable[[Any], list[int]]) -> Case:
    """A case whose result may be part of a wider tensor: in runs of one of `lengths`."""
    case = draw(cases)
    length = draw(st.sampled_from((None, *lengths(case.operation))))
    if length is None:
        return case
    runs = Runs(length, length + draw(st.sampled_from((0, 1, 3, 16, 100))))
    return replace(case, demands=replace(case.demands, runs=runs))


def _pixels(operation: Any) -> list[int]:
    return [operation.output_shape[-1]]


def _inner_dimensions(operation: Any) -> list[int]:
    products = [math.prod(operation.shape[axis:]) for axis in range(len(operation.shape))]
    return [length for length in products if length > 1]


@st.composite
def _chain(draw: DrawFn) -> Case:
    """Two to four convolutions, each of the one before's result: dense, grouped or depthwise, windows odd."""
    rng = _generator(draw)
    sizes = st.sampled_from((5, 7, 12, 17))
    shape = (draw(st.integers(1, 2)), draw(sizes), draw(sizes), draw(st.sampled_from((1, 3, 8, 17, 32))))
    x = _int8(draw, rng, shape)
    stages: list[Conv2d] = []
    demands: list[Demands] = []
    for _ in range(draw(st.integers(2, 4))):
        stage, demanded = draw(_stage(rng, stages[-1].output_shape if stages else shape))
        stages.append(stage)
        demands.append(demanded)
    inputs = [x]
    *_, last = stages
    if last.groups == 1 and draw(st.booleans()):
        stages[-1], other = draw(_with_residual(rng, last))
        inputs.append(other)
    return Case(Chain(tuple(stages)), tuple(inputs), Demands(stages=tuple(demands)))


@st.composite
def _stage(draw: DrawFn, rng: Generator, shape: tuple[int, ...]) -> tuple[Conv2d, Demands]:
    """A convolution of an image; whichever window is drawn, one of the image's own size at most."""
    channels = shape[3]
    kind = draw(st.sampled_from(("pointwise", "pointwise", "depthwise", "depthwise", "window")))
    groups, outputs = (channels, channels) if kind == "depthwise" else (1, draw(st.sampled_from(CHANNELS)))
    kernel = (1, 1) if kind == "pointwise" else draw(st.tuples(*[st.sampled_from((1, 2, 3, 5))] * 2))
    kernel = (min(kernel[0], shape[1]), min(kernel[1], shape[2]))
    most = [min(2, k - 1) for k in kernel]
    pads = tuple(draw(st.integers(0, most[i % 2])) for i in range(4))
    strides = draw(st.sampled_from(((1, 1), (1, 1), (2, 2), (2, 1), (3, 2))))
    room = [n >= 2 * (k - 1) + 1 for n, k in zip(shape[1:3], kernel, strict=True)]
    dilations = (2, 2) if all(room) and draw(st.sampled_from((False, False, True))) else (1, 1)
    weights = _int8(draw, rng, (outputs, *kernel, channels // groups), -127)
    bias = (rng.choice([0, 3000], outputs) * rng.uniform(-1, 1, outputs)).astype(np.int32)
    multiplier = _multipliers(rng, outputs, 0.01 / np.sqrt(weights[0].size))
    if draw(st.booleans()):  # so small that nothing leaves int32
        multiplier = np.minimum(multiplier, np.float32(0.25))
    multiplier, uniform = _alike(draw, multiplier)
    low, high = _bounds(draw)
    stage = Conv2d(
        shape, weights, bias, multiplier, _zero_point(draw), _zero_point(draw), low, high,
        strides, pads, dilations, groups,
    )  # fmt: skip
    return stage, Demands(uniform=uniform)


@st.composite
def _with_residual(draw: DrawFn, rng: Generator, operation: Conv2d) -> tuple[Conv2d, Array]:
    """The convolution with an addition to its result, and what is added."""
    size = int(np.prod(operation.output_shape))
    factors = tuple(map(float, (10.0 ** rng.uniform(-2, 1, 2)).astype(np.float32)))
    zero_points = (operation.output_zero_point, _zero_point(draw))
    added = Binary("add", (size,), ((1,), (1,)), zero_points, factors, _zero_point(draw), *_bounds(draw))
    return replace(operation, residual=added), _int8(draw, rng, size)


def chains() -> SearchStrategy[Case]:
    """Chains of convolutions."""
    return _chain()


def convolutions_3x3() -> SearchStrategy[Case]:
    """3x3 convolutions at stride 1."""
    return _lying(_conv2d("window"), _pixels)


def depthwise_convolutions() -> SearchStrategy[Case]:
    """Convolutions of every channel by itself."""
    return _conv2d("depthwise")


def _floats(rng: Generator, shape: int | tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers of very different magnitude, so that a lost product or a wrong order shows."""
    return (rng.normal(size=shape) * 2.0 ** rng.integers(-8, 9, shape)).astype(np.float32)


def _any_floats(draw: DrawFn, rng: Generator, shape: int | tuple[int, ...]) -> NDArray[np.float32]:
    """The same, or with what no arithmetic likes among them: infinities, NaNs of both signs, overflows."""
    values = _floats(rng, shape)
    if draw(st.booleans()):
        values = np.where(rng.choice(8, values.shape) == 0, rng.choice(ODD, values.shape), values)
    return values


def _limits(draw: DrawFn) -> tuple[float, float]:
    return draw(st.sampled_from(((-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0), (-1.5, 2.5))))


@st.composite
def _float_conv2d(draw: DrawFn, family: str) -> Case:
    shape, window, geometry = draw(_convolutions(family))
    rng = _generator(draw)
    low, high = _limits(draw)
    residual = not family.startswith("depthwise") and draw(st.booleans())
    operation = FloatConv2d(
        shape, _floats(rng, window), _floats(rng, window[0]), low, high, **geometry, residual=residual
    )
    others = (_floats(rng, operation.output_shape),) if residual else ()
    return Case(operation, (_floats(rng, shape), *others))


@st.composite
def _float_binary(draw: DrawFn) -> Case:
    shape, strides, sizes = draw(_broadcasts())
    rng = _generator(draw)
    operation = FloatBinary(draw(st.sampled_from(get_args(BinaryKind))), shape, strides, *_limits(draw))
    return Case(operation, tuple(_floats(rng, size) for size in sizes))


@st.composite
def _broadcasts(draw: DrawFn) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], list[int]]:
    """Shape of a result, the strides of two operands, and their sizes."""
    shape = draw(
        st.tuples(st.sampled_from(CHUNKS)) | st.lists(st.integers(1, 20), min_size=1, max_size=4).map(tuple)
    )
    strides, sizes = [], []
    for _ in range(2):
        taken = [n if draw(st.sampled_from((True, True, False))) else 1 for n in shape]
        steps = np.cumprod([1, *reversed(taken)])[-2::-1]
        strides.append(tuple(int(s) if t > 1 else 0 for s, t in zip(steps, taken, strict=True)))
        sizes.append(int(np.prod(taken)))
    return shape, (strides[0], strides[1]), sizes


@st.composite
def _binary(draw: DrawFn) -> Case:
    shape, strides, sizes = draw(_broadcasts())
    rng = _generator(draw)
    factors = np.choose(rng.choice(2, 2), [2.0 ** -rng.integers(0, 4, 2), 10.0 ** rng.uniform(-4, 3, 2)])
    first, second = (float(np.float32(f)) for f in factors)
    kind = draw(st.sampled_from(get_args(BinaryKind)))
    second = 1.0 if kind == "div" else second
    operation = Binary(
        kind, shape, strides,
        (_zero_point(draw), _zero_point(draw)), (first, second), _zero_point(draw), *_bounds(draw),
    )  # fmt: skip
    return Case(operation, tuple(_int8(draw, rng, size) for size in sizes))


@st.composite
def _lookup(draw: DrawFn) -> Case:
    size, rng = draw(st.sampled_from(CHUNKS)), _generator(draw)
    return Case(Lookup(size, _table(rng)), (_int8(draw, rng, size),))


def _table(rng: Generator) -> NDArray[np.int8]:
    return rng.integers(-128, 128, 256).astype(np.int8)


@st.composite
def _quantize(draw: DrawFn) -> Case:
    size, rng = draw(st.sampled_from(CHUNKS)), _generator(draw)
    scale = np.float32(draw(st.sampled_from((0.25, 1.0, 0.0173, 1e-30, 3e5))))
    ties = (rng.integers(-300, 300, size) + 0.5).astype(np.float32) * scale
    odd = rng.choice(np.append(ODD, np.array([0.0, -0.0, 1e-45], np.float32)), size)
    far = (rng.choice([-1, 1], size) * 10 ** rng.uniform(2, 12, size)).astype(np.float32) * scale
    near = rng.normal(0, 100, size).astype(np.float32) * scale
    x = np.choose(rng.choice(4, size), [ties, odd, far, near])
    return Case(Quantize(size, float(scale), _zero_point(draw)), (x,))


@st.composite
def _dequantize(draw: DrawFn) -> Case:
    size, rng = draw(st.sampled_from(CHUNKS)), _generator(draw)
    scale = float(np.float32(10 ** rng.uniform(-40, 30)))
    return Case(Dequantize(size, scale, _zero_point(draw)), (_int8(draw, rng, size),))


@st.composite
def _rearrange(draw: DrawFn) -> Case:
    """Any strides at all: contiguous with the dimension inside it, repeating, or jumping either way."""
    dimensions: list[tuple[int, int]] = []
    contiguous = 1
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 6) if dimensions else st.sampled_from((1, 2, 3, 8, 31, 32, 33, 70)))
        stride = draw(st.sampled_from((contiguous, contiguous, contiguous, 0, 1)) | st.integers(-9, 9))
        contiguous = stride * size
        dimensions.insert(0, (size, stride))
    shape, strides = (tuple(column) for column in zip(*dimensions, strict=True))
    before = -sum(min(0, (n - 1) * s) for n, s in dimensions)
    after = sum(max(0, (n - 1) * s) for n, s in dimensions)
    offset = before + draw(st.integers(0, 3))
    input_size = offset + after + 1 + draw(st.integers(0, 3))
    dtype = draw(st.sampled_from(("bool", "int8", "uint8", "int16", "int32", "int64", "float32")))
    x = (_generator(draw).integers(-128, 127, input_size) // (100 if dtype == "bool" else 1)).astype(dtype)
    return Case(Rearrange(shape, strides, offset, dtype, input_size), (x,))


@st.composite
def _concat(draw: DrawFn) -> Case:
    outer, rng = draw(st.integers(1, 6)), _generator(draw)
    inner = draw(st.lists(st.integers(1, 70), min_size=1, max_size=5))
    if draw(st.booleans()):
        operation = Concat(outer, tuple(inner), (None,) * len(inner), "float32")
        return Case(operation, tuple(_floats(rng, outer * n) for n in inner))
    tables = tuple(_table(rng) if draw(st.booleans()) else None for _ in inner)
    placed = tuple(i for i, table in enumerate(tables) if table is None and draw(st.booleans()))
    inputs = tuple(_int8(draw, rng, outer * n) for n in inner)
    operation = Concat(outer, tuple(inner), tables)
    return Case(operation, inputs, FREE if len(placed) == len(inner) else Demands(placed=placed))


@st.composite
def _pad(draw: DrawFn) -> Case:
    size, both = st.integers(1, 9), st.tuples(st.integers(0, 3), st.integers(0, 3))
    inner = st.tuples(st.sampled_from((1, 3, 16, 31, 32, 70)), both)
    dimensions = [*draw(st.lists(st.tuples(size, both), max_size=3)), draw(inner)]
    shape = tuple(n for n, _ in dimensions)
    pads = tuple(pads for _, pads in dimensions)
    if draw(st.booleans()):
        value = draw(st.sampled_from((0.0, -1.5, 90.0)))
        return Case(Pad(shape, pads, value, "float32"), (_floats(_generator(draw), shape),))
    operation = Pad(shape, pads, draw(st.sampled_from((0, -128, 127, -3))))
    return Case(operation, (_int8(draw, _generator(draw), shape),))


@st.composite
def _windows(draw: DrawFn) -> dict[str, Any]:
    """Shapes of a pooling; every window holds a pixel of the image, the last ones perhaps little else."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    most = [(n - 1 + p) // s + 1 for n, p, s in zip(size, pads, strides, strict=True)]
    rows, columns = (draw(st.integers(max(1, n - 2), n)) for n in most)
    images, channels = draw(st.integers(1, 2)), draw(st.sampled_from(CHANNELS))
    return {
        "input_shape": (images, *size, channels),
        "output_shape": (images, rows, columns, channels),
        "kernel": kernel,
        "strides": strides,
        "pads": pads,
    }


def _all_inside(windows: dict[str, Any], dilations: tuple[int, int]) -> bool:
    """Whether every window has an element inside the image."""
    return all(
        any(0 <= start * stride - pad + i * apart < extent for i in range(kernel))
        for extent, results, kernel, stride, pad, apart in zip(
            windows["input_shape"][1:3], windows["output_shape"][1:3], windows["kernel"],
            windows["strides"], windows["pads"], dilations, strict=True,
        )
        for start in range(results)
    )  # fmt: skip


@st.composite
def _max_pool(draw: DrawFn) -> Case:
    windows = draw(_windows())
    dilations = draw(st.sampled_from(((1, 1), (1, 1), (2, 1), (1, 3), (2, 2), (3, 2))))
    if not _all_inside(windows, dilations):
        dilations = (1, 1)
    operation = MaxPool(**windows, dtype=draw(st.sampled_from(("int8", "float32"))), dilations=dilations)
    if operation.dtype == "float32":
        return Case(operation, (_any_floats(draw, _generator(draw), operation.input_shape),))
    return Case(operation, (_int8(draw, _generator(draw), operation.input_shape),))


@st.composite
def _average_pool(draw: DrawFn) -> Case:
    windows, rng = draw(_windows()), _generator(draw)
    multiplier = _multipliers(rng, windows["output_shape"][1:3], 1 / np.prod(windows["kernel"]))
    low, high = _bounds(draw)
    operation = AveragePool(
        **windows, multiplier=multiplier, input_zero_point=_zero_point(draw),
        output_zero_point=_zero_point(draw), low=low, high=high,
    )  # fmt: skip
    return Case(operation, (_int8(draw, rng, operation.input_shape),))


@st.composite
def _float_average_pool(draw: DrawFn) -> Case:
    windows, rng = draw(_windows()), _generator(draw)
    multiplier = (1 / rng.integers(1, 10, windows["output_shape"][1:3])).astype(np.float32)
    low, high = _limits(draw)
    operation = FloatAveragePool(**windows, multiplier=multiplier, low=low, high=high)
    return Case(operation, (_floats(rng, operation.input_shape),))


@st.composite
def _float_mean(draw: DrawFn) -> Case:
    outer, rng = draw(st.integers(1, 4)), _generator(draw)
    reduced, inner = draw(st.sampled_from((1, 2, 3, 49, 2000))), draw(st.sampled_from(CHANNELS))
    operation = FloatMean(outer, reduced, inner, *_limits(draw))
    return Case(operation, (_floats(rng, outer * reduced * inner),))


@st.composite
def _float_normalize(draw: DrawFn) -> Case:
    outer, rng = draw(st.integers(1, 4)), _generator(draw)
    length = draw(st.sampled_from((1, 2, 7, 15, 16, 17, 33, 200, 1024)))
    kind = draw(st.sampled_from(("variance", "squares")))
    epsilon = float(np.float32(draw(st.sampled_from((1e-12, 1e-5, 0.1)))))
    multiplier, bias = (rng.normal(0, 2, length).astype(np.float32) for _ in range(2))
    operation = FloatNormalize(kind, outer, length, epsilon, multiplier, bias)
    return Case(operation, (_floats(rng, outer * length),))


@st.composite
def _interpolate(draw: DrawFn) -> Case:
    rng, dtype = _generator(draw), draw(st.sampled_from(("int8", "float32")))
    n, h, w = (draw(st.integers(1, 5)) for _ in range(3))
    shape = n, h, w, draw(st.sampled_from(CHANNELS))
    tables = []
    for old in (h, w):
        new = draw(st.integers(1, 9))
        whole = rng.integers(0, 1025, new)
        weights = whole.astype(np.int32) if dtype == "int8" else (whole / 1024 + 1e-5).astype(np.float32)
        tables += [rng.integers(0, old, (new, 2)).astype(np.int32), weights]
    operation = Interpolate(shape, *tables, dtype)
    return Case(operation, (_int8(draw, rng, shape) if dtype == "int8" else _floats(rng, shape),))


@st.composite
def _mean(draw: DrawFn) -> Case:
    outer, rng = draw(st.integers(1, 4)), _generator(draw)
    reduced, inner = draw(st.sampled_from((1, 2, 3, 49, 2000))), draw(st.sampled_from(CHANNELS))
    multiplier = float(_multipliers(rng, (), 1 / reduced))
    bounds = _bounds(draw)
    operation = Mean(outer, reduced, inner, multiplier, _zero_point(draw), _zero_point(draw), *bounds)
    return Case(operation, (_int8(draw, rng, outer * reduced * inner),))


@st.composite
def _softmax(draw: DrawFn) -> Case:
    outer, length = draw(st.integers(1, 4)), draw(st.sampled_from((1, 2, 3, 10, 33, 1000)))
    scale = draw(st.sampled_from((0.05, 0.5, 1e-4, 20.0)))
    largest = 2.0 ** int(np.floor(np.log2((2**31 - 1) / length)))
    table = np.rint(np.exp(-np.arange(256) * scale) * largest).astype(np.int32)
    inverse_scale = draw(st.sampled_from((256.0, 255.0, 100.0, 1e6)))
    operation = Softmax(outer, length, table, inverse_scale, _zero_point(draw))
    return Case(operation, (_int8(draw, _generator(draw), outer * length),))


@st.composite
def _product(draw: DrawFn) -> Case:
    """Products of matrices that lie one after another, or as heads do: row by row, or transposed."""
    rng = _generator(draw)
    extents = st.sampled_from((1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 70, 130))
    batch = draw(st.sampled_from(((), (3,), (2, 3), (1, 5))))
    rows, inner, columns = draw(extents), draw(extents), draw(extents)
    zero_points = draw(st.sampled_from(((0, 0), (-128, 0), (5, -3), (-128, 127), (127, -128))))
    left = draw(_matrices(batch, rows, inner, "right"))
    right = draw(_matrices(batch, inner, columns, draw(st.sampled_from(("right", "down")))))
    result = draw(_matrices(batch, rows, columns, "result"))
    low, high = _bounds(draw)
    operation = Product(
        batch, rows, inner, columns, left, right, result, float(_multipliers(rng, (), 0.01 / np.sqrt(inner))),
        zero_points, _zero_point(draw), low, high,
    )  # fmt: skip
    return Case(operation, (_int8(draw, rng, left.size), _int8(draw, rng, right.size)))


@st.composite
def _attention(draw: DrawFn) -> Case:
    """Heads that lie in any way, with masks that are one's, a row's or every row's own."""
    rng, extents = _generator(draw), st.sampled_from((1, 2, 3, 5, 8, 16, 17, 31, 33, 64, 70, 130))
    batch = draw(st.sampled_from(((), (3,), (2, 2))))
    rows, inner, keys, columns = (draw(extents) for _ in range(4))
    query, key = draw(_matrices(batch, rows, inner, "right")), draw(_matrices(batch, inner, keys, "down"))
    value = draw(_matrices(batch, keys, columns, "right"))
    mask = draw(st.none() | _matrices(batch, rows, keys, "right"))
    if mask is not None and draw(st.booleans()):
        mask = replace(mask, row=0)
    table = np.rint(255 * np.exp(-np.arange(256) * draw(st.sampled_from((1 / 32, 1 / 40))))).astype(np.uint8)
    low, high = _bounds(draw)
    multipliers = [float(np.float32(10.0 ** rng.uniform(*ends))) for ends in ((-4, 1), (-2, 1))]
    steps = rng.integers(-300, 300, 256) * rng.choice([1, 100], 256)
    operation = Attention(
        batch, rows, inner, keys, columns, query, key, value,
        draw(_matrices(batch, rows, columns, "result")), mask, steps.astype(np.int32), multipliers[0], table,
        multipliers[1], (_zero_point(draw), _zero_point(draw), _zero_point(draw)), _zero_point(draw), low,
        high,
    )  # fmt: skip
    inputs = [_int8(draw, rng, lie.size) for lie in (query, key, value, *([mask] if mask else []))]
    return Case(operation, tuple(inputs))


@st.composite
def _recurrent(draw: DrawFn) -> Case:
    """Layers of each kind; sums that leave the curves and that don't, cells that saturate, states given."""
    rng, extents = _generator(draw), st.sampled_from((1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 64))
    kind = draw(st.sampled_from(tuple(GATES)))
    steps, batch = draw(st.sampled_from((1, 2, 5, 17, 33))), draw(st.integers(1, 3))
    inputs, hidden = draw(extents), draw(extents)
    zero_point = _zero_point(draw)

    def product(rows: int, inner: int, outputs: int, zero_point: int) -> Conv2d:
        weights = _int8(draw, rng, (outputs, 1, 1, inner), -127)
        bias = rng.integers(-(2**20), 2**20, outputs).astype(np.int32)
        typical = 2.0 ** rng.uniform(-8, 4, outputs)
        odd = _multipliers(rng, outputs, 1.0)
        multiplier = np.where(rng.random(outputs) < 0.9, typical, odd).astype(np.float32)
        return Conv2d((1, 1, rows, inner), weights, bias, multiplier, zero_point, 0, -128, 127)

    gates = GATES[kind]
    products = [product(steps * batch, inputs, gates * hidden, _zero_point(draw))]
    apart = [gates - 1, 1] if kind == "gru" else [gates]
    products += [product(batch, hidden, count * hidden, zero_point) for count in apart]
    x = np.arange(-128, 129) / 128
    curves = [1 / (1 + np.exp(-16 * x)), np.tanh(8 * x), np.tanh(8 * x)]
    del curves[max(CURVES[kind]) + 1 + (kind == "lstm") :]
    if draw(st.booleans()):  # an RNN's may be any
        curves[-1] = np.clip(x, 0, 1) if kind == "rnn" else np.tanh(2 * x)
    given_hidden, given_cell = draw(st.booleans()), kind == "lstm" and draw(st.booleans())
    fraction = draw(st.sampled_from((15, 12, 9, 4, 0)))
    operation = Recurrent(
        kind, steps, batch, draw(st.booleans()), tuple(products), np.stack([curve(c) for c in curves]),
        fraction, draw(st.integers(-11, 4)), given_hidden, given_cell,
        float(np.float32(2.0 ** rng.uniform(-2, 9))), _zero_point(draw) if kind == "lstm" else zero_point,
        float(np.float32(2.0 ** -(rng.uniform(19, 24) if kind == "lstm" else rng.uniform(4, 9)))), zero_point,
    )  # fmt: skip
    states = [_int8(draw, rng, (batch, hidden)) for given in (given_hidden, given_cell) if given]
    return Case(operation, (_int8(draw, rng, (steps, batch, inputs)), *states))


@st.composite
def _matrices(draw: DrawFn, batch: tuple[int, ...], rows: int, columns: int, along: str) -> Matrices:
    """How such matrices lie: `along` says in which direction neighbours do; a result lies densely."""
    order = draw(st.permutations(range(len(batch) + 1)))  # of the batch's dimensions and the outer one
    extents = (*batch, columns if along == "down" else rows)
    pitch = rows if along == "down" else columns
    pitch += 0 if along == "result" else draw(st.sampled_from((0, 0, 3)))
    strides = [0] * len(extents)
    for dimension in reversed(order):
        strides[dimension] = pitch
        pitch *= extents[dimension]
    offset, rest = (0, 0) if along == "result" else draw(st.sampled_from(((0, 0), (7, 2))))
    if along != "result" and draw(st.booleans()) and batch:
        strides[0] = 0  # one for all
    outer = strides.pop()
    row, column = (1, outer) if along == "down" else (outer, 1)
    last = sum((n - 1) * s for n, s in zip((*batch, rows, columns), (*strides, row, column), strict=True))
    return Matrices(offset + last + 1 + rest, offset, tuple(strides), row, column)


@st.composite
def _normalize(draw: DrawFn) -> Case:
    """Rows, channels of images, groups of them; groups whose elements are all alike among them."""
    rng = _generator(draw)
    outer = draw(st.integers(1, 3))
    rows, groups, length = draw(
        st.tuples(st.just(1), st.just(1), st.sampled_from((1, 2, 7, 16, 33, 200, 1024)))
        | st.tuples(st.just(1), st.integers(1, 4), st.integers(1, 20))
        | st.tuples(st.sampled_from((2, 49, 300)), st.sampled_from(CHANNELS), st.just(1))
        | st.tuples(st.integers(2, 20), st.integers(1, 9), st.integers(1, 40))
    )
    kind = draw(st.sampled_from(("variance", "variance", "squares", "magnitudes")))
    epsilon = float(np.float32(draw(st.sampled_from((2.0**-40, 0.1, 30.0, 1e6, 1e13)))))
    typical = 10.0 ** rng.uniform(-2, 3, groups * length)
    multiplier = typical * rng.choice([-1, 1, 1, 1, 0], groups * length)
    bias = 10.0 ** rng.uniform(-2, 3, groups * length) * rng.choice([-1, 1, 0], groups * length)
    low, high = _bounds(draw)
    operation = Normalize(
        kind, outer, rows, groups, length, epsilon, multiplier.astype(np.float32), bias.astype(np.float32),
        _zero_point(draw), _zero_point(draw), low, high,
    )  # fmt: skip
    return Case(operation, (_int8(draw, rng, outer * rows * groups * length),))


BUILDING = settings(
    derandomize=True,
    deadline=None,
    # Every try compiles: a failure names its operation, and shrinking it would take minutes.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
"""For tests that compile what they draw."""

FAMILIES = (
    "pointwise", "dense", "grouped", "depthwise", "depthwise", "depthwise window", "depthwise window",
    "window", "window", "wide",
)  # fmt: skip

CASES: dict[type[Operation], SearchStrategy[Case]] = {
    Attention: _attention(),
    Recurrent: _recurrent(),
    AveragePool: _lying(_average_pool(), _pixels),
    Binary: _lying(_binary(), _inner_dimensions),
    Chain: _chain(),
    Concat: _lying(_concat(), lambda operation: [sum(operation.inner)]),
    Conv2d: _lying(st.sampled_from(FAMILIES).flatmap(_conv2d), _pixels),
    Dequantize: _dequantize(),
    FloatAveragePool: _lying(_float_average_pool(), _pixels),
    FloatBinary: _lying(_float_binary(), _inner_dimensions),
    FloatConv2d: _lying(st.sampled_from(FAMILIES[:-1]).flatmap(_float_conv2d), _pixels),
    FloatMean: _float_mean(),
    FloatNormalize: _float_normalize(),
    Interpolate: _interpolate(),
    Lookup: _lying(_lookup(), lambda operation: [n for n in (1, 5, 17, 100) if operation.size % n == 0]),
    MaxPool: _lying(_max_pool(), _pixels),
    Mean: _mean(),
    Normalize: _normalize(),
    Pad: _pad(),
    Product: _product(),
    Quantize: _quantize(),
    Rearrange: _lying(_rearrange(), _inner_dimensions),
    Softmax: _softmax(),
}
"""For every type of operation."""


_LEAST_DRAWN = 32
"""Of them two in three hold a layer for Winograd on AVX-512 VNNI, which takes one in forty."""


def batches(
    operation: type[Operation], wanted: Callable[[Case], bool], size: int
) -> SearchStrategy[list[Case]]:
    """At most `size` cases, but not none, that are `wanted` (a kernel may take few of its type)."""
    count = max(4 * size, _LEAST_DRAWN)
    drawn = st.lists(CASES[operation], min_size=count, max_size=count)
    return drawn.map(lambda cases: [case for case in cases if wanted(case)][:size]).filter(bool)
