"""Memory on microcontrollers: what a MobileNet takes for speed and for RAM, and what lies in one place.

The figures are pinned as those in test_firmware_models.py are.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.bench.bundle import Bundle
from edgec.compiler.lower.network.fuse_chains import fuse_chains
from edgec.compiler.lower.network.levels import common, levels
from edgec.compiler.lower.network.plan import plan
from edgec.compiler.records.records import NONE
from edgec.kernels.operations import Binary, Lookup, Network, Operator, Tensor
from edgec.options import Optimize
from edgec.targets import loader
from tests.compiler.building import build
from tests.compiler.emit.test_firmware_models import Figures, figures_of, source
from tests.compiler.lower.network.test_fuse_chains import assert_same, convolution, network

CORES = ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
SPEED, RAM = "speed", "ram"

MOBILENET = {
    ("cortex-m3", SPEED): Figures(21.842, 55312, 9144, 248144, 308),
    ("cortex-m33", SPEED): Figures(10.392, 55328, 10682, 251920, 304),
    ("cortex-m3", RAM): Figures(22.130, 17232, 10312, 248032, 500),
    ("cortex-m4", RAM): Figures(10.859, 17568, 11788, 251808, 464),
    ("cortex-m7", RAM): Figures(10.856, 17568, 11802, 251808, 480),
    ("cortex-m33", RAM): Figures(10.859, 17568, 11804, 251808, 464),
    ("cortex-m55", RAM): Figures(3.111, 17568, 8412, 233512, 508),
}
"""On the other cores for speed: test_firmware_models.py. One layer's multipliers take M3 a function more."""


def mobilenet(folder: Path, core: str, optimize: Optimize, arena_io: bool = False) -> Bundle:
    """The trained network for visual wake words; its image has channels innermost."""
    path = source("vww_mobilenetv1")
    return build(path, folder, f"{core}-int8", int8_io=True, optimize=optimize, arena_io=arena_io)


@pytest.mark.slow
@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize(("core", "optimize"), MOBILENET)
def test_a_mobilenet_keeps_its_memory_contract(core: str, optimize: Optimize, tmp_path: Path) -> None:
    found, _ = figures_of(mobilenet(tmp_path, core, optimize))
    assert tuple(found) == pytest.approx(tuple(MOBILENET[core, optimize]), rel=0.01)
    assert found.arena_bytes <= (56_000 if optimize is SPEED else 40_000)
    assert found.code_bytes <= 24_000
    assert found.stack_bytes <= 1_000


@pytest.mark.slow
@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m55"])
def test_with_the_image_in_the_arena_too(core: str, tmp_path: Path) -> None:
    """Its 27,648 bytes are nearly all that is needed: the first layers' results take their place."""
    bundle = mobilenet(tmp_path, core, RAM, arena_io=True)
    found, _ = figures_of(bundle)
    assert found.arena_bytes <= 27648 + 2400
    assert bundle.steps[0].kernel == "chain_mcu"


@pytest.mark.slow
@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m55"])
def test_for_ram_resnet8_costs_next_to_nothing(core: str, tmp_path: Path) -> None:
    """Its peak is the addition in the first block, whose operands and scratch no chain makes fewer."""
    path = source("mlperf_ic_resnet8")
    (fast, _), (small, _) = (
        figures_of(build(path, tmp_path / optimize, f"{core}-int8", int8_io=True, optimize=optimize))
        for optimize in (SPEED, RAM)
        if not (tmp_path / optimize).mkdir()
    )
    assert 32768 < small.arena_bytes < fast.arena_bytes
    assert small.instructions < 1.001 * fast.instructions


def arena(given_: Network, core: str, optimize: Optimize, arena_io: bool = False) -> int:
    target = loader.load(f"{core}-int8")
    program = common(levels(fuse_chains(given_, target, NONE, optimize, arena_io), target, NONE))
    return plan(replace(program, arena_io=arena_io)).arena_bytes


def separable(blocks: list[tuple[int, int, bool]], height: int) -> Network:
    """Blocks of a depthwise convolution, if any, and a dense one, with so many outputs, stride and window."""
    operators: list[Operator] = []
    shape, source = (1, height, 24, 8), "x"
    for outputs, stride, depthwise in blocks:
        layers = [(shape[3], 3, stride, True)] * depthwise
        for channels, kernel, step, each in [*layers, (outputs, 1 if depthwise else 3, 1, False)]:
            operation = convolution(shape, channels, kernel, step, each)
            name = f"t{len(operators)}"
            operators.append(Operator(f"layer {len(operators)}", operation, (source,), (name,)))
            shape, source = operation.output_shape, name
    return network(*operators)


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m55"])
@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from((8, 16, 24)), st.sampled_from((1, 2)), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    st.integers(9, 24),
    st.booleans(),
)
def test_for_ram_no_network_needs_more(
    core: str, blocks: list[tuple[int, int, bool]], height: int, arena_io: bool
) -> None:
    given_ = separable(blocks, height)
    target = loader.load(f"{core}-int8")
    assert arena(given_, core, RAM, arena_io) <= arena(given_, core, SPEED, arena_io)
    assert_same(given_, fuse_chains(given_, target, NONE, RAM, arena_io))


@pytest.mark.parametrize("core", CORES)
def test_for_speed_nothing_is_a_chain(core: str) -> None:
    """There is no cache that layers could leave."""
    given_ = separable([(16, 1, True), (16, 2, True)], 24)
    assert fuse_chains(given_, loader.load(f"{core}-int8"), NONE, SPEED).operators == given_.operators


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("optimize", [SPEED, RAM])
def test_depthwise_and_elementwise_layers_work_in_place(core: str, optimize: Optimize) -> None:
    """The tensor that the window makes is all the arena, but for scratch: what follows lies where it lies."""
    shape, size = (1, 16, 16, 16), 4096
    depthwise = convolution(shape, 16, 3, depthwise=True)
    added = Binary("add", (size,), ((1,), (1,)), (3, 3), (0.5, 0.5), 3, -128, 127)
    table = np.arange(-128, 128).astype(np.int8)[::-1]
    operators = (
        Operator("window", convolution(shape, 16, 3), ("x",), ("a",)),
        Operator("depthwise", depthwise, ("a",), ("b",)),
        Operator("lookup", Lookup(size, table), ("b",), ("c",)),
        Operator("add", added, ("c", "x"), ("d",)),
        Operator("narrow", convolution(shape, 4), ("d",), ("y",)),
    )
    tensors = {name: Tensor(name, shape, "int8") for name in ("x", "a", "b", "c", "d")}
    tensors["y"] = Tensor("y", (1, 16, 16, 4), "int8")
    given_ = Network(operators, tensors, ("x",), ("y",), {})
    assert arena(given_, core, optimize) <= size + 2 * 2 * 9 * 16
