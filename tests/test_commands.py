"""The commands on a real model, from a file to figures, as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.targets.detect import host_arch

pytestmark = pytest.mark.slow

SHAPE = (1, 3, 10, 10)


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "edgec", *arguments], capture_output=True, text=True, cwd=cwd, env=here
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `small.onnx` (convolution, ReLU, global pooling), `samples.npz`, and a bundle for a Pi 5."""
    folder = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.3, (12, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["scores"], "flatten"),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *SHAPE[1:]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 12])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "small.onnx")
    np.savez(folder / "samples.npz", image=rng.normal(size=(8, *SHAPE)).astype(np.float32))
    build = ["build", "small.onnx", "--target", "rpi5-int8", "--shape", "image=1x3x10x10"]
    done = command(*build, "--calibration", "samples.npz", cwd=folder)
    assert done.returncode == 0, done.stderr
    for stage in ("import", "quantize", "lower", "plan", "compile"):
        assert f"  {stage} " in done.stdout
    assert "small-rpi5-int8.edgec   flash" in done.stdout
    return folder


def test_a_build_as_json_is_one_object_and_says_that_inputs_are_synthetic(folder: Path) -> None:
    build = ["build", "small.onnx", "--target", "host-int8", "--shape", "image=1x3x10x10"]
    done = command(*build, "--output", "here", "--json", cwd=folder)
    data = json.loads(done.stdout)
    assert data["bundle"] == "here"
    assert data["manifest"]["model"]["calibration"]["kind"] == "synthetic"
    assert "synthetic inputs: give --calibration" in done.stderr


def test_a_build_that_tunes_says_what_it_gained_and_a_bundle_is_tuned_in_place(folder: Path) -> None:
    build = ["build", "small.onnx", "--target", "host-int8", "--shape", "image=1x3x10x10"]
    done = command(*build, "--output", "tuned", "--tune", "6s", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["tuning"]["unit"] == "ns"
    assert data["tuning"]["tried"] >= len(data["tuning"]["layers"]) > 0
    assert "  tune " in done.stderr
    again = command("tune", "tuned", "--budget", "3s", "--json", cwd=folder)
    assert again.returncode == 0, again.stderr
    retuned = json.loads(again.stdout)
    assert {"system", "load_average"} <= retuned["tuning"]["conditions"].keys()
    assert "conditions: system Linux" in again.stderr
    assert retuned["manifest"]["files"]["model.onnx"] == data["manifest"]["files"]["model.onnx"]
    records = folder / "tuned" / "tuning.jsonl"
    same = command(*build, "--output", "same", "--records", records, "--json", cwd=folder)
    assert json.loads(same.stdout)["manifest"] == retuned["manifest"]


@pytest.mark.skipif(host_arch() != "x86-64", reason="levels of x86-64")
def test_a_level_is_tuned_by_its_name(folder: Path) -> None:
    shape = ["--shape", "image=1x3x10x10"]
    command("build", "small.onnx", "--target", "x86-64-int8", "--output", "levels", *shape, cwd=folder)
    wrong = command("tune", "levels", "--level", "x86-64-v9", cwd=folder)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "x86-64-v9" in wrong.stderr
    done = command("tune", "levels", "--level", "x86-64", "--budget", "3s", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (folder / "levels/tuning.jsonl").read_text().splitlines()]
    assert {"kernel", "target"} <= records[0].keys()
    tuned = {layer["kernel"] for layer in json.loads(done.stdout)["tuning"]["layers"]}
    assert tuned
    assert all(kernel.endswith("_sse2") for kernel in tuned)


def test_a_failing_build_is_one_line_and_leaves_nothing(folder: Path) -> None:
    done = command("build", "small.onnx", "--target", "rpi5-int8", "--output", "failed", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "image" in done.stderr
    assert not list(folder.glob("*failed*"))


@pytest.mark.usefixtures("arm_emulator")
def test_verify(folder: Path) -> None:
    done = command("verify", "small-rpi5-int8.edgec", "--data", "samples.npz", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["passed"], data["not_run"]) == (True, {})
    (found,) = data["levels"]
    assert (found["device"], found["level"], found["samples"]) == ("emulator", "rpi5", 8)
    assert (found["mismatch"], found["selftest"]) == (None, "ok")
    assert found["accuracy"]["outputs"][0]["sqnr_db"] > 25
    assert "bit-exact with the reference on 8 samples" in done.stderr


@pytest.mark.usefixtures("arm_emulator")
def test_bench(folder: Path) -> None:
    done = command("bench", "small-rpi5-int8.edgec", "--device", "emulator", "--json", cwd=folder)
    data = json.loads(done.stdout)
    assert "latency_ms" not in data
    macs = sum(layer["macs"] for layer in data["layers"])
    assert macs == 12 * 100 * 27
    assert data["instruction_classes"]["dot"] >= macs / 16
    assert data["mac_instructions"] < data["instructions"]


def test_bench_without_a_bundle(folder: Path) -> None:
    done = command("bench", "--json", cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "name a bundle to measure, or say --peak" in done.stderr
    data = json.loads(command("bench", "--peak", "--json", cwd=folder).stdout)
    assert data["gmacs"]["generic"] > 0
    assert data["memory_gbytes"] > 0


@pytest.mark.usefixtures("arm_emulator")
def test_run_and_the_python_api_agree(folder: Path) -> None:
    run = ["run", "small-rpi5-int8.edgec", "--input", "samples.npz", "--output", "out.npz", "--json"]
    done = command(*run, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"] == {"scores": [8, 1, 12]}
    samples = np.load(folder / "samples.npz")["image"]
    bundle = edgec.load(folder / "small-rpi5-int8.edgec")
    written = np.load(folder / "out.npz")["scores"]
    np.testing.assert_array_equal(written, bundle.run({"image": samples})["scores"])
    np.testing.assert_array_equal(written[0], bundle.run({"image": samples[0]})["scores"])


@pytest.mark.usefixtures("arm_emulator")
def test_build_in_python_returns_a_bundle_that_runs(folder: Path) -> None:
    samples = np.load(folder / "samples.npz")["image"]
    bundle = edgec.build(
        folder / "small.onnx",
        target="host-int8",
        calibration={"image": samples},
        shapes={"image": SHAPE},
        output=folder / "python.edgec",
    )
    assert isinstance(bundle, edgec.Bundle)
    emulated = edgec.load(folder / "small-rpi5-int8.edgec")
    here, there = (made.run({"image": samples})["scores"] for made in (bundle, emulated))
    np.testing.assert_array_equal(here, there)  # one arithmetic on every target


FIRMWARE = ("build", "small.onnx", "--target", "cortex-m4-int8", "--shape", "image=1x3x10x10")


@pytest.mark.usefixtures("board_emulator")
def test_firmware_is_built_verified_measured_and_run(folder: Path) -> None:
    done = command(*FIRMWARE, "--io", "int8,arena", "--max-ram", "64K", "--max-flash", "1M", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "  flash      weights " in done.stdout
    assert " bytes, context 32 bytes" in done.stdout
    made = "small-cortex-m4-int8.edgec"
    verified = json.loads(command("verify", made, "--data", "samples.npz", "--json", cwd=folder).stdout)
    (found,) = verified["levels"]
    assert (verified["passed"], found["device"], found["cpu"]) == (True, "emulator", "cortex-m4 (emulated)")
    measured = json.loads(command("bench", made, "--json", cwd=folder).stdout)
    assert measured["instructions"] > sum(layer["macs"] for layer in measured["layers"]) / 4
    assert measured["memory"]["stack_bytes"] < 1024
    ran = command("run", made, "--input", "samples.npz", "--output", "codes.npz", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    assert np.load(folder / "codes.npz")["scores"].dtype == np.int8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-ram", "100"], "small.onnx: needs "),
        (["--max-flash", "1K"], "bytes of flash and may take 1024"),
        (["--max-ram", "64kB"], "--max-ram 64kB: write a number of bytes as 65536, 64K or 1M"),
        (["--io", "uint8"], "--io uint8: write int8 or float"),
        (["--tune", "5s"], "cortex-m4 runs no tuner's probe yet"),
    ],
)
def test_firmware_that_can_not_be_is_one_line_and_leaves_nothing(
    folder: Path, arguments: list[str], words: str
) -> None:
    done = command(*FIRMWARE, *arguments, "--output", "refused", cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert words in done.stderr
    assert not list(folder.glob("*refused*"))
