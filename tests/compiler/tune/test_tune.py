"""Tuning a network: what records choose, and that only the time changes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgec.bench import devices, tuning
from edgec.bench.bundle import Bundle
from edgec.bench.measure import cycles
from edgec.compiler import pipeline
from edgec.compiler.lower.network.select import select
from edgec.compiler.program import Program
from edgec.compiler.records import records
from edgec.compiler.records.records import NONE, Record, Records
from edgec.compiler.records.signature import signature
from edgec.compiler.tune import layers
from edgec.compiler.tune.tune import Tuning
from edgec.kernels.operations import Conv2d, Network
from edgec.kernels.table import candidates
from edgec.targets import loader
from tests.compiler import onnx_models
from tests.compiler.building import HOST, build, checksums, verified
from tests.compiler.lowering_cases import weights

TARGET = loader.load(HOST)
MODEL = onnx_models.model(
    """(float[1,8,20,20] image) => (float y) {
        a = Conv<pads=[1,1,1,1]>(image, w1) b = Relu(a) c = Conv<group=32, pads=[1,1,1,1]>(b, w2)
        d = Conv(c, w3) e = Add(b, d) f = Conv(e, w4) g = Add(f, e) h = Softmax(g) y = Mul(h, e)
    }""",
    {
        "w1": weights(32, 8, 3, 3),
        "w2": weights(32, 1, 3, 3),
        "w3": weights(32, 32, 1, 1),
        "w4": weights(32, 32, 1, 1),
    },
)
"""Two layers of one shape, a depthwise one, and one with a shape of its own."""


def samples() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(1).standard_normal((4, 1, 8, 20, 20)).astype(np.float32)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(MODEL, tmp_path_factory.mktemp("plain"), calibration=samples(), records=NONE)


@pytest.fixture(scope="module")
def network(plain: Bundle) -> Network:
    return pipeline.network_of(plain.file("model.onnx"))


def choosing(network: Network, number: int) -> Records:
    """Records that choose candidate `number` of every convolution."""
    found = []
    for operator in network.operators:
        ways = list(candidates(operator.operation, TARGET, operator.demands))
        if len(ways) > number:
            kernel, code = ways[number]
            found.append(
                Record(
                    records.cpu_class(operator.operation, TARGET),
                    signature(operator.operation, operator.demands),
                    kernel.name, code.configuration, 1.0, 1.0, "ns", "a CPU", 1, True,
                    records.choice_version(operator.operation, TARGET),
                )
            )  # fmt: skip
    return Records.of(found)


def configurations(program: Program) -> list[tuple[str, str]]:
    return [(call.kernel, call.configuration) for call in program.calls]


def test_select_takes_what_a_record_names(network: Network) -> None:
    first = configurations(select(network, TARGET, NONE))
    assert configurations(select(network, TARGET, choosing(network, 0))) == first
    third = configurations(select(network, TARGET, choosing(network, 2)))
    changed = sum(a != b for a, b in zip(first, third, strict=True))
    assert changed == sum(bool(configuration) for _, configuration in first)


def test_select_takes_the_first_where_a_record_names_what_is_not_there(network: Network) -> None:
    gone = [
        dataclasses.replace(record, configuration="1000x1000 registers")
        for record in choosing(network, 1).entries.values()
    ]
    untuned = configurations(select(network, TARGET, NONE))
    assert configurations(select(network, TARGET, Records.of(gone))) == untuned


def test_a_bundle_has_the_records_that_chose_and_is_the_same_built_from_them(
    plain: Bundle, network: Network, tmp_path: Path
) -> None:
    other = Record("x86-64", "Conv2d()", "k", "c", 1.0, 1.0, "ns", "a CPU", 1, True, "v")
    given = choosing(network, 3)
    one = build(MODEL, tmp_path, calibration=samples(), records=given + Records.of([other]))
    held = records.read(one.file("tuning.jsonl"))
    assert held == given
    (tmp_path / "again").mkdir()
    two = build(MODEL, tmp_path / "again", calibration=samples(), records=held)
    assert two.manifest == one.manifest
    assert checksums(one) == checksums(plain)
    assert "tuning.jsonl" not in plain.manifest.files
    named = {step.configuration for step in one.steps}
    assert {record.configuration for record in given.entries.values()} <= named
    verified(one)


def tuned(bundle: Bundle, device: str, budget: float) -> Tuning:
    connected = devices.connect(device, bundle.manifest.target)
    found: list[Tuning] = []
    tuner = tuning.tuner(connected, budget, found=found.append)
    pipeline.retune(bundle, tuner)
    return found[0]


@pytest.mark.slow
def test_tuning_changes_kernels_and_no_result(
    plain: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    bundle = build(MODEL, tmp_path, calibration=samples(), records=NONE)
    result = tuned(bundle, "local", 10)
    assert result.unit == "ns"
    assert {name for found in result.layers for name in found.layers} == {
        step.name for step in bundle.steps if step.configuration
    }
    assert sorted(len(found.layers) for found in result.layers) == [1, 1, 2], "equal shapes are tuned once"
    assert result.cost <= result.first_cost
    again = Bundle.load(bundle.path)
    chosen = {(step.kernel, step.configuration) for step in again.steps}
    assert {(found.kernel, found.configuration) for found in result.layers} <= chosen
    assert checksums(again) == checksums(plain)
    assert again.manifest.model == plain.manifest.model
    assert again.manifest.islands == plain.manifest.islands
    assert again.manifest.files["model.onnx"] == plain.manifest.files["model.onnx"]
    verified(again)
    assert records.user() == result.records
    later = build(MODEL, tmp_path, calibration=samples())
    assert later.manifest == again.manifest, "later builds use what was found"


@pytest.mark.slow
@pytest.mark.usefixtures("arm_emulator")
def test_on_an_emulator_the_cost_is_modelled_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    bundle = build(MODEL, tmp_path, "rpi5-int8", calibration=samples(), records=NONE)
    result = tuned(bundle, "emulator", 20)
    assert result.unit == ("modelled cycles" if cycles.installed() else "instructions")
    assert all(found.cost <= found.first_cost for found in result.layers)
    verified(Bundle.load(bundle.path), "emulator")
    if all(found.complete for found in result.layers):
        result = tuned(Bundle.load(bundle.path), "emulator", 20)
        assert (result.layers, result.known) == ((), 4), "what is decided isn't measured again"


@pytest.mark.slow
def test_an_interrupted_tuning_keeps_what_was_measured_and_leaves_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    bundle = build(MODEL, tmp_path, calibration=samples(), records=NONE)
    before = (bundle.path / "manifest.json").read_bytes()
    connected = devices.connect("local", TARGET)

    def interrupt(_seconds: float, text: str) -> None:
        if "undecided" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.retune(bundle, tuning.tuner(connected, 10, interrupt))
    assert (bundle.path / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_a_kernel_that_computes_something_else_is_found(
    plain: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    lower = layers.lower

    def wrong(operator, kernel, code):  # type: ignore[no-untyped-def]
        made = lower(operator, kernel, code)
        if code.configuration == configuration:
            made.constants[f"{operator.name}.1"] = made.constants[f"{operator.name}.1"] + 1000  # its bias
        return made

    network = pipeline.network_of(plain.file("model.onnx"))
    convolution = next(o for o in network.operators if isinstance(o.operation, Conv2d))
    configuration = [code for _, code in candidates(convolution.operation, TARGET)][1].configuration
    monkeypatch.setattr(layers, "lower", wrong)
    with pytest.raises(RuntimeError, match="does not compute what another kernel does"):
        pipeline.retune(plain, tuning.tuner(devices.connect("local", TARGET), 10))
