"""The whole journey: the same bytes on every target and in every folder, and nothing left behind."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import platformdirs
import pytest

from edgec import cli
from edgec.bench.bundle import Bundle
from edgec.compiler import accuracy, pipeline
from edgec.errors import CalibrationError, EdgecError, ModelError, TargetError, ToolchainError
from edgec.kernels.kernel import Kernel
from edgec.options import BuildOptions
from tests.compiler import onnx_models
from tests.compiler.building import build, checksums, verified
from tests.compiler.lowering_cases import weights

ROOT = Path(__file__).parents[2]
DEVICES = ("x86-64", "x86-64-v3", "host", "arm64", "rpi4", "rpi5", "cortex-a53")
INT8 = [f"{device}-int8" for device in DEVICES]


SMALL = onnx_models.model(
    """(float[1,3,14,14] image) => (float scores) {
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1) b = Relu(a)
        c = Conv<group=16, pads=[1,1,1,1]>(b, w2) d = HardSwish(c) e = Conv(d, w3) f = Add(b, e)
        g = MaxPool<kernel_shape=[3,3], strides=[2,2]>(f)
        h = AveragePool<kernel_shape=[3,3], strides=[2,2]>(f)
        i = Concat<axis=1>(g, h) j = GlobalAveragePool(i) k = Flatten(j) l = Gemm<transB=1>(k, w4, b4)
        scores = Softmax(l)
    }""",
    {
        "w1": weights(16, 3, 3, 3),
        "w2": weights(16, 1, 3, 3),
        "w3": weights(16, 16, 1, 1),
        "w4": 3 * weights(10, 32),
        "b1": weights(16, 1).reshape(-1),
        "b4": weights(10, 1).reshape(-1),
    },
)
"""Convolutions of every kind, an addition, a concatenation, pooling, a product and softmax."""


def samples(count: int = 8) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(1).standard_normal((count, 1, 3, 14, 14)).astype(np.float32)}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return {target: build(SMALL, folder, target, calibration=samples()) for target in INT8}


@pytest.mark.parametrize("target", INT8)
def test_every_target_computes_the_reference_bit_for_bit(target: str, bundles: dict[str, Bundle]) -> None:
    found = verified(bundles[target], data=samples(2))
    assert found.exact_layers == len(bundles[target].steps)
    assert found.accuracy.outputs[0].sqnr_db is not None
    assert found.accuracy.outputs[0].sqnr_db > 25


def test_every_target_has_the_same_golden_checksums(bundles: dict[str, Bundle]) -> None:
    every = {target: checksums(bundle) for target, bundle in bundles.items()}
    assert all(sums == every["arm64-int8"] for sums in every.values())
    assert None not in every["arm64-int8"].values()


def test_targets_use_their_own_kernels(bundles: dict[str, Bundle]) -> None:
    def convolution(target: str) -> str:
        return next(step.kernel for step in bundles[target].steps if step.kernel.startswith("conv2d"))

    assert convolution("x86-64-v3-int8") == "conv2d_int16_avx2"  # on its own level, the last
    assert convolution("rpi4-int8") == "conv2d_neon"
    assert convolution("rpi5-int8") == "conv2d_dotprod"


@pytest.mark.parametrize("target", ["x86-64-v3-fp32", "rpi4-fp32"])
def test_float_targets_stay_within_tolerance_of_the_model(target: str, tmp_path: Path) -> None:
    bundle = build(SMALL, tmp_path, target)
    found = verified(bundle)
    assert any(step.kernel.startswith("float_conv2d") for step in bundle.steps)
    assert found.accuracy.outputs[0].sqnr_db == accuracy.BEST_DB
    assert bundle.manifest.islands == ()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("target", ["x86-64-v3-int8", "rpi5-int8", "rpi5-fp32"])
def test_two_builds_in_different_folders_are_byte_identical(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, shared = [], platformdirs.user_cache_path("edgec")
    for name in ("one", "another/with spaces"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        own = folder / "cache/edgec"  # objects are compiled anew; the linker's own cache holds none of them
        own.mkdir(parents=True)
        (own / "zig").symlink_to(shared / "zig")
        monkeypatch.setenv("XDG_CACHE_HOME", str(own.parent))
        model = folder / "small.onnx"
        onnx.save(SMALL, model)
        made = pipeline.build("small.onnx", BuildOptions(target=target, calibration=samples()))
        assert made.path.resolve() == folder / f"small-{target}.edgec"
        built.append(files(made.path))
    assert built[0] == built[1]
    assert {"manifest.json", "include/small.h", "lib/libsmall.a", "lib/libsmall.so", "model.onnx"} <= built[
        0
    ].keys()


def test_a_bundles_model_builds_to_the_same_network(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """The quantized model in the bundle stands for itself: any QDQ model is compiled alike."""
    bundle = bundles["rpi5-int8"]
    again = build(bundle.file("model.onnx"), tmp_path, "rpi5-int8", calibration=samples())
    assert checksums(again) == checksums(bundle)
    assert again.manifest.model.calibration.kind == "qdq"


def test_outputs_are_close_to_onnx_runtimes_run_of_the_quantized_model(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["host-int8"]
    ours = bundle.run({"image": samples(1)["image"][0]})
    theirs = onnx_models.run_onnx(onnx.load(bundle.file("model.onnx")), {"image": samples(1)["image"][0]})
    assert np.abs(ours["scores"] - theirs[0]).max() <= 1 / 256


def test_progress_tells_every_stage_and_dump_writes_it(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    folder = tmp_path / "dump"
    build(
        SMALL,
        tmp_path,
        "rpi5-int8",
        dump=folder,
        progress=lambda stage, detail: told.append((stage, detail)),
    )
    stages = ["import", "quantize", "lower", "plan", "compile", "compare", "emit"]
    assert [stage for stage, detail in told if not detail] == stages
    details = {stage: detail for stage, detail in told if detail}
    assert details["import"] == "13 nodes, opset 17"
    assert details["quantize"] == "int8 per channel, 8 synthetic samples"
    assert details["lower"].startswith("13 kernels, 0.0411 MMAC")
    assert details["plan"].startswith("arena ")
    assert {path.name for path in folder.iterdir()} == {
        "imported.onnx", "quantized.onnx", "network.txt", "program.txt", "functions", "frontend", "compress"
    }  # fmt: skip
    passes = {
        stage: sorted(path.name for path in (folder / stage).iterdir()) for stage in ("frontend", "compress")
    }
    assert passes["frontend"][0] == "01_name_nodes.onnx"
    assert any(name.endswith("_insert_qdq.onnx") for name in passes["compress"])
    assert (folder / "frontend" / passes["frontend"][-1]).read_bytes() == (
        folder / "imported.onnx"
    ).read_bytes()
    assert (folder / "compress" / passes["compress"][-1]).read_bytes() == (
        folder / "quantized.onnx"
    ).read_bytes()
    onnx.checker.check_model(folder / "quantized.onnx")
    assert "conv_0: Conv2d(" in (folder / "network.txt").read_text()
    program = (folder / "program.txt").read_text()
    symbols = {path.stem for path in (folder / "functions").iterdir()}
    assert symbols
    assert all(f": {symbol}(" in program for symbol in symbols)


def test_a_dump_of_a_build_that_fails_has_the_stages_before(tmp_path: Path) -> None:
    model = onnx_models.model("(float[3,3] z) => (float y) { d = Det(z) y = Abs(d) }")
    with pytest.raises(EdgecError):
        build(model, tmp_path, dump=tmp_path / "dump")
    assert "imported.onnx" in {path.name for path in (tmp_path / "dump").iterdir()}


# --- builds that fail ---------------------------------------------------------------------------------------


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.compiler.native import toolchain

    def broken(*_: object) -> None:
        raise ToolchainError("no linker")

    monkeypatch.setattr(toolchain, "zig", broken)
    onnx.save(SMALL, tmp_path / "small.onnx")
    options = BuildOptions(target="rpi5-int8", output=tmp_path / "made.edgec")
    with pytest.raises(ToolchainError):
        pipeline.build(tmp_path / "small.onnx", options)
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_a_layer_without_a_kernel_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgec.kernels import table

    def others(kernel: Kernel) -> bool:
        return not kernel.name.startswith(("softmax", "concat"))

    monkeypatch.setattr(table, "KERNELS", tuple(filter(others, table.KERNELS)))
    with pytest.raises(EdgecError) as refused:
        build(SMALL, tmp_path, "rpi5-int8")
    assert str(refused.value) == (
        "model.onnx: layer 'concat_8' (Concat) has no kernel on rpi5-int8; "
        "layer 'softmax_12' (Softmax) has no kernel on rpi5-int8"
    )


def test_quantized_models_are_for_int8_targets(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^model\.onnx is quantized: build it for 'rpi4-int8'$"):
        build(bundles["rpi4-int8"].file("model.onnx"), tmp_path, "rpi4-fp32")


def test_a_reduced_range_is_for_weights_that_are_rounded_here(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="it is quantized already: leave it away"):
        build(bundles["rpi4-int8"].file("model.onnx"), tmp_path, "rpi4-int8", reduce_range=True)
    with pytest.raises(ModelError, match="rpi4-fp32 doesn't quantize: leave it away"):
        build(SMALL, tmp_path, "rpi4-fp32", reduce_range=True)
    built = build(SMALL, tmp_path, "x86-64-v3-int8", reduce_range=True)
    kernels = {kernel.kernel for kernel in built.manifest.levels[-1].kernels}
    assert "conv2d_avx2bytes" in kernels
    assert not kernels & {"conv2d_avx2", "conv2d_int16_avx2"}


MISTAKES = {
    "an unknown array": (
        ["--calibration", "name.npz"],
        "name.npz: has arrays 'picture'; the model's inputs are 'image'",
    ),
    "a wrong shape": (["--calibration", "shape.npz"], "expected [1, 3, 14, 14] or [samples, 1, 3, 14, 14]"),
    "no such samples": (["--calibration", "none.npz"], "none.npz: no such file"),
    "samples that are no npz": (["--calibration", "small.onnx"], "small.onnx: not an .npz file"),
    "an unknown input": (["--shape", "x=1x2"], "the model has no such input; it has image"),
    "a shape of another rank": (["--shape", "image=3x14x14"], "has 4 dimensions"),
    "an unknown target": (["--target", "toaster-int8"], "toaster"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_exit_with_2_and_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    options, expected = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    onnx.save(SMALL, "small.onnx")
    np.savez("name.npz", picture=samples()["image"])
    np.savez("shape.npz", image=np.zeros((5, 3, 14, 15), np.float32))
    target = [] if "--target" in options else ["--target", "rpi5-int8"]
    monkeypatch.setattr(sys, "argv", ["edgec", "build", "small.onnx", *target, *options])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    said = capfd.readouterr().err
    assert said.startswith("edgec: error: ")
    assert said.count("\n") == 1
    assert expected in said
    assert not list(tmp_path.glob("*.edgec*"))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"calibration": {"picture": np.zeros((1, 3, 14, 14))}}, CalibrationError),
        ({"calibration": {"image": np.full((1, 3, 14, 14), np.nan, np.float32)}}, CalibrationError),
        ({"shapes": {"image": (1, 3, 14)}}, ModelError),
        ({"target": "rpi5-int3"}, TargetError),
    ],
)
def test_mistakes_have_their_own_kind(
    options: dict[str, Any], kind: type[EdgecError], tmp_path: Path
) -> None:
    with pytest.raises(kind):
        build(SMALL, tmp_path, **options)
    assert not list(tmp_path.glob("*.edgec*"))


def test_the_bundled_example_builds_and_classifies(tmp_path: Path) -> None:
    bundle = build(
        ROOT / "examples/fmnist_dscnn.onnx", tmp_path, calibration=ROOT / "examples/fmnist_calibration.npz"
    )
    found = verified(bundle)
    assert found.exact_layers == len(bundle.steps)
    assert found.accuracy.outputs[0].top1_agreement == 1
    assert json.loads((bundle.path / "manifest.json").read_text())["model"]["calibration"]["kind"] == "data"
