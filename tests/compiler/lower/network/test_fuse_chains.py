"""Chains: which convolutions become one step, for speed and for memory, and that nothing changes."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.compiler.lower.network import chains
from edgec.compiler.lower.network.fuse_chains import fuse_chains, pays, twice
from edgec.compiler.lower.network.levels import common, levels
from edgec.compiler.lower.network.plan import plan
from edgec.compiler.records.records import NONE
from edgec.compiler.records.signature import signature
from edgec.kernels import reference
from edgec.kernels.operations import FREE, Binary, Chain, Conv2d, Network, Operator, Tensor
from edgec.options import Optimize
from edgec.targets import loader
from tests.compiler import onnx_models
from tests.compiler.building import build, verified
from tests.compiler.lowering_cases import weights

V3 = loader.load("x86-64-v3-int8")
RPI5 = loader.load("rpi5-int8")
SMALL_L2 = replace(RPI5, l1d_bytes=1024, l2_bytes=8192)


def convolution(
    shape: tuple[int, ...], outputs: int, kernel: int = 1, stride: int = 1, depthwise: bool = False
) -> Conv2d:
    rng = np.random.default_rng(outputs)
    window = rng.integers(-127, 128, (outputs, kernel, kernel, 1 if depthwise else shape[3]))
    bias, multiplier = rng.integers(-99, 99, outputs).astype(np.int32), np.full(outputs, 5e-3, np.float32)
    n, h, w, c = shape
    return Conv2d(
        (n, h, w, c), window.astype(np.int8), bias, multiplier, 3, 3, -128, 127, (stride, stride),
        (kernel // 2,) * 4, groups=c if depthwise else 1,
    )  # fmt: skip


def network(*operators: Operator, outputs: tuple[str, ...] = ()) -> Network:
    """Operators in order; each tensor is shaped as the operation that makes or reads it says."""
    tensors: dict[str, Tensor] = {}
    for operator in operators:
        operation = operator.operation
        assert isinstance(operation, Conv2d)
        tensors.setdefault(operator.inputs[0], Tensor(operator.inputs[0], operation.input_shape, "int8"))
        tensors[operator.outputs[0]] = Tensor(operator.outputs[0], operation.output_shape, "int8")
    return Network(operators, tensors, ("x",), outputs or operators[-1].outputs, {})


def block(size: int, channels: int, expansion: int = 6, stride: int = 1, kernel: int = 3) -> list[Operator]:
    """Expand, depthwise, project, from x to y."""
    expand = convolution((1, size, size, channels), expansion * channels)
    middle = convolution(expand.output_shape, expansion * channels, kernel, stride, depthwise=True)
    project = convolution(middle.output_shape, channels)
    return [
        Operator("expand", expand, ("x",), ("a",)),
        Operator("depthwise", middle, ("a",), ("b",)),
        Operator("project", project, ("b",), ("y",)),
    ]


def names(found: Network) -> list[str]:
    return [operator.name for operator in found.operators]


def found(given_: Network, optimize: Optimize = "ram") -> Network:
    return fuse_chains(given_, SMALL_L2, NONE, optimize)


def arena(given_: Network) -> int:
    return plan(common(levels(given_, SMALL_L2, NONE))).arena_bytes


def assert_same(one: Network, two: Network) -> None:
    (x,) = (one.tensors[name] for name in one.inputs)
    values = np.random.default_rng(0).integers(-128, 128, x.shape).astype(np.int8)
    before, after = (reference.evaluate(each, {"x": values}) for each in (one, two))
    assert set(after) <= set(before)
    for name, value in after.items():
        np.testing.assert_array_equal(before[name], value)


@pytest.mark.parametrize("optimize", get_args(Optimize))
def test_expand_depthwise_and_project_are_one_step(optimize: Optimize) -> None:
    given_ = network(*block(48, 8))
    fused = found(given_, optimize)
    assert names(fused) == ["expand+depthwise+project"]
    assert fused.operators[0].inputs == ("x",)
    assert fused.operators[0].outputs == ("y",)
    assert set(fused.tensors) == {"x", "y"}
    assert_same(given_, fused)


def test_the_last_takes_its_residual_along() -> None:
    expand, depthwise, project = block(16, 8)
    assert isinstance(project.operation, Conv2d)
    added = Binary("add", (16 * 16 * 8,), ((1,), (1,)), (3, 3), (0.5, 0.5), 0, -128, 127)
    project = replace(project, operation=replace(project.operation, residual=added), inputs=("b", "x"))
    given_ = network(expand, depthwise, project)
    fused = found(given_)
    assert fused.operators[0].inputs == ("x", "x")
    assert_same(given_, fused)
    # What is read twice may be read around an element that is written already: not in place.
    assert levels(fused, RPI5, NONE)[0].calls[0].inplace == ()


def test_what_others_read_is_stored() -> None:
    expand, depthwise, project = block(16, 8)
    given_ = network(expand, depthwise, project, outputs=("a", "y"))
    assert names(found(given_)) == ["expand", "depthwise+project"]
    other = Operator("other", convolution((1, 16, 16, 48), 4), ("b",), ("z",))
    given_ = network(expand, depthwise, project, other, outputs=("y", "z"))
    assert names(found(given_)) == ["expand+depthwise", "project", "other"]


def test_weights_that_an_instruction_set_refuses_stay_alone() -> None:
    expand, depthwise, project = block(16, 8)
    assert isinstance(depthwise.operation, Conv2d)
    extreme = depthwise.operation.weights.copy()
    extreme[0] = -128
    depthwise = replace(depthwise, operation=replace(depthwise.operation, weights=extreme))
    assert names(found(network(expand, depthwise, project))) == ["expand", "depthwise", "project"]


def test_for_speed_what_leaves_the_cache_is_fused() -> None:
    """Unless threads would compute too much twice: windows of five rows in tiles of seven, say."""

    def one(*arguments: int) -> Chain:
        return chains.operation_of(tuple(block(*arguments)))

    assert pays(one(112, 16, 6, 2), V3)
    assert pays(one(56, 24), V3)
    assert not pays(one(7, 160), V3), "it fits the cache"
    assert not pays(one(28, 32), V3), "tiles of 7 rows, and 2 rows more of the expanded"
    assert not pays(one(56, 24, 6, 2, 5), V3), "tiles of 14 rows, and 3 more"
    assert pays(one(56, 24), RPI5)
    assert not pays(one(28, 32), RPI5)


def test_what_tiles_compute_twice() -> None:
    chain = chains.operation_of(tuple(block(28, 8)))
    expand, *_ = chain.stages
    assert twice(chain) == pytest.approx(2 / 7 * expand.macs / chain.macs)


def test_for_ram_chains_grow_until_nothing_helps() -> None:
    """The tensor between two blocks is larger than either end: it isn't stored either."""
    first, second = block(32, 8, 4), block(16, 16, 4)
    first[1] = replace(first[1], operation=convolution((1, 32, 32, 32), 32, 3, 1, depthwise=True))
    first[2] = Operator("project", convolution((1, 32, 32, 32), 24), ("b",), ("c",))
    shape = (1, 32, 32, 24)
    second[0] = Operator("expand2", convolution(shape, 48), ("c",), ("d",))
    second[1] = Operator("depthwise2", convolution((1, 32, 32, 48), 48, 3, 2, depthwise=True), ("d",), ("e",))
    second[2] = Operator("project2", convolution((1, 16, 16, 48), 16), ("e",), ("y",))
    given_ = network(*first, *second)
    fast, small = found(given_, "speed"), found(given_)
    assert len(small.operators) < len(fast.operators) < len(given_.operators)
    assert arena(small) < arena(fast) < arena(given_)
    assert_same(given_, small)


def test_scratch_is_as_small_as_the_peak_demands() -> None:
    """Where another layer needs more than the chain at its fastest, the chain may have that."""
    target = replace(RPI5, l2_bytes=65536)
    large = Operator("large", convolution((1, 48, 48, 8), 96, 3), ("y",), ("z",))
    narrow = [Operator(y, convolution((1, 48, 48, 96), 8, 3, 2), ("z",), (y,)) for y in ("v", "w")]
    alone, beside = (
        fuse_chains(given_, target, NONE, "ram")
        for given_ in (network(*block(48, 8)), network(*block(48, 8), large, *narrow, outputs=("v", "w")))
    )
    assert all(isinstance(each.operators[0].operation, Chain) for each in (alone, beside))
    limited, free = (each.operators[0].demands for each in (alone, beside))
    assert free.scratch is None
    assert limited.scratch is not None
    taken = [levels(each, target, NONE)[0].calls[0].scratch_bytes for each in (alone, beside)]
    assert taken[0] <= limited.scratch < taken[1]


def test_layers_by_themselves_take_less_scratch_too() -> None:
    """Winograd's transforms take a multiple of the activations."""
    a72 = loader.load("rpi4-int8")
    given_ = network(
        Operator("one", convolution((1, 32, 32, 16), 16, 3), ("x",), ("a",)),
        Operator("two", convolution((1, 32, 32, 16), 16, 3), ("a",), ("b",)),
        Operator("three", convolution((1, 32, 32, 16), 4), ("b",), ("y",)),
    )
    fast, small = (fuse_chains(given_, a72, NONE, optimize) for optimize in ("speed", "ram"))
    kernels = [[call.kernel for call in levels(each, a72, NONE)[0].calls] for each in (fast, small)]
    assert "winograd_neon" in kernels[0]
    assert "winograd_neon" not in kernels[1]


def test_chains_begin_where_tensors_grow_again() -> None:
    """As those of MobileNetV1 do, behind its depthwise convolutions at stride 2."""
    shapes = [(8, 1, True), (16, 1, False), (16, 2, True), (32, 1, False), (32, 1, True), (32, 2, True)]
    operators: list[Operator] = []
    shape, source = (1, 16, 16, 8), "x"
    for index, (outputs, stride, depthwise) in enumerate(shapes):
        operation = convolution(shape, outputs, 3 if depthwise else 1, stride, depthwise)
        operators.append(Operator(f"l{index}", operation, (source,), (f"t{index}",)))
        shape, source = operation.output_shape, f"t{index}"
    found = chains.between_waists(network(*operators))
    assert [chains.name_of(members) for members in found] == ["l0+l1+l2", "l3+l4+l5"]
    assert not chains.between_waists(network(*operators[:1]))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from((8, 16, 24)), st.sampled_from((1, 2)), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
def test_for_ram_no_network_needs_more(blocks: list[tuple[int, int, bool]]) -> None:
    operators: list[Operator] = []
    shape, source = (1, 24, 24, 8), "x"
    for index, (outputs, stride, expands) in enumerate(blocks):
        layers: list[tuple[int, int, bool]] = [(4 * shape[3], 1, False)] if expands else []
        layers += [(layers[0][0] if expands else shape[3], stride, True), (outputs, 1, False)]
        for channels, step, depthwise in layers:
            operation = convolution(shape, channels, 3 if depthwise else 1, step, depthwise)
            operators.append(
                Operator(f"{index} {len(operators)}", operation, (source,), (f"t{len(operators)}",))
            )
            shape, source = operation.output_shape, operators[-1].outputs[0]
    given_ = network(*operators)
    small = found(given_)
    assert arena(small) <= min(arena(given_), arena(found(given_, "speed")))
    assert_same(given_, small)


def test_records_tell_chains_apart() -> None:
    one, two = (chains.operation_of(tuple(block(16, 8, stride=stride))) for stride in (1, 2))
    assert signature(one, FREE) != signature(two, FREE)
    assert signature(one, FREE) == signature(chains.operation_of(tuple(block(16, 8))), FREE)
    assert signature(one, FREE).startswith("Chain(stages=[Conv2d(")


MODEL = onnx_models.model(
    """(float[1,3,40,40] image) => (float scores) {
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1) b = Clip(a, zero, six)
        c = Conv<group=16, pads=[1,1,1,1]>(b, w2) d = Clip(c, zero, six) e = Conv(d, w3)
        f = Conv(e, w4) g = Clip(f, zero, six) h = Conv<group=48, pads=[2,2,2,2]>(g, w5)
        i = Clip(h, zero, six) j = Conv(i, w6) k = Add(e, j)
        l = GlobalAveragePool(k) scores = Flatten(l)
    }""",
    {
        "w1": weights(16, 3, 3, 3), "w2": weights(16, 1, 3, 3), "w3": weights(8, 16, 1, 1),
        "w4": weights(48, 8, 1, 1), "w5": weights(48, 1, 5, 5), "w6": weights(8, 48, 1, 1),
        "zero": np.array(0, np.float32), "six": np.array(6, np.float32),
    },
)  # fmt: skip
"""An inverted residual behind a separable convolution."""


@pytest.mark.parametrize("target", ["x86-64-v3-int8", "rpi4-int8", "rpi5-int8", "cortex-a720-int8"])
def test_bundles_for_ram_are_exact_and_smaller(target: str, tmp_path: Path) -> None:
    """Bit for bit on every level, one and several threads: `verified` runs the self-test too."""
    fast, small = (
        build(MODEL, tmp_path / optimize, target, optimize=optimize)
        for optimize in ("speed", "ram")
        if not (tmp_path / optimize).mkdir()
    )
    assert (fast.manifest.options.optimize, small.manifest.options.optimize) == ("speed", "ram")
    assert small.memory.arena_bytes < fast.memory.arena_bytes
    assert any(step.kernel.startswith("chain") for step in small.steps)
    assert verified(small).exact_layers == len(small.steps)
    assert sum(step.macs for step in small.steps) == sum(step.macs for step in fast.steps)
