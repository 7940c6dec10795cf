"""Depthwise convolutions: exact in every configuration, a few output rows at once included."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgec.kernels import reference
from edgec.kernels.conv import depthwise
from edgec.kernels.isa import arm64, x86
from edgec.kernels.isa.base import DepthwiseSet
from edgec.kernels.isa.generic import GenericDepthwise
from edgec.kernels.operations import Conv2d
from edgec.kernels.table import candidates
from edgec.targets import loader
from tests.kernels.harness import Call, Machines
from tests.kernels.operations import BUILDING, depthwise_convolutions
from tests.kernels.test_exactness import check

SETS: tuple[tuple[DepthwiseSet, str], ...] = (
    (x86.DEPTHWISE_AVX512VNNI, "x86-64-v4"),
    (x86.DEPTHWISE_AVX512, "x86-64-v4"),
    (x86.DEPTHWISE_AVXVNNI, "x86-64-avxvnni"),
    (x86.DEPTHWISE_AVX2, "x86-64-v3"),
    (x86.DEPTHWISE_SSE2, "x86-64"),
    (arm64.DEPTHWISE_DOTPROD, "rpi5"),
    (arm64.DEPTHWISE_NEON, "rpi4"),
    (GenericDepthwise(), "x86-64"),
)
EVERY_SET = pytest.mark.parametrize(("isa", "device"), [pytest.param(*s, id=s[0].name) for s in SETS])


def layer(size: int, window: int, channels: int = 48, outputs: int = 1, **geometry: Any) -> Conv2d:
    """`outputs` of every channel."""
    rng, count = np.random.default_rng(0), channels * outputs
    weights = rng.integers(-127, 128, (count, window, window, 1)).astype(np.int8)
    bias, multiplier = rng.integers(-999, 999, count).astype(np.int32), np.full(count, 1e-3, np.float32)
    return Conv2d(
        (1, size, size, channels), weights, bias, multiplier, 3, 4, -128, 127, groups=channels,
        pads=(window // 2,) * 4, **geometry,
    )  # fmt: skip


@EVERY_SET
@settings(BUILDING, max_examples=3)
@given(data=st.data())
def test_every_configuration_equals_the_reference(
    isa: DepthwiseSet, device: str, machines: Machines, data: st.DataObject
) -> None:
    # A small cache makes many tiles of small operations.
    target = replace(loader.load(f"{device}-int8"), l1d_bytes=data.draw(st.sampled_from((32768, 2048))))
    calls = []
    for case in data.draw(st.lists(depthwise_convolutions(), min_size=6, max_size=6)):
        op = case.operation
        assert isinstance(op, Conv2d)
        codes = list(depthwise.codes(isa, op, target))
        if codes:
            with np.errstate(over="ignore"):  # infinity is clamped like any other value
                expected = reference.conv2d(op, *case.inputs)
            code = data.draw(st.sampled_from(codes))
            cuts = sorted(data.draw(st.lists(st.integers(0, code.tiles), max_size=2)))
            calls.append(Call(code, case.inputs, expected, (0, *cuts, code.tiles), data.draw(st.booleans())))
    assume(calls)
    check(machines, target, calls)


@EVERY_SET
def test_rows_together_equal_the_reference(isa: DepthwiseSet, device: str, machines: Machines) -> None:
    """Odd and even heights, tiles of them, windows and strides that rows share and those that they don't."""
    calls = []
    for size, window, stride, l1d_bytes in (
        (7, 3, 1, 2048),
        (8, 3, 1, 512),
        (9, 5, 1, 2048),
        (11, 5, 2, 2048),
    ):
        target = replace(loader.load(f"{device}-int8"), l1d_bytes=l1d_bytes)
        op = layer(size, window, 19, strides=(stride, stride))
        x = np.random.default_rng(1).integers(-128, 128, op.input_shape).astype(np.int8)
        for code in list(depthwise.codes(isa, op, target))[::4]:
            if "x2 pixels" in code.configuration:
                calls.append(Call(code, (x,), reference.conv2d(op, x), (0, 1, code.tiles)))
    assert bool(calls) == isa.vertical, "only interleaved taps are worth sharing"
    if calls:
        check(machines, target, calls)


@EVERY_SET
def test_a_channel_may_have_several_outputs(isa: DepthwiseSet, device: str, machines: Machines) -> None:
    target = loader.load(f"{device}-int8")
    calls = []
    for outputs, size, window, stride in ((2, 8, 3, 1), (3, 9, 3, 2), (9, 6, 5, 1), (40, 5, 1, 1)):
        op = layer(size, window, 11, outputs, strides=(stride, stride))
        x = np.random.default_rng(1).integers(-128, 128, op.input_shape).astype(np.int8)
        code = next(depthwise.codes(isa, op, target))
        calls.append(Call(code, (x,), reference.conv2d(op, x), (0, 1, code.tiles)))
        assert next(candidates(op, target))[0].name.startswith("depthwise")
    check(machines, target, calls)


def test_rows_are_together_where_that_costs_no_product() -> None:
    target = loader.load("rpi5-int8")

    def shared(op: Conv2d) -> bool:
        return any(
            "x2 pixels" in c.configuration for c in depthwise.codes(arm64.DEPTHWISE_DOTPROD, op, target)
        )

    assert shared(layer(14, 3))
    assert shared(layer(14, 5))
    assert shared(layer(14, 5, strides=(2, 2)))
    assert not shared(layer(14, 3, strides=(2, 2))), "five input rows are two groups of four, one shared"
    assert not shared(layer(14, 4)), "as are these"
    assert not shared(layer(14, 3, dilations=(2, 2))), "windows of neighbours have no row in common"


def test_dot_products_make_two_rows_of_four_input_rows() -> None:
    code = next(depthwise.codes(arm64.DEPTHWISE_DOTPROD, layer(14, 3), loader.load("rpi5-int8")))
    assert code.configuration == "2x2 pixels, 8 rows, channels inside"
    assert code.tiles == 2, "for a second thread"
