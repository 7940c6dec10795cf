"""Winograd's transforms: exact on every way to cut a layer, proved from the weights, taken where they pay."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgec.kernels import reference
from edgec.kernels.conv import winograd
from edgec.kernels.conv.transforms import F2, F4, Transform
from edgec.kernels.isa import int16
from edgec.kernels.isa.int16 import WordSet
from edgec.kernels.operations import Conv2d
from edgec.kernels.table import candidates
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.kernels.harness import Call, Machines
from tests.kernels.operations import BUILDING, called, convolutions_3x3
from tests.kernels.test_exactness import check

SETS: tuple[tuple[WordSet, str], ...] = (
    (int16.AVX512VNNI, "x86-64-v4"),
    (int16.AVX512, "x86-64-v4"),
    (int16.AVX2, "x86-64-v3"),
    (int16.AVXVNNI, "x86-64-avxvnni"),
    (int16.SSE2, "x86-64"),
    (int16.NEON, "rpi4"),
)
TRANSFORMS = [pytest.param(f, id=f"F{f.outputs}") for f in (F2, F4)]


def layer(size: int, channels: int, outputs: int | None = None, weights: Any = None, bias: int = 0) -> Conv2d:
    outputs = outputs or channels
    if weights is None:
        normal = np.random.default_rng(0).normal(0, 25, (outputs, 3, 3, channels))
        weights = np.clip(np.rint(normal), -127, 127)
    return Conv2d(
        (1, size, size, channels), np.broadcast_to(weights, (outputs, 3, 3, channels)).astype(np.int8),
        np.full(outputs, bias, np.int32), np.full(outputs, 1e-4, np.float32), 3, 4, -128, 127,
        pads=(1, 1, 1, 1),
    )  # fmt: skip


@pytest.mark.parametrize(("isa", "device"), [pytest.param(*s, id=s[0].name) for s in SETS])
@settings(BUILDING, max_examples=4)
@given(data=st.data())
def test_every_plan_equals_the_reference(
    isa: WordSet, device: str, machines: Machines, data: st.DataObject
) -> None:
    """Odd sizes, any padding and channels, extreme values, residuals in place, whether it pays or not."""
    target = loader.load(f"{device}-int8")
    # A small cache makes many jobs of small operations.
    target = replace(target, l2_bytes=data.draw(st.sampled_from((target.l2_bytes, 32768))))
    calls = []
    for case in data.draw(st.lists(convolutions_3x3(), min_size=6, max_size=6)):
        op = case.operation
        assert isinstance(op, Conv2d)
        if plans := list(winograd.every_plan(isa, op, target, case.demands)):
            with np.errstate(over="ignore"):  # infinity is clamped like any other value
                expected = reference.conv2d(op, *case.inputs)
            code = winograd.code(isa, op, data.draw(st.sampled_from(plans)), case.demands)
            cuts = sorted(data.draw(st.lists(st.integers(0, code.tiles), max_size=2)))
            inplace = data.draw(st.sampled_from((None, *code.inplace)))
            at_end = data.draw(st.booleans())
            call = Call(code, case.inputs, expected, (0, *cuts, code.tiles), at_end, inplace)
            calls.append(called(op, call, case.demands))
    assume(calls)
    check(machines, target, calls)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_parts_of_the_channels_are_jobs_of_their_own(transform: Transform, machines: Machines) -> None:
    target = loader.load("x86-64-v3-int8")
    op = replace(layer(7, 16, 256), input_zero_point=-128)
    plan = next(p for p in winograd.every_plan(int16.AVX2, op, target) if p.transform is transform)
    assert plan.parts > 1
    x = np.random.default_rng(1).integers(-128, 128, op.input_shape).astype(np.int8)
    code = winograd.code(int16.AVX2, op, plan)
    check(machines, target, [Call(code, (x,), reference.conv2d(op, x), (0, 1, 2, code.tiles))])


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("fill", ["random", "ends", "lowest"])
def test_the_algorithm_is_exact(transform: Transform, fill: str) -> None:
    """In int64, where nothing can overflow: multiples of the sums; transformed operands fit int16."""
    rng = np.random.default_rng(3)
    values = {"random": np.arange(-128, 128), "ends": np.array([-128, 127]), "lowest": np.array([-128])}[fill]
    n, m, channels = transform.points, transform.outputs, 20
    weights, d = rng.choice(values, (5, 3, 3, channels)), rng.choice(values, (n, n, channels))
    matrix = np.array(transform.activations)
    v = np.einsum("ij,jlc,kl->ikc", matrix, d, matrix)
    assert np.array_equal(transform.forward(list(d)), np.einsum("ij,jlc->ilc", matrix, d))
    u = transform.transformed(weights.astype(np.int8)).astype(np.int64)
    assert max(np.abs(u).max(), np.abs(v).max()) < 2**15
    products = np.einsum("kpc,pc->pk", u, v.reshape(n * n, channels)).reshape(n, n, 5)
    columns = np.array(transform.inverse(list(products)))
    sums = np.array(transform.inverse(list(np.moveaxis(columns, 1, 0))))
    direct = np.array(
        [[np.einsum("ijc,kijc->k", d[r : r + 3, q : q + 3], weights) for r in range(m)] for q in range(m)]
    )
    multiples = np.array([transform.odd << shift for shift in transform.shifts])
    assert np.array_equal(sums, np.multiply.outer(multiples, multiples)[..., None] * direct)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_weights_are_weighed_as_the_matrix_says(transform: Transform) -> None:
    g = np.random.default_rng(5).integers(-128, 128, (3, 7))
    weighed = [transform.weigh(point, list(g)) for point in range(transform.points)]
    assert np.array_equal(weighed, np.array(transform.weights) @ g)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", ["stored", "chunks"])
def test_what_overflows_on_the_way_comes_back(transform: Transform, kind: str, machines: Machines) -> None:
    """Sums as large as the proof allows, of weights whose products and multiples leave int32 by far."""
    target = replace(loader.load("x86-64-v3-int8"), variants=())
    limit = 2 ** (31 - 2 * max(transform.shifts))
    channels = 192
    signs = np.random.default_rng(0).choice([-127, 127], (3, 3, channels))
    signs = signs if signs.sum() > 0 else -signs  # so that the largest sum is positive, as the bias will be
    op = replace(layer(9, channels, 16, weights=signs), input_zero_point=-1)
    op = replace(
        op, bias=np.full(16, limit - 1 - op.sums, np.int32), multiplier=np.full(16, 1e-5, np.float32)
    )
    assert op.sums == limit - 1
    assert transform.proves(op)
    assert not transform.proves(replace(op, bias=op.bias + 1))
    plans = [p for p in winograd.every_plan(int16.AVX2, op, target) if p.transform is transform]
    plan = next(p for p in plans if bool(p.chunk) == (kind == "chunks"))
    if plan.chunk:
        plan = replace(plan, chunk=64)
    # Every third window is the one whose sum is largest.
    x = np.tile(np.where(signs > 0, 127, -128).astype(np.int8), (3, 3, 1))[np.newaxis]
    code = winograd.code(int16.AVX2, op, plan)
    check(machines, target, [Call(code, (x,), reference.conv2d(op, x), (0, code.tiles))])


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_bias_in_one_product_goes_into_every_output(transform: Transform) -> None:
    n = transform.points
    products = np.zeros((n, n), np.int64)
    products[1, 1] = 7 * transform.bias
    sums = np.array(transform.inverse(list(np.array(transform.inverse(list(products))).T)))
    multiples = np.array([transform.odd << shift for shift in transform.shifts])
    assert np.array_equal(sums, 7 * np.multiply.outer(multiples, multiples))


def test_extreme_weights_take_the_transform_that_is_proved() -> None:
    """Sums of 256 channels at the ends of int8 could leave the 25 bits that F(4x4) has for them."""
    target = loader.load("x86-64-v3-int8")
    signs = np.random.default_rng(0).choice([-128, 127], (64, 3, 3, 256))
    op = layer(28, 256, 64, weights=signs)
    assert not F4.proves(op)
    kernel, code = next(candidates(op, target))
    assert kernel.name == "winograd_avx2"
    assert code.configuration.startswith("F(2x2)")
    kernel, code = next(candidates(layer(28, 256, 64), target))
    assert code.configuration.startswith("F(4x4)")


def test_a_bias_that_leaves_no_room_is_refused() -> None:
    target = loader.load("x86-64-v3-int8")
    kernel, _ = next(candidates(layer(28, 64, bias=2**30), target))
    assert kernel.name == "conv2d_int16_avx2"


@pytest.mark.parametrize(
    ("device", "op", "kernel"),
    [
        ("x86-64-v3", layer(56, 64), "winograd_avx2"),
        ("x86-64-v4", layer(56, 64), "winograd_avx512vnni"),
        ("rpi4", layer(32, 16), "winograd_neon"),
        ("rpi5", layer(56, 64), "conv2d_dotprod"),
        ("x86-64-v3", layer(7, 512), "winograd_avx2"),
        ("x86-64-v4", layer(7, 512), "conv2d_avx512vnni"),
        ("x86-64-v3", layer(4, 4), "conv2d_avx2bytes"),
        ("x86-64-v3", replace(layer(56, 64), strides=(2, 2)), "conv2d_int16_avx2"),
        ("x86-64-v3", replace(layer(56, 64), dilations=(2, 2)), "conv2d_int16_avx2"),
    ],
)
def test_it_is_taken_where_it_pays(device: str, op: Conv2d, kernel: str) -> None:
    """Not beside dot products of four, few tiles beside faster products, few channels or another window."""
    assert next(candidates(op, loader.load(f"{device}-int8")))[0].name == kernel


def test_jobs_keep_scratch_within_the_cache() -> None:
    target: Target = loader.load("rpi4-int8")
    for op in (layer(32, 16), layer(56, 64), layer(28, 128)):
        _, code = next(candidates(op, target))
        assert code.scratch_bytes < target.l2_bytes
