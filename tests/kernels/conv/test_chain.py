"""Chains of convolutions: every way to cut one is exact, in ranges of tiles as threads have them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels import reference
from edgec.kernels.codegen import stripe
from edgec.kernels.conv import chain
from edgec.kernels.isa import arm64, x86
from edgec.kernels.isa.base import DepthwiseSet, InstructionSet
from edgec.kernels.operations import Binary, Chain, Conv2d, Demands
from edgec.targets import loader
from tests.kernels.harness import Call, Machines
from tests.kernels.operations import BUILDING, chains
from tests.kernels.test_exactness import check

SETS = (
    pytest.param(x86.AVX512VNNI, x86.DEPTHWISE_AVX512VNNI, "x86-64-v4", id="avx512vnni"),
    pytest.param(x86.AVX2, x86.DEPTHWISE_AVX2, "x86-64-v3", id="avx2"),
    pytest.param(arm64.NEON, arm64.DEPTHWISE_NEON, "rpi4", id="neon"),
    pytest.param(arm64.DOTPROD, arm64.DEPTHWISE_DOTPROD, "rpi5", id="dotprod"),
)


def convolution(
    shape: tuple[int, int, int, int], outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> Conv2d:
    rng = np.random.default_rng(outputs)
    weights = rng.integers(-127, 128, (outputs, kernel, kernel, shape[3] // groups)).astype(np.int8)
    bias, multiplier = rng.integers(-99, 99, outputs).astype(np.int32), np.full(outputs, 3e-3, np.float32)
    return Conv2d(
        shape, weights, bias, multiplier, 3, 3, -128, 127, (stride, stride), (kernel // 2,) * 4, groups=groups
    )


def inverted_residual(size: int, channels: int = 16, stride: int = 1, kernel: int = 3) -> Chain:
    """Expand, depthwise, project."""
    expand = convolution((1, size, size, channels), 4 * channels)
    middle = convolution(expand.output_shape, 4 * channels, kernel, stride, groups=4 * channels)
    return Chain((expand, middle, convolution(middle.output_shape, channels)))


@pytest.mark.parametrize(("dense", "channelwise", "device"), SETS)
@settings(BUILDING, max_examples=3)
@given(data=st.data())
def test_every_plan_equals_the_reference(
    dense: InstructionSet, channelwise: DepthwiseSet, device: str, machines: Machines, data: st.DataObject
) -> None:
    """Steps of one row and of many, in one tile and in many; a range of tiles begins with no rows kept."""
    target = loader.load(f"{device}-int8")
    target = replace(target, l1d_bytes=data.draw(st.sampled_from((256, 2048, 65536))))
    calls = []
    for case in data.draw(st.lists(chains(), min_size=6, max_size=6)):
        op = case.operation
        assert isinstance(op, Chain)
        if dense.accepts(op.stages[0].weights):
            with np.errstate(over="ignore"):  # infinity is clamped like any other value
                expected = reference.chain(op, *case.inputs)
            plan = data.draw(st.sampled_from(list(chain.plans(dense, channelwise, op, target))))
            code = chain.code(dense, channelwise, op, replace(plan, steps=data.draw(st.integers(1, 3))))
            ranges = st.sampled_from(((0, code.tiles), (*range(min(code.tiles, 6)), code.tiles)))
            calls.append(Call(code, case.inputs, expected, data.draw(ranges), data.draw(st.booleans())))
    check(machines, target, calls)


def test_a_residual_in_place_is_read_before_it_is_written(machines: Machines) -> None:
    target = loader.load("x86-64-v3-int8")
    op = inverted_residual(12)
    rng = np.random.default_rng(0)
    x, other = (rng.integers(-128, 128, op.input_shape).astype(np.int8) for _ in range(2))
    added = Binary("add", (x.size,), ((1,), (1,)), (3, -5), (0.5, 0.75), 1, -128, 127)
    op = replace(op, stages=(*op.stages[:2], replace(op.stages[2], residual=added)))
    code = next(chain.codes(x86.AVX2, x86.DEPTHWISE_AVX2, op, target))
    assert code.inplace == (1,)
    expected = reference.chain(op, x, other.reshape(-1))
    check(
        machines,
        target,
        [Call(code, (x, other), expected, (*range(min(code.tiles, 6)), code.tiles), inplace=1)],
    )


def test_scratch_is_what_it_may_be() -> None:
    target = loader.load("x86-64-v4-int8")
    op = inverted_residual(56)

    def codes(scratch: int | None) -> list[chain.ChainPlan]:
        return list(chain.plans(x86.AVX512VNNI, x86.DEPTHWISE_AVX512VNNI, op, target, Demands(scratch)))

    whole, limited, least = codes(None), codes(40_000), codes(0)
    assert max(plan.rows for plan in whole) > max(plan.rows for plan in limited) > 1
    assert all(plan.elements <= 40_000 for plan in limited)
    assert {plan.rows for plan in least} == {1}


@pytest.mark.parametrize("size", [14, 28, 56, 112])
def test_tiles_are_for_threads_and_compute_little_twice(size: int) -> None:
    target = loader.load("x86-64-v4-int8")
    plans = list(chain.plans(x86.AVX512VNNI, x86.DEPTHWISE_AVX512VNNI, inverted_residual(size), target))
    assert plans
    for plan in plans:
        assert plan.bands >= stripe.LEAST_TILES
        twice = plan.stages[1].shape.stripe_rows - plan.stages[1].fresh
        fewest = -(-plan.image_steps // (plan.steps + 1)) < stripe.LEAST_TILES
        assert fewest or 8 * twice <= plan.steps * plan.stages[1].advance


def test_rows_that_a_step_shares_with_the_next_are_kept() -> None:
    """A 3x3 window at stride 1 keeps two rows, at stride 2 one; a pointwise one needs none."""
    target = loader.load("x86-64-v4-int8")
    for stride, kernel, kept in ((1, 3, 2), (2, 3, 1), (1, 5, 4), (2, 5, 3)):
        op = inverted_residual(28, stride=stride, kernel=kernel)
        plan = next(chain.plans(x86.AVX512VNNI, x86.DEPTHWISE_AVX512VNNI, op, target))
        assert [stage.kept for stage in plan.stages] == [0, kept, 0]
        assert plan.stages[0].fresh == plan.stages[1].fresh == plan.rows * stride
