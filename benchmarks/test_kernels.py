"""Every line of the kernel table that this machine can run, on layers as networks have them.

What a kernel computes is compared with the reference before it is timed.
"""

import ctypes
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from edgec.compiler.native import toolchain
from edgec.kernels import reference
from edgec.kernels.codegen import native
from edgec.kernels.kernel import Kernel
from edgec.kernels.operations import (
    INEXACT,
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
    Normalize,
    Operation,
    Pad,
    Product,
    Quantize,
    Rearrange,
    Recurrent,
    Softmax,
)
from edgec.kernels.operations.recurrent import curve
from edgec.kernels.table import KERNELS
from edgec.targets import loader

Array = NDArray[Any]

HOST = loader.load("host-int8")
PIXELS = 28 * 28 * 128
"""Elements of the images that elementwise operations read."""


def conv2d(size: int, inputs: int, outputs: int, window: int, groups: int = 1, dtype: str = "int8") -> Conv2d:
    """A convolution of a square image, padded to keep its size, with typical weights."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (outputs, window, window, inputs // groups)).astype(dtype)
    bias = rng.integers(-1000, 1000, outputs).astype(np.int32)
    multiplier = np.full(outputs, 0.01 / np.sqrt(weights[0].size), np.float32)
    pads = (window // 2,) * 4
    shape = (1, size, size, inputs)
    return Conv2d(shape, weights, bias, multiplier, -3, 5, -128, 127, (1, 1), pads, (1, 1), groups)


def inverted_residual(size: int, channels: int, expansion: int) -> Chain:
    """Expand, depthwise, project, as in MobileNetV2."""
    wide = channels * expansion
    layers = (
        conv2d(size, channels, wide, 1),
        conv2d(size, wide, wide, 3, wide),
        conv2d(size, wide, channels, 1),
    )
    return Chain(layers)


def float_conv2d(size: int, inputs: int, outputs: int, window: int, groups: int = 1) -> FloatConv2d:
    """As `conv2d`, in float32 and with a ReLU."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(outputs, window, window, inputs // groups)).astype(np.float32)
    bias, pads = rng.normal(size=outputs).astype(np.float32), (window // 2,) * 4
    return FloatConv2d((1, size, size, inputs), weights, bias, 0.0, pads=pads, groups=groups)


def _between(extent: int) -> NDArray[np.int32]:
    """The two neighbours of every element of twice as many."""
    first = np.arange(2 * extent) // 2
    return np.stack([first, np.minimum(first + 1, extent - 1)], axis=1).astype(np.int32)


def _table() -> NDArray[np.int8]:
    return np.random.default_rng(0).permutation(np.arange(-128, 128)).astype(np.int8)


def normalize(rows: int, groups: int, length: int, outer: int = 1) -> Normalize:
    """A normalization by the deviation, with typical scales and biases."""
    rng = np.random.default_rng(0)
    scale, bias = (rng.normal(size=groups * length).astype(np.float32) for _ in range(2))
    return Normalize("variance", outer, rows, groups, length, 10.0, 30 * scale, bias, -3, 5, -128, 127)


def _heads(rows: int, columns: int) -> Matrices:
    """Three matrices, one after another, row by row."""
    return Matrices(3 * rows * columns, 0, (rows * columns,), columns, 1)


def _transposed(rows: int, columns: int) -> Matrices:
    """Three matrices, one after another, column by column."""
    return Matrices(3 * rows * columns, 0, (rows * columns,), 1, rows)


def attention(length: int, inner: int) -> Attention:
    """Three heads, without a mask."""
    table = np.rint(255 * np.exp(-np.arange(256) / 40)).astype(np.uint8)
    rows = _heads(length, inner)
    return Attention(
        (3,), length, inner, length, inner, rows, _transposed(inner, length), rows, rows, None,
        np.zeros(256, np.int32), 1e-3, table, 1.0, (3, -4, 5), 0, -128, 127,
    )  # fmt: skip


def lstm(steps: int, inputs: int, hidden: int) -> Recurrent:
    """One direction, from zero."""
    rng = np.random.default_rng(0)

    def product(rows: int, inner: int) -> Conv2d:
        weights = rng.integers(-127, 128, (4 * hidden, 1, 1, inner)).astype(np.int8)
        bias, multiplier = np.zeros(4 * hidden, np.int32), np.full(4 * hidden, 0.05, np.float32)
        return Conv2d((1, 1, rows, inner), weights, bias, multiplier, 3, 0, -128, 127)

    x = np.arange(-128, 129) / 128
    curves = np.stack(
        [curve(values) for values in (1 / (1 + np.exp(-16 * x)), np.tanh(8 * x), np.tanh(8 * x))]
    )
    products = product(steps, inputs), product(1, hidden)
    return Recurrent("lstm", steps, 1, False, products, curves, 12, 0, False, False, 1.0, 0, 2.0**-22, 3)


OPERATIONS: dict[str, Operation] = {
    "product-197-64": Product(
        (3,), 197, 64, 197, _heads(197, 64), _transposed(64, 197), _heads(197, 197), 1e-3, (3, -4), 0,
        -128, 127,
    ),
    "attention-197-64": attention(197, 64),
    "lstm-49-40-64": lstm(49, 40, 64),
    "conv1x1-14-256-256": conv2d(14, 256, 256, 1),
    "conv1x1-56-64-64": conv2d(56, 64, 64, 1),
    "conv3x3-14-256-256": conv2d(14, 256, 256, 3),
    "conv3x3-56-64-64": conv2d(56, 64, 64, 3),
    "conv7x7-112-3-64": conv2d(112, 3, 64, 7),
    "chain-56-24-144": inverted_residual(56, 24, 6),
    "depthwise3x3-56-144": conv2d(56, 144, 144, 3, groups=144),
    "depthwise5x5-14-240": conv2d(14, 240, 240, 5, groups=240),
    "conv3x3-wide-14-32-32": conv2d(14, 32, 32, 3, dtype="int16"),
    "matmul-1-1280-1000": conv2d(1, 1280, 1000, 1),
    "conv1x1-56-64-64-float": float_conv2d(56, 64, 64, 1),
    "conv3x3-14-256-256-float": float_conv2d(14, 256, 256, 3),
    "depthwise3x3-56-144-float": float_conv2d(56, 144, 144, 3, groups=144),
    "matmul-1-1280-1000-float": float_conv2d(1, 1280, 1000, 1),
    "add-float": FloatBinary("add", (PIXELS,), ((1,), (1,))),
    "average_pool2x2-float": FloatAveragePool(
        (1, 28, 28, 128), (1, 14, 14, 128), (2, 2), (2, 2), (0, 0), np.full((14, 14), 0.25, np.float32)
    ),
    "mean-float": FloatMean(1, 7 * 7, 1280),
    "layer_norm-float": FloatNormalize(
        "variance", 197, 192, 1e-6, np.ones(192, np.float32), np.zeros(192, np.float32)
    ),
    "add": Binary("add", (PIXELS,), ((1,), (1,)), (3, -4), (0.5, 0.7), 1, -128, 127),
    "mul": Binary("mul", (PIXELS,), ((1,), (1,)), (3, -4), (0.05, 0.07), 1, -128, 127),
    "quantize": Quantize(224 * 224 * 3, 0.02, -1),
    "dequantize": Dequantize(PIXELS, 0.02, -1),
    "lookup": Lookup(PIXELS, _table()),
    "max_pool3x3": MaxPool((1, 112, 112, 64), (1, 56, 56, 64), (3, 3), (2, 2), (1, 1)),
    "average_pool2x2": AveragePool(
        (1, 28, 28, 128), (1, 14, 14, 128), (2, 2), (2, 2), (0, 0),
        np.full((14, 14), 0.25, np.float32), -3, -3, -128, 127,
    ),
    "mean": Mean(1, 7 * 7, 1280, 1 / 49, -3, -3, -128, 127),
    "layer_norm": normalize(1, 1, 192, outer=197),
    "group_norm": normalize(28 * 28, 32, 4),
    "instance_norm": normalize(28 * 28, 128, 1),
    "softmax": Softmax(128, 128, np.arange(256, dtype=np.int32)[::-1].copy() * 1000, 256.0, -128),
    "transpose": Rearrange((128, 784), (1, 128), 0, "int8", PIXELS),
    "concat": Concat(784, (64, 64), (None, None)),
    "resize_linear": Interpolate(
        (1, 28, 28, 64), _between(28), np.full(56, 256, np.int32), _between(28), np.full(56, 256, np.int32)
    ),
    "pad": Pad((28, 28, 128), ((1, 1), (1, 1), (0, 0)), -3),
}  # fmt: skip
"""Layers as networks have them."""


def inputs_of(operation: Operation) -> list[Array]:
    """Random inputs of an operation."""
    rng = np.random.default_rng(1)

    def int8(*shape: int) -> Array:
        return rng.integers(-128, 128, shape).astype(np.int8)

    def float32(*shape: int) -> Array:
        return rng.normal(size=shape).astype(np.float32)

    match operation:
        case FloatConv2d() | FloatAveragePool():
            return [float32(*operation.input_shape)]
        case FloatBinary():
            return [float32(*operation.shape), float32(*operation.shape)]
        case Product():
            return [int8(operation.left.size), int8(operation.right.size)]
        case Attention():
            return [int8(lie.size) for lie in (operation.queries, operation.keys, operation.values)]
        case Recurrent():
            return [int8(operation.steps, operation.batch, operation.inputs)]
        case FloatNormalize():
            return [float32(operation.outer, operation.length)]
        case FloatMean():
            return [float32(operation.outer, operation.reduced, operation.inner)]
        case Conv2d() | Chain() | MaxPool() | AveragePool() | Interpolate():
            return [int8(*operation.input_shape)]
        case Binary():
            return [int8(*operation.shape), int8(*operation.shape)]
        case Quantize():
            return [rng.normal(size=operation.size).astype(np.float32)]
        case Dequantize() | Lookup():
            return [int8(operation.size)]
        case Mean():
            return [int8(operation.outer, operation.reduced, operation.inner)]
        case Normalize():
            return [int8(operation.outer, operation.rows, operation.channels)]
        case Softmax():
            return [int8(operation.outer, operation.length)]
        case Rearrange():
            return [int8(operation.input_size)]
        case Concat():
            return [int8(operation.outer, inner) for inner in operation.inner]
        case Pad():
            return [int8(*operation.shape)]
    raise AssertionError(f"no benchmark gives {type(operation).__name__} its inputs")


LINES = [
    pytest.param(kernel, operation, id=f"{kernel.name}-{name}")
    for name, operation in OPERATIONS.items()
    for kernel in KERNELS
    if isinstance(operation, kernel.operation) and kernel.runs_on(HOST)
    if kernel.code(operation, HOST) is not None
]


def _family(kernel: Kernel) -> str:
    """What a kernel is called without its instruction set."""
    return kernel.name.rpartition("_")[0] if kernel.arch or kernel.features else kernel.name


def test_every_family_is_measured() -> None:
    """A new family of kernels needs a layer here that it takes; fixed-point and plain ones take none here."""
    measured = {_family(line.values[0]) for line in LINES if isinstance(line.values[0], Kernel)}
    families = {_family(kernel) for kernel in KERNELS if kernel.runs_on(HOST)}
    assert {name for name in families if not name.endswith(("_fixed", "_plain"))} == measured


@pytest.mark.parametrize(("kernel", "operation"), LINES)
def test_kernel(benchmark: BenchmarkFixture, kernel: Kernel, operation: Operation, tmp_path: Path) -> None:
    """One layer on one thread, its first configuration."""
    code = kernel.code(operation, HOST)
    assert code is not None
    inputs = inputs_of(operation)
    expected = np.ascontiguousarray(reference.SEMANTICS[type(operation)](operation, *inputs))
    output = np.zeros_like(expected)
    scratch = np.zeros(code.scratch_bytes + 64, np.uint8)
    symbol = f"kernel_{hashlib.sha256(code.key.encode()).hexdigest()[:16]}"
    (tmp_path / "kernel.o").write_bytes(native.compile_object(code.make(), symbol, HOST))
    toolchain.link_shared(HOST, ["kernel.o"], "kernel.so", tmp_path)
    function = ctypes.CDLL(str(tmp_path / "kernel.so"))[symbol]
    buffers = [*inputs, *(np.ascontiguousarray(constant) for constant in code.constants), output, scratch]
    pointers = [ctypes.c_void_p(buffer.ctypes.data) for buffer in buffers]
    assert benchmark(function, *pointers, 0, code.tiles) == 0
    if isinstance(operation, INEXACT):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    else:
        assert np.array_equal(output, expected)
    if isinstance(operation, Conv2d | FloatConv2d):
        macs = operation.weights[0].size * int(np.prod(operation.output_shape))
        benchmark.extra_info["gmacs"] = macs / benchmark.stats.stats.median / 1e9 if benchmark.stats else None
