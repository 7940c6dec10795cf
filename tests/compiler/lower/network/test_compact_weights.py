"""Convolutions with compact weights: kernels store what the model has, padded to whole vectors at most."""

import numpy as np
import pytest

from edgec.compiler.lower.network.compact_weights import compact_weights
from edgec.compiler.lower.network.levels import levels
from edgec.compiler.records.records import NONE
from edgec.kernels import reference
from edgec.kernels.operations import Conv2d, Network, Operator, Tensor
from edgec.targets import loader


def network(channels: int, size: int, groups: int = 1) -> Network:
    """One 3x3 convolution that fast kernels store as more bytes than it has."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (channels, 3, 3, channels // groups)).astype(np.int8)
    shape = (1, size, size, channels)
    operation = Conv2d(
        shape, weights, np.zeros(channels, np.int32), np.full(channels, 1e-4, np.float32), 0, 0, -128, 127,
        pads=(1, 1, 1, 1), groups=groups,
    )  # fmt: skip
    tensors = {name: Tensor(name, shape, "int8") for name in ("x", "y")}
    return Network((Operator("conv", operation, ("x",), ("y",)),), tensors, ("x",), ("y",), {})


def stored(given: Network, device: str) -> int:
    """Bytes of the packed weights, the first of a kernel's constants, on the device's own level."""
    program = levels(given, loader.load(f"{device}-int8"), NONE)[-1]
    return program.constants["conv.0"].nbytes


@pytest.mark.parametrize(
    ("device", "channels", "size", "groups"),
    [
        ("x86-64-v3", 64, 56, 1),  # F(4x4)
        ("x86-64-v4", 64, 56, 1),
        ("rpi4", 64, 56, 1),
        ("x86-64-v3", 32, 6, 1),  # int16 weights: too few pixels for Winograd, enough to share them
        ("rpi5", 64, 28, 64),  # two depthwise rows
    ],
)
def test_weights_take_the_bytes_that_they_have(device: str, channels: int, size: int, groups: int) -> None:
    given = network(channels, size, groups)
    operation = given.operators[0].operation
    assert isinstance(operation, Conv2d)
    compact = stored(compact_weights(given), device)
    assert operation.weights.size <= compact < stored(given, device)
    # Depthwise taps are packed by fours, of which a column of three takes three.
    assert compact <= operation.weights.size * (4 / 3 if groups > 1 else 1)


def test_the_meaning_is_the_same() -> None:
    given = network(8, 5)
    x = np.random.default_rng(1).integers(-128, 128, (1, 5, 5, 8)).astype(np.int8)
    one, two = (reference.evaluate(each, {"x": x})["y"] for each in (given, compact_weights(given)))
    assert np.array_equal(one, two)
