"""Kernels for microcontrollers: one function for many layers, little scratch, in place where that is safe."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgec.kernels import reference
from edgec.kernels.codegen import elf, native
from edgec.kernels.isa import dsp, mve, thumb
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Conv2d, Demands
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


def code(operation: Conv2d, core: str, demands: Demands = FREE) -> KernelCode:
    return next(candidates(operation, loader.load(f"{core}-int8"), demands))[1]


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
    assert elf.loaded_bytes(native.compile_object(first.make(), "kernel", target)) < 1500


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
    total=st.integers(-(2**31), 2**31 - 1) | st.integers(-2048, 2048),
    multiplier=st.floats(2.0**-120, 2.0**120, width=32).map(np.float32),
)
def test_the_upper_word_is_all_that_rounding_needs(total: int, multiplier: np.float32) -> None:
    (mantissa, shift), ((scale, shifts),) = fixed_point(multiplier), thumb.scales(np.array([multiplier]))
    scaled = total * int(mantissa)
    exact = (scaled * 2 + 2 ** int(shift)) // 2 ** (int(shift) + 1) if shift >= 0 else scaled << -int(shift)
    left, right = int(shifts) >> 8, int(shifts) & 0xFF
    assert (left > 0) == thumb.wide(np.array([multiplier]))
    saturated = min(max(total, -(2**18)), 2**18 - 1) if left else total
    high = (saturated << left) * int(scale) >> 32
    found = (high >> right) + 1 >> 1
    assert found - 128 >= -(2**31)
    assert found + 127 < 2**31
    for zero_point in (-128, 0, 127):
        assert min(max(found + zero_point, -128), 127) == min(max(exact + zero_point, -128), 127)


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
    "holes that loads don't span": ((6, 40, 8), 8, (2, 4), (1, 2), (0, 9, 1, 8), (3, 9)),
    "tall image": ((17, 4, 16), 16, (5, 3), (1, 1), (2, 1, 2, 1), (1, 1)),
    "tall image, ragged": ((15, 3, 3), 9, (3, 2), (2, 1), (1, 0, 1, 1), (2, 1)),
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


def single(op: Conv2d) -> Conv2d:
    """The same of one image, which may be turned."""
    return replace(op, input_shape=(1, *op.input_shape[1:]))


def checked(machines: Machines, core: str, layers: Sequence[Conv2d]) -> None:
    """Each is exact by all small functions of the first kernel that takes it."""
    target, calls = loader.load(f"{core}-int8"), []
    for op in layers:
        kernel, first = next(candidates(op, target))
        assert first.key.startswith("mcu_"), kernel.name
        x = np.random.default_rng(1).choice(np.array((-128, -77, 3, 100, 127), np.int8), op.input_shape)
        (expected,) = reference.compute(op, (x,), target.requantization)
        for code in kernel.codes(op, target):
            # The most is Armv6-M's, whose instructions do the least; unrolled for one shape it is 4 to 18 KB.
            assert elf.loaded_bytes(native.compile_object(code.make(), "kernel", target)) < 2400
            calls += [
                Call(code, (x,), expected, tuple(range(code.tiles + 1)), inplace=inplace)
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
        one = code(each, core, Demands(uniform=True))
        own, kept = (sum(array.nbytes for array in made.constants) for made in (code(each, core), one))
        # Beside it Helium's loop has three parameters; groups have their own.
        assert kept <= own - len(weights) * 4 + op.groups * 16
        x = rng.integers(-128, 128, op.input_shape).astype(np.int8)
        (expected,) = reference.compute(each, (x,), target.requantization)
        calls += [
            Call(one, (x,), expected, (0, 1, one.tiles), inplace=inplace) for inplace in (None, *one.inplace)
        ]
    check(machines, target, calls)


@pytest.mark.parametrize("core", EVERY_CORE)
@pytest.mark.parametrize("family", ["depthwise", "single", "others"])
def test_any_geometry_is_exact_in_a_small_function(core: str, family: str, machines: Machines) -> None:
    if family == "others":
        layers = [shaped(*geometry) for geometry in OTHERS.values()]
    else:
        layers = [shaped(*geometry, groups=geometry[0][2]) for geometry in DEPTHWISE.values()]
    checked(machines, core, [single(op) for op in layers] if family == "single" else layers)


BOUNDS = {"usual": (-128, 127), "clipped": (-100, 90), "relu": (3, 60), "constant": (7, 7)}


@pytest.mark.parametrize("core", EVERY_CORE)
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("multipliers", ["usual", "wide"])
def test_any_bounds_and_multipliers_are_exact_in_a_small_function(
    core: str, bounds: str, multipliers: str, machines: Machines
) -> None:
    geometries = [
        ((9, 11, 24), 24, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 24),
        ((8, 10, 16), 16, (3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 16),
        ((9, 5, 13), 13, (5, 4), (1, 1), (2, 2, 2, 1), (1, 1), 13),
        ((7, 6, 4), 12, (3, 3), (1, 2), (1, 1, 1, 1), (1, 1), 4),
    ]
    if core in ("cortex-m0plus", "cortex-m3", "riscv32"):  # others take sums of 24 bits, or any
        geometries += [
            ((4, 5, 16), 7, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
            ((5, 4, 3), 8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
            ((1, 1, 40), 9, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
            ((5, 4, 8), 8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),  # only the second group's are wide
        ]
    layers = []
    for geometry in geometries:
        op = replace(shaped(*geometry), low=BOUNDS[bounds][0], high=BOUNDS[bounds][1])
        if multipliers == "wide":
            # Beside one another: those that a sum is shifted to the left for, to the right, and not at all.
            exponents = np.resize((-31, -12, -8, -3, -2, -1, 0, 3, 9, 10, 30, 100), len(op.weights))
            scale = np.exp2(exponents.astype(np.float32)) * np.linspace(1, 1.99, len(exponents))
            # Sums around what a shift to the left saturates, and all that int32 holds.
            bias = np.resize((0, 1, -1, 2**18, -(2**18), 2**30, -(2**30)), len(exponents))
            # And small ones where those of usual weights would all leave int8.
            weights = np.where((scale >= 0.25)[:, None, None, None], op.weights // 120, op.weights)
            op = replace(op, weights=weights, multiplier=scale.astype(np.float32), bias=bias.astype(np.int32))
        layers.append(op)
    checked(machines, core, layers)


@pytest.mark.parametrize("cancelled", [True, False])
def test_helium_sums_are_exact_to_the_last_bit(cancelled: bool, machines: Machines) -> None:
    """Windows of as many taps as there may be; biases take the products away but for some steps, or add."""
    calls, target = [], loader.load("cortex-m55-int8")
    steps = np.array([0, 1, -1, 5, -100, 90, 7, -2])
    # 64 * 128 * 256 is 2**21, the most that sums begin with: at either side of it, and far from it.
    for factors in ((64, 64, -64, -64, 63, -65, 127, -127), (1, 0, -127, 127, 100, -3, 64, -64)):
        for shape, window in (((1, 17, 18, 8), (16, 16)), ((1, 5, 6, 8), (3, 5)), ((1, 9, 3, 8), (9, 1))):
            for activation in (-128, 127):
                weights = np.empty((8, *window, 1), np.int8)
                weights[:] = np.array(factors)[:, None, None, None]
                products = np.array(factors) * activation * int(np.prod(window))
                bias, scale = steps - products, 1.0
                if not cancelled:
                    bias = np.where(products < 0, -1, 1) * (
                        2**21 + np.array([0, 1, 2**22, 9, -1, 2**29, -9, 1])
                    )
                    scale = 2.0**-16
                op = Conv2d(
                    shape, weights, bias.astype(np.int32), np.full(8, scale, np.float32), 0, 1, -128, 127,
                    groups=8,
                )  # fmt: skip
                kernel, made = next(candidates(op, target))
                assert kernel.name == "depthwise_any_mve"
                x = np.full(shape, activation, np.int8)
                (expected,) = reference.compute(op, (x,), target.requantization)
                assert not cancelled or (expected == steps + 1).all()
                calls.append(Call(made, (x,), expected, (0, 1)))
    check(machines, target, calls)


def test_helium_reaches_over_wide_rows(machines: Machines) -> None:
    """Holes as of dilated convolutions over time; a stride beyond what a load's offset holds."""
    far = [
        shaped((1, 1000, 8), 8, (1, 3), (1, 1), (0, 250, 0, 250), (1, 249), 8),
        shaped((1, 300, 8), 8, (1, 3), (1, 40), (0, 0, 0, 0), (1, 5), 8),
    ]
    assert [next(candidates(op, loader.load("cortex-m55-int8")))[0].name for op in far] == [
        "depthwise_any_mve"
    ] * 2
    checked(machines, "cortex-m55", far)
    beyond = shaped((1, 1000, 8), 8, (1, 3), (1, 1), (0, 300, 0, 300), (1, 300), 8)
    assert next(candidates(beyond, loader.load("cortex-m55-int8")))[0].name == "depthwise_generic"


def test_helium_leaves_windows_that_its_sums_do_not_hold_to_others() -> None:
    beyond = shaped((20, 20, 8), 8, (15, 17), (1, 1), (0, 0, 0, 0), (1, 1), 8)
    assert next(candidates(beyond, loader.load("cortex-m55-int8")))[0].name == "depthwise_any_dsp"


@pytest.mark.parametrize("core", EVERY_CORE)
def test_layers_of_one_window_share_a_function(core: str) -> None:
    one, two = (shaped((size, size, 24), 24, (5, 5), (1, 1), (2,) * 4, (1, 1), 24) for size in (9, 14))
    assert code(one, core).key == code(two, core).key
    assert code(one, core).inplace == (0,)
    grouped, also = (shaped((size, size, 16), 16, (3, 3), (1, 1), (1,) * 4, (1, 1), 4) for size in (6, 8))
    assert code(grouped, core).key == code(also, core).key


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m55"])
def test_depthwise_layers_of_any_stride_share_a_function(core: str) -> None:
    one, two = (layer((10, 10, 16), 16, 3, stride, depthwise=True) for stride in (1, 2))
    assert code(one, core).key == code(two, core).key


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m55"])
def test_of_a_tall_image_rows_are_columns_where_that_is_safe(core: str) -> None:
    tall = single(shaped((30, 4, 8), 8, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 8))
    assert code(tall, core).configuration == "along columns"
    assert code(tall, core).inplace == (0,)
    strided = replace(tall, strides=(2, 2))  # turned, columns would be written over ones still to be read
    assert code(strided, core).configuration == "along rows"
    assert code(strided, core).inplace == (0,)
    assert code(replace(tall, input_shape=(2, 30, 4, 8)), core).configuration == "along rows"


def test_a_window_too_wide_to_be_written_out_is_left_to_others() -> None:
    wide = shaped((72, 90, 4), 4, (66, 70), (1, 1), (0, 0, 0, 0), (1, 1), 4)
    assert next(candidates(wide, loader.load("cortex-m4-int8")))[0].name == "depthwise_generic"
    assert next(candidates(wide, loader.load("cortex-m3-int8")))[0].name == "depthwise_any_plain"
