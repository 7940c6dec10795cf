"""The example, as its README says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgec
from edgec.targets import loader

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
GARMENTS = "T-shirt,trousers,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> edgec.Bundle:
    return edgec.build(
        EXAMPLES / "fmnist_dscnn.onnx",
        target="host-int8",
        calibration=EXAMPLES / "fmnist_calibration.npz",
        output=tmp_path_factory.mktemp("example") / "fmnist_dscnn-host-int8.edgec",
    )


def test_the_c_program_names_every_garment(bundle: edgec.Bundle, tmp_path: Path) -> None:
    target = loader.load("host-int8").c_target
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    inputs = [EXAMPLES / "classify.c", bundle.path / "lib/libfmnist_dscnn.a", "-lpthread", "-lm"]
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-O2", *warnings]
    command = [*compiler, f"-I{bundle.path / 'include'}", *inputs, "-o", "classify"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "classify", EXAMPLES / "garments.pgm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ",".join(done.stdout.splitlines()) == GARMENTS


def test_int8_is_as_accurate_as_float(bundle: edgec.Bundle) -> None:
    here = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, EXAMPLES / "accuracy.py", bundle.path]
    done = subprocess.run(command, capture_output=True, text=True, env=here)
    assert done.returncode == 0, done.stderr
    real, integer = (float(figure) for figure in re.findall(r"([\d.]+)% of 200 images", done.stdout))
    assert real > 85
    assert integer >= real - 1


@pytest.mark.usefixtures("board_emulator")
def test_firmware_runs_by_every_linker_that_is_there(tmp_path: Path) -> None:
    made = edgec.build(
        EXAMPLES / "fmnist_dscnn.onnx",
        target="cortex-m4-int8",
        calibration=EXAMPLES / "fmnist_calibration.npz",
        int8_io=True,
        output=tmp_path / "firmware.edgec",
    )
    here = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, EXAMPLES / "firmware.py", made.path]
    done = subprocess.run(command, capture_output=True, text=True, env=here)
    assert (done.returncode, done.stderr) == (0, "")
    core, label, *_ = done.stdout.splitlines()[1].split()
    assert (core, label) == ("cortex-m4", "5")  # a sandal
    linkers = "zig ok, gcc ok" if shutil.which("arm-none-eabi-gcc") else "zig ok"
    assert done.stdout.endswith(f"   {linkers}\n")
