from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgec.bench import verify as verification
from edgec.bench.bundle import Bundle
from edgec.bench.devices import Device, Execution
from edgec.bench.report.tables import print_verification
from edgec.bench.verify import to_json, verify
from edgec.errors import BundleError, DataError

pytestmark = pytest.mark.usefixtures("toy_network")


@pytest.mark.parametrize("bundle", ["local_bundle", "a76_bundle"])
def test_a_right_bundle_passes(bundle: str, request: pytest.FixtureRequest) -> None:
    opened: Bundle = request.getfixturevalue(bundle)
    found = verify(opened, opened.device())
    assert found.passed
    assert (found.exact_layers, found.samples, found.selftest) == (3, 1, "ok")
    (output,) = found.accuracy.outputs
    assert output.sqnr_db == pytest.approx(29.4, abs=1)
    assert output.top1_agreement == 1


def test_an_islands_error_is_measured_and_the_layers_behind_it_are_not_blamed(local_bundle: Bundle) -> None:
    (island,) = verify(local_bundle, local_bundle.device()).islands
    assert island.name == "square"
    assert 1e-7 < island.max_relative_error < 1e-5


def test_data_of_ones_own(local_bundle: Bundle) -> None:
    samples = np.random.default_rng(1).uniform(-20, 20, (5, 1, 8)).astype(np.float32)
    seen: list[tuple[int, int]] = []
    found = verify(local_bundle, local_bundle.device(), {"x": samples}, lambda *at: seen.append(at))
    assert found.passed
    assert found.samples == 5
    assert seen == [(done, 5) for done in range(1, 6)]
    with pytest.raises(DataError, match="'x' is missing"):
        verify(local_bundle, local_bundle.device(), {})


def test_the_first_wrong_layer_is_named(toy, tmp_path: Path) -> None:
    bundle = toy.build(toy.host_target, tmp_path, lookup_2="y[i] = table[x[i] + 128] + (i == 5 || i == 6);")
    found = verify(bundle, bundle.device())
    assert not found.passed
    wrong = found.mismatch
    assert wrong is not None
    assert (wrong.layer, wrong.tensor, wrong.differing, wrong.elements) == ("relu", "r", 2, 8)
    assert wrong.index == (0, 5)
    assert wrong.device == wrong.expected + 1
    assert found.selftest == "differs at layer 'relu' on 1 thread(s)"
    data = to_json([found], {})
    assert data["levels"][0]["mismatch"]["layer"] == "relu"
    assert data["passed"] is False


def test_an_island_beyond_its_tolerance_is_a_mismatch(toy, tmp_path: Path) -> None:
    bundle = toy.build(toy.host_target, tmp_path, square_4="y[i] = x[i] * x[i] * 1.01f;")
    found = verify(bundle, bundle.device())
    assert found.mismatch is not None
    assert (found.mismatch.layer, found.selftest) == ("square", "ok")


def test_a_changed_file_is_an_error(toy, tmp_path: Path) -> None:
    bundle = toy.build(toy.host_target, tmp_path)
    (bundle.path / "golden" / "outputs.npz").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"golden/outputs\.npz was changed"):
        verify(bundle, bundle.device())


def test_the_report_says_it_all(toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    bundle = toy.build(toy.host_target, tmp_path, lookup_2="y[i] = table[x[i] + 128] + (i == 5);")
    print_verification(Console(width=200), verify(bundle, bundle.device()))
    text = capsys.readouterr().out
    assert "layer 'relu', tensor 'r', sample 0: 1 of 8 elements" in text
    assert "first at [0, 5]: device 1" in text
    assert "SQNR" in text


class Counted:
    """A device that notes how many samples each process got."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.device, name)

    def execute(self, program: Path, arguments: Sequence[str], files=None, collect=None) -> Execution:
        if files:
            self.batches.append(len(files["input.bin"]) // 32)
        return self.device.execute(program, arguments, files, collect)


def test_samples_share_processes(local_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(1).uniform(-20, 20, (300, 1, 8)).astype(np.float32)
    device = Counted(local_bundle.device())
    assert verify(local_bundle, device, {"x": samples}).passed
    assert device.batches[0] == 1
    assert sum(device.batches) == 300
    assert len(device.batches) < 30
    steps = sum(8 * size for size in (1, 1, 4, 4))
    monkeypatch.setattr(verification, "_BATCH_BYTES", 3 * steps)
    device = Counted(local_bundle.device())
    assert verify(local_bundle, device, {"x": samples[:8]}).passed
    assert device.batches == [1, 3, 3, 1]


def test_a_batch_ends_well_within_the_time_of_a_run(local_bundle: Bundle) -> None:
    samples = np.zeros((9, 1, 8), np.float32)
    device = Counted(local_bundle.device())
    device.timeout_seconds = 1e-9
    assert verify(local_bundle, device, {"x": samples}).passed
    assert device.batches == [1] * 9


def test_the_sample_of_a_mismatch_is_named(toy, tmp_path: Path) -> None:
    bundle = toy.build(toy.host_target, tmp_path, lookup_2="y[i] = table[x[i] + 128] + (x[i] > 120);")
    samples = np.zeros((9, 1, 8), np.float32)
    samples[6] = 100
    found = verify(bundle, bundle.device(), {"x": samples})
    assert found.mismatch is not None
    assert found.mismatch.sample == 6
