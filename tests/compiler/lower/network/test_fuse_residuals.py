"""Additions behind convolutions: what fuses, what doesn't, and that nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgec.compiler.lower.network.fuse_residuals import fuse_residuals
from edgec.compiler.lower.network.select import select
from edgec.compiler.records.records import NONE
from edgec.kernels import reference
from edgec.kernels.operations import Binary, Conv2d, Network, Operator, Tensor
from edgec.targets import loader

SHAPE = (1, 4, 5, 3)


def convolution(seed: int) -> Conv2d:
    rng = np.random.default_rng(seed)
    weights: NDArray[np.int8] = rng.integers(-127, 128, (3, 3, 3, 3)).astype(np.int8)
    bias, multiplier = rng.integers(-99, 99, 3).astype(np.int32), np.full(3, 0.01, np.float32)
    return Conv2d(SHAPE, weights, bias, multiplier, 3, -5, -100, 90, pads=(1, 1, 1, 1))


ADDITION = Binary("add", SHAPE, ((60, 15, 3, 1), (60, 15, 3, 1)), (-5, 7), (0.75, 0.4), 2, -100, 127)


def network(*operators: tuple[str, Conv2d | Binary, str, str], outputs: str = "y") -> Network:
    """Each operator as (name, operation, inputs, output), names of one letter."""
    tensors = {name: Tensor(name, SHAPE, "int8") for _, _, inputs, y in operators for name in inputs + y}
    made = tuple(Operator(name, op, tuple(inputs), (y,)) for name, op, inputs, y in operators)
    return Network(made, tensors, ("x",), tuple(outputs), {})


def names(found: Network) -> list[str]:
    return [operator.name for operator in found.operators]


def assert_same(one: Network, two: Network, seed: int = 0) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, SHAPE).astype(np.int8)
    before, after = (reference.evaluate(n, {"x": x}) for n in (one, two))
    for name in one.outputs:
        np.testing.assert_array_equal(before[name], after[name])


@given(st.integers(0, 1000), st.booleans())
def test_either_operand_may_be_the_convolution(seed: int, swapped: bool) -> None:
    given_ = network(("c", convolution(seed), "x", "a"), ("s", ADDITION, "xa" if swapped else "ax", "y"))
    fused = fuse_residuals(given_)
    assert names(fused) == ["c+s"]
    assert fused.operators[0].inputs == ("x", "x")
    assert "a" not in fused.tensors
    assert_same(given_, fused, seed)


def test_of_two_convolutions_the_later_adds() -> None:
    given_ = network(
        ("c", convolution(1), "x", "a"), ("d", convolution(2), "x", "b"), ("s", ADDITION, "ab", "y")
    )
    fused = fuse_residuals(given_)
    assert names(fused) == ["c", "d+s"]
    assert fused.operators[1].inputs == ("x", "a")
    assert_same(given_, fused)


def test_a_result_that_others_read_is_stored() -> None:
    given_ = network(
        ("c", convolution(1), "x", "a"), ("s", ADDITION, "ax", "y"), ("d", convolution(2), "a", "z"),
        outputs="yz",
    )  # fmt: skip
    assert names(fuse_residuals(given_)) == ["c", "s", "d"]
    doubled = network(("c", convolution(1), "x", "a"), ("s", ADDITION, "aa", "y"))
    assert names(fuse_residuals(doubled)) == ["c", "s"]
    output = network(("c", convolution(1), "x", "a"), ("s", ADDITION, "ax", "y"), outputs="ya")
    assert names(fuse_residuals(output)) == ["c", "s"]


def test_a_sum_of_sums_adds_once_per_convolution() -> None:
    given_ = network(("c", convolution(1), "x", "a"), ("s", ADDITION, "ax", "b"), ("t", ADDITION, "bx", "y"))
    fused = fuse_residuals(given_)
    assert names(fused) == ["c+s", "t"]
    assert_same(given_, fused)


@pytest.mark.parametrize(
    "other",
    [
        replace(ADDITION, kind="mul"),
        replace(ADDITION, strides=((60, 15, 3, 1), (0, 0, 0, 1))),
        replace(ADDITION, strides=((60, 15, 3, 1), (60, 3, 12, 1))),
    ],
)
def test_products_broadcasts_and_transposes_stay(other: Binary) -> None:
    assert names(fuse_residuals(network(("c", convolution(1), "x", "a"), ("s", other, "ax", "y")))) == [
        "c",
        "s",
    ]


def test_a_depthwise_convolution_stays_with_its_own_kernels() -> None:
    depthwise = replace(convolution(1), weights=convolution(1).weights[..., :1], groups=3)
    assert names(fuse_residuals(network(("c", depthwise, "x", "a"), ("s", ADDITION, "ax", "y")))) == [
        "c",
        "s",
    ]


def test_a_window_over_what_is_added_keeps_it() -> None:
    """In place, rows of x would be overwritten that other tiles' windows still read."""
    shared = network(("c", convolution(1), "x", "a"), ("s", ADDITION, "ax", "y"))
    other = network(
        ("d", convolution(2), "x", "b"), ("c", convolution(1), "x", "a"), ("s", ADDITION, "ab", "y")
    )
    target = loader.load("rpi5-int8")
    assert select(fuse_residuals(shared), target, NONE).calls[0].inplace == ()
    assert select(fuse_residuals(other), target, NONE).calls[-1].inplace == (("b", "y"),)
