"""The same input gives the same bundle, whatever float arithmetic the machine that builds has.

Other CPUs are played by numpy without the vector instructions that it would choose here, by a BLAS for
another core and number of threads, and by another order of hashes.
"""

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OTHER_CORES = {"x86_64": "Prescott", "AMD64": "Prescott", "aarch64": "ARMV8", "arm64": "ARMV8"}
"""What any machine of its kind can compute as."""
OTHER = {
    "OPENBLAS_CORETYPE": OTHER_CORES.get(platform.machine(), ""),
    "OPENBLAS_NUM_THREADS": "2",
    "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name)),
    "PYTHONHASHSEED": "7",
}
HERE = {"OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}

QUANTIZED = """
import hashlib, sys
from pathlib import Path
from edgec.compiler.compress.calibration import synthetic
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.frontend.load import load
from edgec.compiler.model import serialize
from edgec.kernels.reference.precise import Precise

for path in map(Path, sys.argv[1:]):
    model = load(path)
    data = synthetic(model, samples=4)
    bits = hashlib.sha256()
    for _, value in Precise(serialize(model)).values(data.feed(0)):
        bits.update(value.tobytes())
    print(hashlib.sha256(serialize(quantize(model, data))).hexdigest(), bits.hexdigest())
"""


def printed(environment: dict[str, str], *arguments: object) -> list[str]:
    run = subprocess.run(
        [sys.executable, *map(str, arguments)], env=os.environ | environment, capture_output=True, check=True,
        text=True, cwd=ROOT,
    )  # fmt: skip
    return run.stdout.split("\n")


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.mark.skipif(not OTHER["NPY_DISABLE_CPU_FEATURES"], reason="numpy has one way to compute here")
def test_quantized_models_are_the_same_though_their_floats_differ() -> None:
    models = sorted(EXAMPLES.glob("*.onnx"))
    here, other = (printed(each, "-c", QUANTIZED, *models) for each in (HERE, OTHER))
    assert len(models) == 3
    for path, one, another in zip(models, here, other, strict=False):
        (quantized, bits), (quantized_there, bits_there) = one.split(), another.split()
        assert quantized == quantized_there, path.name
        assert bits != bits_there, f"{path.name}: nothing shown, the floats are the same"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cortex-m4-int8", "rpi5-int8"])
def test_bundles_are_the_same(target: str, tmp_path: Path) -> None:
    trees = []
    for name, environment in (("here", HERE), ("other", OTHER)):
        arguments = ("--calibration", EXAMPLES / "fmnist_calibration.npz", "--target", target)
        cache = {"XDG_CACHE_HOME": str(tmp_path / f"cache-{name}")}
        model, output = EXAMPLES / "fmnist_dscnn.onnx", tmp_path / name
        printed(environment | cache, "-m", "edgec", "build", model, *arguments, "--output", output)
        trees.append(tree(output))
    assert "manifest.json" in trees[0]
    assert trees[0] == trees[1]
