"""The self-test sees the whole network: exact layers by checksums, float ones within a tolerance."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.bench.bundle import Bundle
from edgec.compiler.emit.expectations import ABSOLUTE_TOLERANCE, SAMPLES
from edgec.compiler.emit.golden import Near
from edgec.compiler.pipeline import network_of
from tests.compiler.building import HOST, build, verified
from tests.compiler.emit.test_emit import HOST as DEVICE
from tests.compiler.emit.test_emit import bench, make, qemu, write
from tests.compiler.onnx_models import model
from tests.conftest import board_of

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w1": RNG.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32),
    "w2": RNG.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32),
}
MODEL = """(float[1,3,12,12] x) => (float[1,8,12,12] y, int64[1,1,12,12] best) {
    a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) c = Einsum <equation = "ncij,ncjk,nckl->ncil"> (r, r, r)
    b = Conv <pads = [1,1,1,1]> (c, w2) y = Relu(b) best = ArgMax <axis = 1> (b)
}"""
"""Exact layers before and behind an island, or float ones, and an island that chooses by the last bits."""


@pytest.mark.parametrize(
    "target", [HOST, HOST.replace("-int8", "-fp32"), "rpi5-int8", "cortex-m4-int8", "cortex-m55-fp32"]
)
def test_every_step_is_compared_but_those_inside_of_islands(target: str, tmp_path: Path) -> None:
    if target.startswith("cortex"):
        board_of(target.partition("-int8")[0].partition("-fp32")[0])
    elif target == "rpi5-int8":
        qemu("cortex-a76")
    bundle = build(model(MODEL, WEIGHTS), tmp_path, target)
    assert verified(bundle).passed
    said = selftest(bundle)
    outputs = [tensor.name for step in bundle.steps for tensor in step.outputs]
    known = network_of(bundle.file("model.onnx")).tensors
    inside = sum(not any(t.name in known for t in step.outputs) for step in bundle.steps)
    assert len(set(outputs)) == len(outputs)
    assert (said["selftest"], said["steps_checked"]) == ("ok", len(bundle.steps) - inside)
    if target.endswith("int8"):  # what follows an island is exact again
        exact = {step.name for step in bundle.steps if step.checksum is not None}
        assert {"c_quantize", "conv_3", "y_dequantize"} <= exact


def selftest(bundle: Bundle, program: Path | None = None) -> dict[str, Any]:
    described = bundle.manifest.target
    local = described.arch == DEVICE.arch
    device = bundle.device("local" if local else "emulator")
    return dict(json.loads(device.execute(program or bundle.bench, ["--selftest"]).stdout))


@pytest.mark.parametrize("core", ["", "cortex-m4"])
def test_what_an_island_must_compute_is_told_by_its_layer(core: str, tmp_path: Path) -> None:
    """One float of the golden run's island is another: as if the device had computed another."""
    if core:
        board_of(core)
    bundle = build(model(MODEL, WEIGHTS), tmp_path, f"{core}-int8" if core else HOST)
    near = [step.name for step in bundle.steps if not step.checked]
    assert near[0] == "island_0_0.einsum"
    r = next(step for step in bundle.steps if step.name == "island_0_0.einsum").outputs[0]
    assert r.shape == (1, 8, 12, 12)
    image = bytearray(bundle.bench.read_bytes())
    floats = np.frombuffer(bytes(image), np.uint8)
    at = _float_run(floats, 8 * 12 * 12)
    values = np.frombuffer(bytes(image[at : at + 4 * 8 * 144]), np.float32).copy()
    values[700] += 0.01 * abs(values).max()
    image[at : at + values.nbytes] = values.tobytes()
    changed = tmp_path / "changed"
    changed.write_bytes(image)
    changed.chmod(0o755)
    said = selftest(bundle, changed)
    assert (said["selftest"], said["layer"]) == ("differs", "island_0_0.einsum")
    assert said["expected"] == int(values.view(np.uint32)[700])
    assert abs(np.uint32(said["computed"]).view(np.float32) - values[700]) > 0


def _float_run(data: np.ndarray, count: int) -> int:
    """Where the only run of so many floats of a plausible size, at a multiple of 8, begins."""
    for at in range(0, len(data) - 4 * count, 8):
        words = data[at : at + 4 * count].view(np.uint8).tobytes()
        values = np.frombuffer(words, np.float32)
        sizes = abs(values[(values != 0) & np.isfinite(values)])
        if np.isfinite(values).all() and len(sizes) > count // 2 and sizes.min() > 1e-6 and sizes.max() < 1e4:
            return at
    raise AssertionError("there is no such run")


HALF = "(void)scratch; (void)begin; (void)end; for (int i = 0; i < 64; i++) y[i] = {} * (float)x[i];"


def with_near(stride: int) -> Any:
    """The bundle of test_emit.py, whose last step is a float one, compared."""
    made = make(DEVICE)
    name = "1/prob"
    values = made.golden.outputs[name].reshape(-1)
    near = Near(values[::stride], stride, ABSOLUTE_TOLERANCE * float(abs(values).max()))
    return dataclasses.replace(made, golden=dataclasses.replace(made.golden, near={name: near}))


@pytest.mark.parametrize(
    ("factor", "stride", "verdict"),
    [("0.5f", 1, "ok"), ("0.50001f", 1, "ok"), ("0.501f", 1, "differs"), ("0.501f", 5, "differs"),
     ("0.50001f", 5, "ok"), ("(0.f / 0.f)", 1, "differs"), ("__builtin_inff()", 3, "differs"),
     ("0.5f + 0.01f * (i == 37)", 1, "differs")],
)  # fmt: skip
def test_a_wrong_float_kernel_is_found(factor: str, stride: int, verdict: str, tmp_path: Path) -> None:
    bodies = {"edgec_half_4": HALF.format(f"({factor})")}
    result = bench(write(with_near(stride), tmp_path, bodies=bodies), "--selftest")
    said = json.loads(result.stdout)
    assert (result.returncode, said["selftest"]) == (verdict != "ok", verdict)
    if verdict == "ok":
        assert said["steps_checked"] == 4
    else:
        assert said["layer"] == "half"
        assert said["expected"] != said["computed"]


def test_large_floats_that_nothing_exact_follows_are_sampled(tmp_path: Path) -> None:
    text = "(float[1,32,32,32] x) => (float[1,32,32,32] y) { a = Conv(x, w) b = Relu(a) y = Conv(b, w) }"
    weights = {"w": RNG.normal(0, 0.2, (32, 32, 1, 1)).astype(np.float32)}
    bundle = build(model(text, weights), tmp_path, HOST.replace("-int8", "-fp32"))
    source = bundle.file("src/model_selftest.c").read_text()
    (golden,) = [line for line in source.splitlines() if "(real)" in line and "/* y */" in line]
    assert int(golden.split(",")[2]) == 32 * 32 * 32 // SAMPLES | 1
    assert verified(bundle).passed
