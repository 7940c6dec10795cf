"""Concatenations: what is computed in its place, what is copied, and that nothing changes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgec.bench import devices, tuning
from edgec.compiler import pipeline
from edgec.compiler.accuracy import BEST_DB
from edgec.compiler.lower.network.levels import most_needed
from edgec.compiler.lower.network.place_concats import most_alive, place_concats
from edgec.compiler.lower.network.plan import check, plan
from edgec.compiler.lower.network.select import select
from edgec.compiler.records.records import NONE
from edgec.kernels import reference
from edgec.kernels.operations import (
    Concat,
    Conv2d,
    Island,
    Lookup,
    Network,
    Operation,
    Operator,
    Place,
    Runs,
    Softmax,
    Tensor,
)
from edgec.targets import loader
from tests.compiler import onnx_models
from tests.compiler.building import HOST, build, verified
from tests.compiler.lowering_cases import weights

PIXELS = 6
TABLE = np.arange(-128, 128).astype(np.int8)[::-1].copy()


def convolution(inputs: int, outputs: int) -> Conv2d:
    weights = np.random.default_rng(inputs + outputs).integers(-127, 128, (outputs, 1, 1, inputs))
    zeros, ones = np.zeros(outputs, np.int32), np.full(outputs, 0.01, np.float32)
    return Conv2d((1, 2, 3, inputs), weights.astype(np.int8), zeros, ones, 0, 0, -128, 127)


def network(
    channels: Mapping[str, int], *operators: tuple[Operation, str, str], outputs: str = "y"
) -> Network:
    """Images of 2x3 pixels by name and channels; each operator as (operation, inputs, output)."""
    tensors = {name: Tensor(name, (1, 2, 3, count), "int8") for name, count in channels.items()}
    made = tuple(Operator(f"to {y}", operation, tuple(inputs), (y,)) for operation, inputs, y in operators)
    return Network(made, tensors, ("x",), tuple(outputs), {})


def concat(*inner: int, tables: tuple[NDArray[np.int8] | None, ...] | None = None) -> Concat:
    return Concat(PIXELS, inner, tables or (None,) * len(inner))


def placed(network: Network) -> dict[str, Place]:
    """What lies in another tensor, and that the arena holds it and every value is what it was."""
    result = place_concats(network)
    x = np.random.default_rng(0).integers(-128, 128, result.tensors["x"].shape).astype(np.int8)
    before, after = (reference.evaluate(n, {"x": x}) for n in (network, result))
    for name in network.tensors:
        np.testing.assert_array_equal(before[name], after[name])
    program = select(result, loader.load("x86-64-int8"), NONE)
    check(program, plan(program))
    return {name: tensor.place for name, tensor in result.tensors.items() if tensor.place is not None}


TWO = {"x": 4, "a": 5, "b": 3, "y": 8}


def test_convolutions_write_into_their_slices_and_no_call_is_left_of_the_concat() -> None:
    given = network(
        TWO, (convolution(4, 5), "x", "a"), (convolution(4, 3), "x", "b"), (concat(5, 3), "ab", "y")
    )
    assert placed(given) == {"a": Place("y", 0, Runs(5, 8)), "b": Place("y", 5, Runs(3, 8))}
    operators = place_concats(given).operators
    assert [o.demands.runs for o in operators] == [Runs(5, 8), Runs(3, 8), None]
    assert [o.computes for o in operators] == [True, True, False]
    program = select(place_concats(given), loader.load("x86-64-int8"), NONE)
    assert [call.name for call in program.calls] == ["to a", "to b"]


def test_what_others_read_what_is_read_twice_and_inputs_of_the_model_are_copied() -> None:
    given = network(
        {"x": 4, "a": 5, "b": 3, "z": 3, "y": 20}, (convolution(4, 5), "x", "a"),
        (convolution(4, 3), "x", "b"), (convolution(3, 3), "b", "z"), (concat(5, 3, 5, 4, 3), "abaxz", "y"),
    )  # fmt: skip
    assert placed(given) == {"z": Place("y", 17, Runs(3, 20))}
    assert place_concats(given).operators[-1].reads == ("a", "b", "a", "x")


def test_an_output_of_the_model_is_copied() -> None:
    given = network(
        TWO, (convolution(4, 5), "x", "a"), (convolution(4, 3), "x", "b"), (concat(5, 3), "ab", "y"),
        outputs="yb",
    )  # fmt: skip
    assert placed(given) == {"a": Place("y", 0, Runs(5, 8))}


def test_another_scale_is_copied_through_its_table() -> None:
    given = network(
        TWO, (convolution(4, 5), "x", "a"), (convolution(4, 3), "x", "b"),
        (concat(5, 3, tables=(TABLE, None)), "ab", "y"),
    )  # fmt: skip
    assert placed(given) == {"b": Place("y", 5, Runs(3, 8))}
    assert place_concats(given).operators[-1].reads == ("a",)


def test_an_operation_that_cannot_write_apart_is_copied() -> None:
    softmax = Softmax(PIXELS, 5, np.full(256, 1000, np.int32), 256.0, -128)
    given = network(
        {"x": 5, "a": 5, "b": 5, "y": 10}, (softmax, "x", "a"), (Lookup(5 * PIXELS, TABLE), "x", "b"),
        (concat(5, 5), "ab", "y"),
    )  # fmt: skip
    assert placed(given) == {"b": Place("y", 5, Runs(5, 10))}


def test_any_operation_writes_into_a_slice_in_one_piece() -> None:
    softmax = Softmax(PIXELS, 5, np.full(256, 1000, np.int32), 256.0, -128)
    rows = Concat(1, (30, 30), (None, None))
    given = network(
        {"x": 5, "a": 5, "b": 5, "y": 10},
        (softmax, "x", "a"),
        (Lookup(30, TABLE), "x", "b"),
        (rows, "ab", "y"),
    )
    assert placed(given) == {"a": Place("y", 0, None), "b": Place("y", 30, None)}


def test_concats_of_concats_of_one_shape_or_one_after_another() -> None:
    given = network(
        {"x": 4, "a": 5, "b": 3, "c": 8, "d": 2, "y": 10}, (convolution(4, 5), "x", "a"),
        (convolution(4, 3), "x", "b"), (concat(5, 3), "ab", "c"), (convolution(4, 2), "x", "d"),
        (concat(8, 2), "cd", "y"),
    )  # fmt: skip
    assert placed(given) == {
        "a": Place("y", 0, Runs(5, 10)), "b": Place("y", 5, Runs(3, 10)), "c": Place("y", 0, Runs(8, 10)),
        "d": Place("y", 8, Runs(2, 10)),
    }  # fmt: skip


def test_a_part_of_a_part_lies_in_one_piece_where_its_whole_does() -> None:
    given = network(
        {"x": 4, "a": 5, "b": 5, "c": 10, "d": 5, "y": 15}, (convolution(4, 5), "x", "a"),
        (convolution(4, 5), "x", "b"), (Concat(1, (30, 30), (None, None)), "ab", "c"),
        (convolution(4, 5), "x", "d"), (Concat(1, (60, 30), (None, None)), "cd", "y"),
    )  # fmt: skip
    places = {"a": Place("y", 0, None), "b": Place("y", 30, None), "c": Place("y", 0, None)}
    assert placed(given) == places | {"d": Place("y", 60, None)}


def test_an_input_that_would_keep_a_large_result_alive_for_long_is_copied() -> None:
    """y takes 105 channels; at h -> i there are 133 alive with `a`, and 233 with y in its place."""
    given = network(
        {"x": 4, "a": 5, "h": 64, "i": 64, "b": 100, "y": 105, "z": 1}, (convolution(4, 5), "x", "a"),
        (convolution(4, 64), "x", "h"), (convolution(64, 64), "h", "i"), (convolution(64, 100), "i", "b"),
        (concat(5, 100), "ab", "y"), (convolution(105, 1), "y", "z"), outputs="z",
    )  # fmt: skip
    assert most_alive(given) == (105 + 105) * PIXELS
    assert placed(given) == {"b": Place("y", 5, Runs(100, 105))}
    assert most_alive(place_concats(given)) == (5 + 64 + 105) * PIXELS


def test_of_an_island_everything_is_copied() -> None:
    given = network(
        {"x": 5, "a": 5, "b": 5, "y": 10}, (Island(b""), "x", "a"), (Lookup(30, TABLE), "x", "b"),
        (Concat(1, (30, 30), (None, None)), "ab", "y"),
    )  # fmt: skip
    assert place_concats(given).operators[-1].reads == ("a",)


@pytest.mark.parametrize("runs", [Runs(3, 8), Runs(5, 9)])
def test_a_plan_whose_parts_overlap_or_leave_the_tensor_is_refused(runs: Runs) -> None:
    given = network(
        TWO, (convolution(4, 5), "x", "a"), (convolution(4, 3), "x", "b"), (concat(5, 3), "ab", "y")
    )
    program = select(place_concats(given), loader.load("x86-64-int8"), NONE)
    tensors: dict[str, Any] = dict(program.tensors)
    start = 4 if runs.length == 3 else 0
    name = "b" if runs.length == 3 else "a"
    tensors[name] = replace(tensors[name], place=Place("y", start, runs))
    with pytest.raises(AssertionError, match=r"overlaps|does not lie"):
        plan(replace(program, tensors=tensors))


BRANCHES = onnx_models.model(
    """(float[1,8,9,9] image) => (float y) {
        a = Conv<pads=[1,1,1,1]>(image, w1) b = Conv<group=8, pads=[1,1,1,1]>(image, w2)
        c = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(image) d = Concat<axis=1>(a, b, c)
        y = Conv(d, w3)
    }""",
    {"w1": weights(19, 8, 3, 3), "w2": weights(8, 1, 3, 3), "w3": weights(4, 35, 1, 1)},
)


@pytest.mark.parametrize("target", ["x86-64-v3-int8", "rpi5-int8", "rpi4-int8", "host-fp32"])
def test_a_bundle_checks_every_slice(target: str, tmp_path: Path) -> None:
    """Traced by `verify`, summed up by the self-test, on one thread and two."""
    samples = {"image": np.random.default_rng(0).normal(size=(4, 1, 8, 9, 9)).astype(np.float32)}
    bundle = build(BRANCHES, tmp_path, target, calibration=samples)
    found = verified(bundle, data={"image": samples["image"][:2]})
    assert found.exact_layers == sum(step.checked for step in bundle.steps) > 0
    network = place_concats(pipeline.network_of(bundle.file("model.onnx")))
    parts = {name for name, tensor in network.tensors.items() if tensor.place}
    assert parts == {"a", "b"} | ({"c"} if "fp32" in target else set()), "the pooling has another scale"


@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55"])
def test_microcontrollers_write_slices(core: str, tmp_path: Path) -> None:
    """Convolutions, with their residual too, and depthwise ones: all the concatenation is their results'."""
    model = onnx_models.model(
        """(float[1,8,9,9] image) => (float y) {
            a = Conv<pads=[1,1,1,1]>(image, w1) b = Conv<group=8, pads=[1,1,1,1]>(image, w2)
            c = Conv(image, w4) e = Add(image, c) d = Concat<axis=1>(a, b, e) y = Conv(d, w3)
        }""",
        {
            "w1": weights(19, 8, 3, 3), "w2": weights(8, 1, 3, 3), "w3": weights(4, 35, 1, 1),
            "w4": weights(8, 8, 1, 1),
        },
    )  # fmt: skip
    bundle = build(model, tmp_path, f"{core}-int8", int8_io=True)
    assert verified(bundle).exact_layers == len(bundle.steps)
    steps = {step.name: step.kernel for step in bundle.steps}
    assert not [kernel for kernel in steps.values() if kernel.startswith("concat")], steps
    slow = {f"{family}_{code}" for family in ("conv2d", "depthwise") for code in ("generic", "fixed")}
    assert slow.isdisjoint(steps.values()), steps


def test_on_microcontrollers_what_would_have_worked_in_place_is_copied_where_that_takes_less() -> None:
    """a to p and p to b work in place: beside 64 there is but c (8); placed, all of y (16) would be."""
    m4 = loader.load("cortex-m4-int8")
    given = network(
        {"x": 4, "a": 64, "p": 64, "b": 8, "c": 8, "y": 16, "z": 1}, (convolution(4, 8), "x", "c"),
        (convolution(4, 64), "x", "a"), (convolution(64, 64), "a", "p"), (convolution(64, 8), "p", "b"),
        (concat(8, 8), "cb", "y"), (convolution(16, 1), "y", "z"), outputs="z",
    )  # fmt: skip
    result = place_concats(given, lambda tried: most_needed(tried, m4, NONE, False))
    assert not [tensor for tensor in result.tensors.values() if tensor.place]
    assert [tensor for tensor in place_concats(given).tensors.values() if tensor.place]


def test_an_output_of_the_model_is_written_slice_by_slice(tmp_path: Path) -> None:
    model = onnx_models.model(
        """(float[3,8] x) => (float y) {
            a = Gemm<transB=1>(x, w1) b = Gemm<transB=1>(x, w2) y = Concat<axis=1>(a, b)
        }""",
        {"w1": weights(5, 8), "w2": weights(19, 8)},
    )
    bundle = build(model, tmp_path, "host-fp32")
    assert [step.kernel.rpartition("_")[0] for step in bundle.steps] == ["float_conv2d"] * 2
    x = np.random.default_rng(0).normal(size=(1, 3, 8)).astype(np.float32)
    found = verified(bundle, data={"x": x})
    assert found.accuracy.outputs[0].sqnr_db == BEST_DB


@pytest.mark.slow
def test_the_tuner_compares_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    samples = {"image": np.random.default_rng(0).normal(size=(4, 1, 8, 9, 9)).astype(np.float32)}
    bundle = build(BRANCHES, tmp_path, calibration=samples, records=NONE)
    connected = devices.connect("local", loader.load(HOST))
    pipeline.retune(bundle, tuning.tuner(connected, 6))
    verified(type(bundle).load(bundle.path))
