"""Kernels for microcontrollers: one function for many layers, little scratch, in place where that is safe."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgec.kernels import codegen, elf, reference
from edgec.kernels.isa import dsp, mve, thumb
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Conv2d
from edgec.kernels.reference import fixed_point
from edgec.kernels.table import candidates
from edgec.targets import loader
from tests.kernels.harness import Call, Machines
from tests.kernels.test_exactness import check

CORES = ("cortex-m3", "cortex-m4", "cortex-m55")


def layer(
    image: tuple[int, int, int], outputs: int, window: int = 1, stride: int = 1, depthwise: bool = False
) -> Conv2d:
    channels, pad = image[2], window // 2
    weights = np.ones((outputs, window, window, 1 if depthwise else channels), np.int8)
    return Conv2d(
        (1, *image), weights, np.zeros(outputs, np.int32), np.full(outputs, 0.01, np.float32), -128, -128,
        -128, 127, (stride, stride), (pad,) * 4, groups=channels if depthwise else 1,
    )  # fmt: skip


def code(operation: Conv2d, core: str) -> KernelCode:
    return next(candidates(operation, loader.load(f"{core}-int8")))[1]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(
    ("one", "two"),
    [
        (layer((25, 5, 64), 64), layer((6, 6, 128), 128)),
        (layer((32, 32, 16), 32, 3, 2), layer((8, 8, 64), 64, 3)),
        (layer((1, 1, 640), 128), layer((1, 1, 128), 8)),
        (layer((25, 5, 64), 64, 3, depthwise=True), layer((48, 48, 8), 8, 3, depthwise=True)),
    ],
    ids=["pointwise", "window", "dense", "depthwise"],
)
def test_layers_of_other_shapes_share_a_small_function(core: str, one: Conv2d, two: Conv2d) -> None:
    first, second = code(one, core), code(two, core)
    assert first.key == second.key
    target = loader.load(f"{core}-int8")
    # The largest holds loops over pixels, windows in and out of the image, and channels.
    assert elf.loaded_bytes(codegen.compile_object(first.make(), "kernel", target)) < 1500


@pytest.mark.parametrize("core", CORES)
def test_scratch_is_two_windows_or_three_rows_of_a_few_channels(core: str) -> None:
    size = 2 if core == "cortex-m4" else 1  # bytes of an element
    assert code(layer((8, 8, 64), 64, 3), core).scratch_bytes <= 2 * 9 * 64 * size
    assert code(layer((48, 48, 8), 8, 3, depthwise=True), core).scratch_bytes <= 3 * 52 * 8


@pytest.mark.parametrize("core", CORES)
def test_layers_work_in_place_where_no_pixel_is_written_before_it_was_read(core: str) -> None:
    assert code(layer((25, 5, 64), 64), core).inplace == (0,)
    assert code(layer((25, 5, 64), 32), core).inplace == (0,)
    assert code(layer((25, 5, 64), 72), core).inplace == ()
    assert code(layer((25, 5, 64), 64, 3), core).inplace == ()
    assert code(layer((9, 9, 64), 64, 3, depthwise=True), core).inplace == (0,)
    assert code(layer((9, 9, 64), 64, 3, 2, depthwise=True), core).inplace == (0,)
    two = replace(layer((25, 5, 64), 32), input_shape=(2, 25, 5, 64))
    assert code(two, core).inplace == ()  # the second image's results would lie on the first's input


@given(
    weights=arrays(np.int8, 4, elements=st.integers(-127, 127)),
    activations=arrays(np.int8, 4, elements=st.sampled_from((-128, -127, -1, 0, 1, 126, 127))),
)
def test_pairs_as_they_are_in_memory_sum_up_to_256_times_the_products(
    weights: NDArray[np.int8], activations: NDArray[np.int8]
) -> None:
    """What `smlad` makes of a word of weights, its `sxtb16`, and an activation word in its two forms."""
    raw = dsp.pack_pairs(weights).reshape(1).view("<i2").astype(np.int64)
    even = raw.astype(np.int8).astype(np.int64)  # sxtb16
    words = activations.view("<u4")
    first = activations[0::2].astype(np.int64)
    second = (words ^ np.uint32(0x007F007F)).view("<i2").astype(np.int64)
    wanted = 256 * (weights.astype(np.int64) * activations).sum() + 127 * weights[1::2].astype(np.int64).sum()
    assert (raw * first).sum() + (even * second).sum() == wanted


def test_sums_beyond_24_bits_are_left_to_others() -> None:
    large = replace(layer((1, 1, 640), 128), bias=np.full(128, 2**23, np.int32))
    kernel, _ = next(candidates(large, loader.load("cortex-m4-int8")))
    assert kernel.name == "conv2d_generic"


@given(
    total=st.integers(-(2**31), 2**31 - 1),
    multiplier=st.floats(2.0**-120, 0.25, width=32, exclude_max=True).map(np.float32),
)
def test_the_upper_word_is_all_that_rounding_needs(total: int, multiplier: np.float32) -> None:
    (mantissa, shift), ((scale, down),) = fixed_point(multiplier), thumb.scales(np.array([multiplier]))
    exact = (total * int(mantissa) * 2 + 2 ** int(shift)) // 2 ** (int(shift) + 1)
    high = total * int(scale) >> 32
    assert (high >> int(down)) + 1 >> 1 == exact


def test_the_stream_for_helium_holds_every_weight_once() -> None:
    weights = np.arange(-96, 96, dtype=np.int8).reshape(6, 32)
    bias, multiplier = np.arange(6, dtype=np.int32), np.full(6, 0.5, np.float32)
    for pixels in (1, 2):
        words = mve.stream(weights, bias, multiplier, pixels, uniform=False)
        assert words.nbytes == 2 * 4 * (4 + 32 + 4)  # two blocks of four channels
        found = np.sort(words.view(np.int8))
        assert set(np.unique(weights)) <= set(np.unique(found))


EVERY_CORE = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55", "riscv32")

# Image, outputs, window, strides, pads, dilations, groups: small ones of shapes that real networks have.
DEPTHWISE = {
    "5x5 of EfficientNet": ((9, 11, 24), 24, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1)),
    "5x5 of MobileNetV3, stride 2": ((14, 14, 16), 16, (5, 5), (2, 2), (1, 1, 2, 2), (1, 1)),
    "3x3 with holes": ((10, 9, 8), 8, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
    "3x3 with holes of two sizes, strided": ((13, 12, 8), 8, (3, 3), (2, 1), (3, 2, 1, 0), (2, 3)),
    "7x7, odd channels": ((8, 7, 13), 13, (7, 7), (1, 1), (3, 3, 3, 3), (1, 1)),
    "whole image": ((5, 4, 12), 12, (5, 4), (1, 1), (0, 0, 0, 0), (1, 1)),
    "two outputs a channel": ((7, 6, 6), 12, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "ten outputs a channel, 10x4": ((12, 8, 2), 20, (10, 4), (2, 2), (4, 1, 5, 1), (1, 1)),
    "stride beyond the window": ((11, 10, 5), 5, (2, 1), (4, 3), (0, 0, 0, 0), (1, 1)),
    "even window": ((6, 9, 8), 8, (4, 2), (1, 2), (1, 0, 2, 1), (1, 1)),
}
OTHERS = {
    "grouped": ((7, 6, 12), 20, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 4),
    "grouped, pointwise": ((5, 5, 16), 24, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 2),
    "grouped, odd": ((6, 5, 9), 15, (3, 2), (2, 1), (0, 1, 1, 0), (1, 1), 3),
    "with holes": ((9, 8, 8), 6, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    "with large holes, strided": ((11, 13, 5), 4, (3, 2), (2, 2), (4, 3, 2, 1), (4, 3), 1),
    "grouped, with holes": ((8, 9, 8), 8, (2, 3), (1, 1), (1, 2, 1, 2), (1, 2), 2),
}


def shaped(
    image: tuple[int, int, int], outputs: int, window: tuple[int, int], strides: tuple[int, int],
    pads: tuple[int, int, int, int], dilations: tuple[int, int], groups: int,
) -> Conv2d:  # fmt: skip
    rng = np.random.default_rng(sum(image) + outputs)
    weights = rng.integers(-127, 128, (outputs, *window, image[2] // groups)).astype(np.int8)
    bias = rng.integers(-999, 999, outputs).astype(np.int32)
    multiplier = (rng.uniform(0.5, 2, outputs) * 0.01 / np.sqrt(weights[0].size)).astype(np.float32)
    return Conv2d((2, *image), weights, bias, multiplier, -7, 3, -128, 127, strides, pads, dilations, groups)


@pytest.mark.parametrize("core", EVERY_CORE)
@pytest.mark.parametrize("family", ["depthwise", "others"])
def test_any_geometry_is_exact_in_a_small_function(core: str, family: str, machines: Machines) -> None:
    target = loader.load(f"{core}-int8")
    if family == "depthwise":
        layers = [shaped(*geometry, groups=geometry[0][2]) for geometry in DEPTHWISE.values()]
    else:
        layers = [shaped(*geometry) for geometry in OTHERS.values()]
    calls = []
    for op in layers:
        kernel, code = next(candidates(op, target))
        assert code.key.startswith("compact_"), kernel.name
        # The most is Armv6-M's, whose instructions do the least; unrolled for one shape it is 4 to 18 KB.
        assert elf.loaded_bytes(codegen.compile_object(code.make(), "kernel", target)) < 2400
        x = np.random.default_rng(1).integers(-128, 128, op.input_shape).astype(np.int8)
        (expected,) = reference.compute(op, (x,), target.requantization)
        calls += [
            Call(code, (x,), expected, (0, 1, code.tiles), inplace=inplace)
            for inplace in (None, *code.inplace)
        ]
    check(machines, target, calls)


UNIFORM = {
    "dense": layer((1, 1, 24), 12),
    "dense, part of a block": layer((1, 1, 24), 7),
    "dense, clipped": replace(layer((1, 1, 24), 12), low=-100, high=90),
    "pointwise": layer((5, 5, 8), 12),
    "pointwise, part of a block": layer((5, 5, 8), 11),
    "window": layer((6, 5, 4), 12, 3),
    "window, odd channels, strided, clipped": replace(layer((7, 6, 5), 9, 3, 2), low=-100, high=90),
    "grouped": shaped(*OTHERS["grouped"]),
    "grouped, odd": shaped(*OTHERS["grouped, odd"]),
}


@pytest.mark.parametrize("core", EVERY_CORE)
def test_a_multiplier_of_all_channels_is_kept_once(core: str, machines: Machines) -> None:
    target = loader.load(f"{core}-int8")
    rng, calls = np.random.default_rng(2), []
    for op in UNIFORM.values():
        weights = rng.integers(-127, 128, op.weights.shape).astype(np.int8)
        multiplier = np.full(len(weights), 0.013 / np.sqrt(weights[0].size), np.float32)
        each = replace(op, weights=weights, multiplier=multiplier, output_zero_point=5)
        one = replace(each, uniform=True)
        own, kept = (sum(array.nbytes for array in code(o, core).constants) for o in (each, one))
        # Beside it Helium's loop has three parameters; groups have their own.
        assert kept <= own - len(weights) * 4 + op.groups * 16
        x = rng.integers(-128, 128, op.input_shape).astype(np.int8)
        (expected,) = reference.compute(one, (x,), target.requantization)
        calls += [
            Call(code(one, core), (x,), expected, (0, 1, code(one, core).tiles), inplace=inplace)
            for inplace in (None, *code(one, core).inplace)
        ]
    check(machines, target, calls)


@pytest.mark.parametrize("core", EVERY_CORE)
def test_layers_of_one_window_share_a_function(core: str) -> None:
    one, two = (shaped((size, size, 24), 24, (5, 5), (1, 1), (2,) * 4, (1, 1), 24) for size in (9, 14))
    assert code(one, core).key == code(two, core).key
    assert code(one, core).inplace == (0,)
    grouped, also = (shaped((size, size, 16), 16, (3, 3), (1, 1), (1,) * 4, (1, 1), 4) for size in (6, 8))
    assert code(grouped, core).key == code(also, core).key


def test_a_window_too_wide_to_be_written_out_is_left_to_others() -> None:
    wide = shaped((3, 90, 4), 4, (1, 70), (1, 1), (0, 0, 0, 0), (1, 1), 4)
    assert next(candidates(wide, loader.load("cortex-m4-int8")))[0].name == "depthwise_generic"
    assert next(candidates(wide, loader.load("cortex-m3-int8")))[0].name == "depthwise_any_plain"
