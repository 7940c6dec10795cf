"""The comparison with other engines: what is said of their times, and one real comparison."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from edgec.bench.peers.comparison import EDGEC, Outputs, Result, Settings
from edgec.bench.peers.engines import PEERS
from edgec.bench.peers.report import print_results, summary, to_json
from edgec.bench.peers.turns import MIN_RUNS, Timing, geometric_mean, median_index, take_turns
from edgec.bench.peers.worker import read_samples, write_samples

ROOT = Path(__file__).parents[2]


class Clockwork:
    """An engine that takes the given milliseconds, one figure per turn after the calibration."""

    def __init__(self, name: str, log: list[str], *milliseconds: float) -> None:
        self.name, self.log = name, log
        self.turns = iter((milliseconds[0], *milliseconds))
        self.runs: list[int] = []

    def __call__(self, warmup: int, runs: int) -> Sequence[int]:
        self.log.append(self.name)
        self.runs.append(runs)
        assert warmup > 0
        nanoseconds = round(next(self.turns) * 1e6)
        return [nanoseconds] * (runs - 1) + [100 * nanoseconds]  # one inference was disturbed


def test_engines_take_turns_and_the_best_turn_counts() -> None:
    log: list[str] = []
    engines = {"a": Clockwork("a", log, 4, 2, 3), "b": Clockwork("b", log, 1, 9, 1)}
    times = take_turns(engines, turns=3, turn_seconds=0.08)
    assert log == ["a", "b"] * 4
    assert times == {"a": Timing(best=2, median=3), "b": Timing(best=1, median=1)}
    assert engines["a"].runs == [MIN_RUNS, 20, 20, 20]
    assert engines["b"].runs == [MIN_RUNS, 80, 80, 80]


def test_geometric_mean_and_median() -> None:
    assert geometric_mean([2, 0.5]) == pytest.approx(1)
    assert geometric_mean([1, 2, 4]) == pytest.approx(2)
    assert median_index([3.0, 1.0, 2.0]) == 2
    assert median_index([5.0, 1.0]) == 1


def result(model: str, *runs: dict[str, float]) -> Result:
    outputs = {
        EDGEC: Outputs(True, 0.0, 30.0, 1.0),
        "ORT s8s8": Outputs(False, 0.25, 10.0, 0.5),
        "OpenVINO int8": Outputs(None, None, 31.5, None),
        "ORT float": Outputs(None, None, None, None),
    }
    times = tuple({name: Timing(ms, ms) for name, ms in run.items()} for run in runs)
    return Result(model, 2_000_000, times, outputs, ("ORT s8s8", "OpenVINO int8"), ("nothing is missing",))


RESULTS = (
    result(
        "first",
        {EDGEC: 1.0, "ORT s8s8": 3.0, "OpenVINO int8": 2.0, "ORT float": 0.5},
        {EDGEC: 1.0, "ORT s8s8": 4.0, "OpenVINO int8": 5.0, "ORT float": 0.5},
        {EDGEC: 1.0, "ORT s8s8": 3.0, "OpenVINO int8": 4.0, "ORT float": 0.5},
    ),
    result("second", *({EDGEC: 2.0, "ORT s8s8": 1.0, "OpenVINO int8": 9.0, "ORT float": 0.5},) * 3),
)


def test_the_ratio_is_the_best_peer_of_the_same_precision_by_edgec() -> None:
    assert [RESULTS[0].ratio(run) for run in range(3)] == [2.0, 4.0, 3.0]
    assert [RESULTS[0].best_peer(run) for run in range(2)] == ["OpenVINO int8", "ORT s8s8"]
    assert RESULTS[1].ratio(0) == 0.5
    assert summary(RESULTS) == pytest.approx([1.0, 2**0.5, 1.5**0.5])


def test_the_median_run_is_quoted_with_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings("x86-64-v3-int8", repeat=3)
    print_results(Console(width=180), RESULTS, settings, {"load_average": "0.10"})
    said = capsys.readouterr().out
    lines = {line.split()[0]: line for line in reversed(said.splitlines()) if line.strip()}
    assert lines["first"].split() == ["first", "2.0", "1", "3", "4", "0.5", "3.00", "(2.00", "-", "4.00)"]
    assert "geometric mean of 2 models: 1.22 (1.00 - 1.41)" in said
    assert "25.0% differ (50%)" in said
    assert "exact" in said
    assert "31.5 dB" in said
    assert said.count("note: nothing is missing") == 1
    assert "conditions: load average 0.10" in said


def test_json_has_every_run() -> None:
    data = json.loads(json.dumps(to_json(RESULTS, Settings("host-int8"), {"cores": 2})))
    first = data["results"][0]
    assert first["ratios"] == [2.0, 4.0, 3.0]
    assert first["median_run"] == 2
    assert first["best_peers"][first["median_run"]] == "ORT s8s8"
    assert first["runs"][1]["edgec"] == {"best": 1.0, "median": 1.0}
    assert first["outputs"]["ORT s8s8"]["exact"] is False
    assert len(data["geometric_means"]) == 3


def test_samples_pass_through_a_file(tmp_path: Path) -> None:
    samples = [{"a": np.full((1, 2), i, np.float32), "b": np.array([i])} for i in range(3)]
    read = read_samples(write_samples(tmp_path / "samples.npz", samples))
    assert [list(sample) for sample in read] == [["a", "b"]] * 3
    for expected, found in zip(samples, read, strict=True):
        assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_every_engine_has_a_name_of_its_own() -> None:
    assert len({engine.name for engine in PEERS}) == len(PEERS)
    assert {engine.precision for engine in PEERS} == {"int8", "fp32"}


def test_an_engine_is_installed_where_all_that_it_imports_is() -> None:
    ort = next(engine for engine in PEERS if engine.name == "ORT float")
    assert ort.installed
    assert not replace(ort, modules=("onnxruntime", "there_is_no_such_module")).installed


def peers(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "edgec.bench.peers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=here)


@pytest.mark.slow
def test_edgec_beside_its_peers(tmp_path: Path) -> None:
    example = [ROOT / "examples/fmnist_dscnn.onnx", "--data", ROOT / "examples/fmnist_calibration.npz"]
    done = peers(*example, "--turns", "2", "--seconds", "0.01", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    (found,) = data["results"]
    assert {"edgec", "ORT u8s8", "ORT s8s8", "ORT float"} <= set(found["runs"][0])
    for engine in PEERS:
        if engine.installed and engine.model != "int8.tflite" and engine.model != "fp32.tflite":
            assert engine.name in found["outputs"], found["notes"]
    assert found["outputs"]["edgec"]["exact"] is True
    assert found["outputs"]["edgec"]["top1_agreement"] > 0.8
    assert found["ratios"][0] > 0
    assert "model" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    model = ROOT / "examples/fmnist_dscnn.onnx"
    done = peers(model, "--target", "x86-64-v9-int8", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no target 'x86-64-v9-int8'" in done.stderr
    done = peers(model, "--isa", "mmx", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "edgec: error: --isa mmx: choose avx2, or leave it out\n",
    )
    done = peers(model, "--isa", "avx2", "--target", "x86-64-v3-int8", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert (
        "binds peers alone: name edgec's --level too, of x86-64-v4, x86-64-avxvnni, x86-64-v3" in done.stderr
    )
    done = peers(model, "--target", "arm64-int8", "--level", "x86-64-v3", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--level x86-64-v3: bundles for arm64-int8 have arm64-i8mm, arm64-dotprod, arm64" in done.stderr
