"""How layers are cut into tiles, which threads share out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.kernels.codegen import stripe
from edgec.kernels.operations import FloatConv2d
from edgec.kernels.table import applicable
from edgec.targets import loader


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 14), st.integers(1, 8))
def test_even_tiles_are_whole_units_and_no_larger_than_wanted(
    total: int, wanted: int, unit: int, least: int
) -> None:
    size = stripe.even(total, wanted * unit, unit, least)
    assert size == total or size % unit == 0
    assert 1 <= size <= wanted * unit
    tiles, units = -(-total // size), -(-total // unit)
    smaller = max(1, -(-size // unit) - 1)
    assert tiles >= min(least, units) or -(-units // smaller) > least, "one unit less makes too many"


@pytest.mark.parametrize(("total", "size"), [(196, 54), (64, 18), (8, 6), (125, 36)])
def test_even_tiles_differ_by_little(total: int, size: int) -> None:
    assert stripe.even(total, 60, 6) == size


@pytest.mark.parametrize("device", ["x86-64-v3", "x86-64-v4", "rpi5"])
@pytest.mark.parametrize("channels", [16, 32, 64, 192, 1152])
@pytest.mark.parametrize("window", [1, 3])
def test_float_convolutions_of_small_images_are_shared_out(device: str, channels: int, window: int) -> None:
    target = loader.load(f"{device}-fp32")
    weights = np.ones((channels, window, window, 8), np.float32)
    operation = FloatConv2d((1, 8, 8, 8), weights, np.zeros(channels, np.float32), pads=(window // 2,) * 4)
    for one in (operation, replace(operation, strides=(1, 2))):
        code = next(code for kernel in applicable(one, target) if (code := kernel.code(one, target)))
        assert code.tiles >= 3  # register tiles of 28 pixels allow no four
