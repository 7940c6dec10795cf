"""A multiplier of all channels is kept once: in all layers that share a function, or if one more pays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgec.bench.bundle import Bundle
from edgec.compiler.lower.network.select import select
from edgec.compiler.lower.network.share_multipliers import FUNCTION_BYTES, share_multipliers
from edgec.compiler.records.records import NONE
from edgec.kernels import reference
from edgec.kernels.operations import Conv2d, Network, Operator, Tensor
from edgec.targets import loader
from tests.compiler import onnx_models
from tests.compiler.building import build, verified

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m55", "riscv32")
Layer = tuple[int, bool]
"""Output channels, a multiple of 8 and more than the layer's before, and whether they have one multiplier.

Functions of layers that have fewer may work in place, and are others."""


def network(layers: Sequence[Layer], size: int = 1) -> Network:
    """Matrix products, one after the other: dense ones where the image has one pixel."""
    rng, operators, channels = np.random.default_rng(0), [], 8
    for index, (outputs, alike) in enumerate(layers):
        weights = rng.integers(-127, 128, (outputs, 1, 1, channels)).astype(np.int8)
        multiplier = np.full(outputs, 0.001, np.float32) if alike else rng.uniform(0.001, 0.002, outputs)
        operation = Conv2d(
            (1, size, size, channels), weights, np.zeros(outputs, np.int32), multiplier.astype(np.float32),
            3, -5, -128, 127,
        )  # fmt: skip
        operators.append(Operator(f"layer{index}", operation, (f"t{index}",), (f"t{index + 1}",)))
        channels = outputs
    widths = [8, *(outputs for outputs, _ in layers)]
    tensors = {f"t{i}": Tensor(f"t{i}", (1, size, size, width), "int8") for i, width in enumerate(widths)}
    return Network(tuple(operators), tensors, ("t0",), (f"t{len(layers)}",), {})


def shared(given: Network, core: str) -> list[bool]:
    """Which of the layers keep one multiplier."""
    result = share_multipliers(given, loader.load(f"{core}-int8"))
    return [o.demands.uniform for o in result.operators if isinstance(o.operation, Conv2d)]


MANY = FUNCTION_BYTES // 4 // 8 * 8 + 8
"""Channels whose multipliers take more than a function."""


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ([(16, True), (24, True)], [True, True]),
        ([(16, False), (24, False)], [False, False]),
        ([(16, True), (24, False)], [False, False]),
        ([(16, True), (24, False), (MANY, True)], [True, False, True]),
    ],
    ids=["all", "none", "few", "many"],
)
@pytest.mark.parametrize("size", [1, 3])
def test_which_layers_keep_one(core: str, layers: list[Layer], wanted: list[bool], size: int) -> None:
    assert shared(network(layers, size), core) == wanted


def test_layers_of_another_function_have_no_say() -> None:
    given = network([(16, True), (24, False)])
    last, rest = given.operators[1], given.operators[:1]
    assert isinstance(last.operation, Conv2d)
    clipped = Conv2d(**{**vars(last.operation), "low": -100})
    operators = (*rest, Operator(last.name, clipped, last.inputs, last.outputs))
    assert shared(Network(operators, given.tensors, given.inputs, given.outputs, {}), "cortex-m4") == [
        True,
        False,
    ]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("size", [1, 3])
def test_the_meaning_is_the_same_and_no_function_more(core: str, size: int) -> None:
    target, given = loader.load(f"{core}-int8"), network([(16, True), (24, True)], size)
    result = share_multipliers(given, target)
    x = np.random.default_rng(1).integers(-128, 128, (1, size, size, 8)).astype(np.int8)
    one, two = (
        reference.evaluate(each, {"t0": x}, requantization=target.requantization) for each in (given, result)
    )
    assert np.array_equal(one["t2"], two["t2"])
    before, after = (select(each, target, NONE) for each in (given, result))
    assert len(after.functions) == len(before.functions)
    sizes = [sum(array.nbytes for array in program.constants.values()) for program in (before, after)]
    assert sizes[1] <= sizes[0] - 4 * (16 + 24) + 2 * 16


def test_the_network_is_left_as_it_was() -> None:
    given = network([(16, True)])
    share_multipliers(given, loader.load("cortex-m4-int8"))
    assert shared(given, "cortex-m4") == [True]
    assert not any(o.demands.uniform for o in given.operators)


MLP = onnx_models.model(
    "(float[1,32] x) => (float y) { a = Gemm<transB=1>(x, w, b) c = Relu(a) y = Gemm<transB=1>(c, v, d) }",
    {
        name: np.random.default_rng(number).normal(size=shape).astype(np.float32)
        for number, (name, shape) in enumerate({"w": (64, 32), "b": 64, "v": (12, 64), "d": 12}.items())
    },
)


def scales(bundle: Bundle) -> list[int]:
    """How many each layer's weights have, in the model that was compiled."""
    model = onnx.load(bundle.file("model.onnx"))
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [array.size for name, array in found.items() if name.endswith("_weights_scale")]


@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m55"])
def test_flash_makes_them_one_in_dense_layers_on_microcontrollers(core: str, tmp_path: Path) -> None:
    bundles = []
    for optimize in ("speed", "flash"):
        (tmp_path / optimize).mkdir()
        bundles.append(build(MLP, tmp_path / optimize, f"{core}-int8", optimize=optimize))
    speed, flash = bundles
    assert (scales(speed), scales(flash)) == ([64, 12], [1, 1])
    # The second layer's twelve channels are three blocks; Helium keeps three words beside a multiplier.
    assert flash.memory.weights_bytes <= speed.memory.weights_bytes - 4 * (64 + 12) + 2 * 16
    assert verified(flash).exact_layers == len(flash.steps)
    # The model says so itself: whoever quantized it, and whatever goes first.
    again = build(flash.file("model.onnx"), tmp_path, f"{core}-int8")
    assert again.memory.weights_bytes == flash.memory.weights_bytes
    assert verified(again).exact_layers == len(again.steps)


def test_other_targets_keep_a_scale_for_every_channel(tmp_path: Path) -> None:
    assert scales(build(MLP, tmp_path, "rpi5-int8", optimize="flash")) == [64, 12]
