"""Output channels shared out where weights are the larger part, and weights prefetched."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels import reference
from edgec.kernels.codegen import native, sharing
from edgec.kernels.conv import conv2d, float_conv2d
from edgec.kernels.isa import arm64, fma, x86
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.operations import FREE, Binary, Conv2d, Demands, FloatConv2d, Runs
from edgec.targets import loader
from tests.kernels.harness import Call, Machines
from tests.kernels.operations import BUILDING, Case, called
from tests.kernels.test_exactness import check, check_sums

SETS = [
    pytest.param(x86.AVX512VNNI, "x86-64-v4", id="avx512vnni"),
    pytest.param(x86.AVXVNNI, "x86-64-avxvnni", id="avxvnni"),
    pytest.param(x86.AVX2, "x86-64-v3", id="avx2"),
    pytest.param(x86.SSE2, "x86-64", id="sse2"),
    pytest.param(arm64.DOTPROD, "rpi5", id="dotprod"),
    pytest.param(arm64.I8MM, "cortex-a720", id="i8mm"),
    pytest.param(arm64.NEON, "cortex-a53", id="neon"),
]


def convolution(
    size: int, channels: int, outputs: int, window: int = 1, stride: int = 1, residual: bool = False
) -> Conv2d:
    """A convolution of a square image, padded to its size, with random weights."""
    rng = np.random.default_rng(size * outputs)
    weights = rng.integers(-127, 128, (outputs, window, window, channels)).astype(np.int8)
    bias = rng.integers(-999, 1000, outputs).astype(np.int32)
    multiplier = (rng.random(outputs) / (40 * window * np.sqrt(channels))).astype(np.float32)
    pads = (window // 2,) * 4
    op = Conv2d(
        (1, size, size, channels), weights, bias, multiplier, 7, -3, -128, 127, (stride, stride), pads
    )
    return op if not residual else replace(op, residual=_addition(op))


def _addition(op: Conv2d) -> Binary:
    shape = op.output_shape
    strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(4))
    return Binary("add", shape, (strides, strides), (-3, 9), (0.5, 0.75), 4, -100, 120)


@pytest.mark.parametrize(("isa", "device"), SETS)
@settings(BUILDING, max_examples=3)
@given(data=st.data())
def test_parts_of_the_output_channels_equal_the_reference(
    isa: InstructionSet, device: str, machines: Machines, data: st.DataObject
) -> None:
    target = replace(loader.load(f"{device}-int8"), l1d_bytes=256)
    calls = []
    for _ in range(4):
        op = convolution(
            data.draw(st.integers(1, 5)), data.draw(st.integers(8, 40)), data.draw(st.integers(150, 300)),
            data.draw(st.sampled_from((1, 3))), data.draw(st.integers(1, 2)), data.draw(st.booleans()),
        )  # fmt: skip
        demands = FREE
        if op.residual is None and data.draw(st.booleans()):
            demands = Demands(runs=Runs(op.output_shape[3], op.output_shape[3] + 5))
        shapes = [shape for shape in conv2d.geometries(op, isa, target, demands) if shape.parts > 1]
        shape = data.draw(st.sampled_from(shapes))
        code = next(code for code in conv2d.codes(isa, op, target, demands) if str(shape) in code.key)
        rng = np.random.default_rng(0)
        x = rng.integers(-128, 128, op.input_shape).astype(np.int8)
        others = (rng.integers(-128, 128, op.output_shape).astype(np.int8),) if op.residual else ()
        (expected,) = reference.compute(op, (x, *others), target.requantization)
        cuts = sorted(data.draw(st.lists(st.integers(0, code.tiles), max_size=3)))
        call = called(op, Call(code, (x, *others), expected, (0, *cuts, code.tiles)), demands)
        inplace = data.draw(st.sampled_from((None, *code.inplace)))
        calls.append(replace(call, at_end=data.draw(st.booleans()), inplace=inplace))
    check(machines, target, calls)


@pytest.mark.parametrize(
    ("operation", "parts"),
    [
        pytest.param(convolution(7, 512, 512, 3), 4, id="7x7x512, 3x3"),
        pytest.param(convolution(14, 256, 1024), 4, id="14x14x256, 1x1"),
        pytest.param(convolution(1, 1280, 1000), 4, id="a matrix by a vector"),
        pytest.param(convolution(14, 1024, 256), 1, id="activations are as large"),
        pytest.param(convolution(56, 64, 64, 3), 1, id="activations are larger"),
        pytest.param(convolution(4, 32, 64, 3), 1, id="weights stay in the L1 cache"),
    ],
)
def test_the_larger_of_weights_and_activations_is_read_once(operation: Conv2d, parts: int) -> None:
    shape = next(conv2d.geometries(operation, x86.AVX512VNNI, loader.load("x86-64-v4-int8")))
    assert shape.parts == parts
    assert shape.pixel_tiles == 1 or parts == 1


def test_parts_need_the_scratch_for_all_pixels() -> None:
    target = loader.load("x86-64-v4-int8")
    op = convolution(7, 512, 512, 3)
    whole = next(conv2d.geometries(op, x86.AVX512VNNI, target)).stripe_bytes
    for scratch, parts in ((whole, 4), (whole - 1, 1)):
        shape = next(conv2d.geometries(op, x86.AVX512VNNI, target, Demands(scratch)))
        assert shape.parts == parts
        assert shape.stripe_bytes <= scratch


@given(st.integers(1, 3000), st.sampled_from((4, 8, 16)), st.integers(1, 4))
def test_no_part_is_empty_and_the_largest_is_known(outputs: int, lanes: int, vectors: int) -> None:
    first = next(conv2d.geometries(convolution(2, 4, 8), x86.AVX512VNNI, loader.load("x86-64-v4-int8")))
    shape = replace(first, outputs=outputs, register_tile=(1, vectors))
    target = replace(loader.load("x86-64-v4-int8"), l1d_bytes=0)
    found = sharing.over_channels(shape, 10**5, lanes, target)
    parts = 1 if found is None else found.parts
    blocks = -(-outputs // (lanes * vectors))
    largest = -(-blocks // parts)
    assert (parts - 1) * largest < blocks <= parts * largest
    size = min(outputs, largest * lanes * vectors)
    assert sharing.unevenness(outputs, lanes, (1, vectors)) == pytest.approx(size * parts / outputs)


@pytest.mark.parametrize(
    ("isa", "device", "operation", "prefetches"),
    [
        pytest.param(x86.AVX512VNNI, "x86-64-v4", convolution(7, 128, 256, 3), True, id="avx512vnni"),
        pytest.param(x86.AVX2, "x86-64-v3", convolution(7, 128, 256, 3), True, id="avx2"),
        pytest.param(x86.AVX512VNNI, "x86-64-v4", convolution(1, 512, 512), False, id="one pixel"),
        pytest.param(x86.AVX512VNNI, "x86-64-v4", convolution(56, 64, 64, 3), False, id="many pixels"),
        pytest.param(x86.AVX512VNNI, "x86-64-v4", convolution(7, 64, 64), False, id="few weights"),
        pytest.param(arm64.DOTPROD, "rpi5", convolution(7, 128, 256, 3), False, id="dotprod"),
    ],
)
def test_weights_are_prefetched_where_that_was_measured_to_gain(
    isa: InstructionSet, device: str, operation: Conv2d, prefetches: bool
) -> None:
    target = loader.load(f"{device}-int8")
    code = next(conv2d.codes(isa, operation, target))
    text = native.assembly(code.make(), "kernel", target)
    assert bool(re.search(r"\bprefetcht1\b|\bprfm\b", text)) == prefetches


@pytest.mark.parametrize(
    ("isa", "device"),
    [
        pytest.param(fma.AVX512, "x86-64-v4", id="avx512"),
        pytest.param(fma.AVX2, "x86-64-v3", id="avx2"),
        pytest.param(fma.NEON, "rpi5", id="neon"),
    ],
)
@settings(BUILDING, max_examples=3)
@given(data=st.data())
def test_chunks_of_a_float_window_add_up(
    isa: fma.FloatSet, device: str, machines: Machines, data: st.DataObject
) -> None:
    target = replace(loader.load(f"{device}-fp32"), l1d_bytes=256)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    cases, calls = [], []
    for _ in range(4):
        size, channels = data.draw(st.integers(1, 5)), data.draw(st.integers(4, 20))
        outputs, window = data.draw(st.integers(130, 300)), data.draw(st.sampled_from((1, 3)))
        op = FloatConv2d(
            (1, size, size, channels),
            rng.standard_normal((outputs, window, window, channels)).astype(np.float32),
            rng.standard_normal(outputs).astype(np.float32), low=0.0, high=3.0,
            strides=(1, data.draw(st.integers(1, 2))), pads=(window // 2,) * 4,
            residual=data.draw(st.booleans()),
        )  # fmt: skip
        codes = [code for code in float_conv2d.codes(isa, op, target) if f"chunks={window}" in code.key]
        code = data.draw(st.sampled_from([code for code in codes if "parts" in code.configuration]))
        shapes = [op.input_shape, op.output_shape][: 1 + op.residual]
        case = Case(op, tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes))
        (expected,) = reference.compute(op, case.inputs, target.requantization)
        cuts = sorted(data.draw(st.lists(st.integers(0, code.tiles), max_size=3)))
        assert not (code.inplace and window > 1), "the residual would be overwritten"
        inplace = data.draw(st.sampled_from((None, *code.inplace)))
        call = Call(code, case.inputs, expected, (0, *cuts, code.tiles), inplace=inplace)
        cases.append(case)
        calls.append(call)
    check_sums(machines, target, cases, calls)
