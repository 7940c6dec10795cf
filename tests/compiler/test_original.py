"""Every build is compared with the model as given, on samples that chose no scales where there are any."""

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from edgec.bench.bundle import Bundle
from edgec.bench.verify import verify
from edgec.cli import app
from edgec.compiler import pipeline
from edgec.compiler.accuracy import measure
from edgec.compiler.frontend.load import load
from edgec.kernels import reference
from edgec.options import BuildOptions
from tests.compiler import onnx_models
from tests.compiler.building import HOST, build
from tests.compiler.lowering_cases import weights

SMALL = onnx_models.model(
    """(float[1,3,8,8] image) => (float large, float scores) {
        a = Conv<pads=[1,1,1,1]>(image, w1) b = Relu(a) large = MaxPool<kernel_shape=[2,2], strides=[2,2]>(b)
        c = GlobalAveragePool(b) d = Flatten(c) e = Gemm<transB=1>(d, w2) scores = Softmax(e)
    }""",
    {"w1": weights(16, 3, 3, 3), "w2": 8 * weights(4, 16)},
)
"""Two outputs, one after softmax."""
BOXES_AND_SCORES = onnx_models.model(
    """(float[1,3,8,8] image) => (float output) {
        a = Conv<pads=[1,1,1,1]>(image, w1) b = Relu(a) c = Conv(b, boxes) d = Conv(b, w2) e = Sigmoid(d)
        output = Concat<axis=1>(c, e)
    }""",
    {"w1": weights(16, 3, 3, 3), "boxes": 300 * np.abs(weights(4, 16, 1, 1)), "w2": weights(5, 16, 1, 1)},
)
"""What int8 makes useless, as one scale serves pixels and probabilities."""


def images(count: int) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(1).standard_normal((count, 1, 3, 8, 8)).astype(np.float32)}


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def useless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, dict[str, str]]:
    """And what its build said."""
    told: dict[str, str] = {}
    folder = tmp_path_factory.mktemp("useless")
    bundle = build(
        BOXES_AND_SCORES,
        folder,
        calibration=images(20),
        progress=lambda stage, said: told.update({stage: said}),
    )
    return bundle, told


def test_samples_that_are_held_back_choose_no_scales_and_show_what_the_others_led_to(tmp_path: Path) -> None:
    told: dict[str, str] = {}
    data = images(40)
    data["image"][9::10] *= 3  # larger than any that chooses scales
    bundle = build(SMALL, tmp_path, calibration=data, progress=lambda stage, said: told.update({stage: said}))
    assert told["quantize"] == "int8 per channel, 36 samples, 4 held back"
    assert told["compare"].startswith("'scores': SQNR ")
    assert told["compare"].endswith("from the original, on 4 samples held back")
    found = bundle.manifest.accuracy
    assert (found.on, found.samples) == ("held back", 4)
    assert bundle.manifest.model.calibration.held_back == 4
    golden = np.load(bundle.file("golden/inputs.npz"))["image"]
    np.testing.assert_array_equal(golden, data["image"][9])
    quantized = onnx.load(bundle.file("model.onnx")).graph
    first = next(node for node in quantized.node if node.op_type == "QuantizeLinear")
    (scale,) = (onnx.numpy_helper.to_array(t) for t in quantized.initializer if t.name == first.input[1])
    chosen = np.delete(data["image"], [9, 19, 29, 39], 0)
    assert scale == pytest.approx((chosen.max() - chosen.min()) / 255)


@pytest.mark.parametrize(("count", "on", "compared"), [(19, "calibrated", 19), (20, "held back", 2)])
def test_few_samples_all_choose_scales(count: int, on: str, compared: int, tmp_path: Path) -> None:
    found = build(SMALL, tmp_path, calibration=images(count)).manifest
    assert (found.accuracy.on, found.accuracy.samples) == (on, compared)
    assert found.model.calibration.samples + found.model.calibration.held_back == count


def test_the_figures_are_those_of_the_reference_and_the_original_on_these_samples(tmp_path: Path) -> None:
    data = images(30)
    bundle = build(SMALL, tmp_path, calibration=data)
    network = pipeline.network_of(bundle.file("model.onnx"))
    held = data["image"][9::10]
    theirs = [onnx_models.run_onnx(SMALL, {"image": image}) for image in held]
    ours = [reference.evaluate(network, {"image": image}) for image in held]
    assert [figure.output for figure in bundle.manifest.accuracy.outputs] == ["large", "scores"]
    for place, name in enumerate(("large", "scores")):
        signal, computed = np.stack([run[place] for run in theirs]), np.stack([run[name] for run in ours])
        noise = np.square(signal - computed).sum(dtype=np.float64)
        moved = np.square(signal - signal.mean(0)).sum(dtype=np.float64)
        figure = bundle.manifest.accuracy.outputs[place]
        expected = [10 * np.log10(power / noise) for power in (np.square(signal).sum(), moved)]
        assert [figure.sqnr_db, figure.varying_db] == pytest.approx(expected, abs=0.06)


def test_fifty_decibels_while_every_score_is_zero_is_a_loud_warning(
    useless: tuple[Bundle, dict[str, str]],
) -> None:
    bundle, told = useless
    whole, *_ = bundle.manifest.accuracy.outputs
    assert whole.sqnr_db > 30
    (warning,) = bundle.manifest.accuracy.warnings
    assert warning.startswith("'output' channels 4..8 of axis 1: ")
    assert told["compare"].startswith("'output' channels 4..8 of axis 1: SQNR ")


def test_the_summary_of_a_useless_build_says_so(tmp_path: Path) -> None:
    onnx.save(BOXES_AND_SCORES, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", **images(20))
    output = ("--output", tmp_path / "out.edgec", "--json")
    done = command(
        "build", tmp_path / "model.onnx", "--target", HOST, "--calibration", tmp_path / "data.npz", *output
    )
    assert done.exit_code == 0
    assert "WARNING    'output' channels 4..8 of axis 1: " in done.stderr
    assert json.loads(done.stdout)["manifest"]["accuracy"]["warnings"]


@pytest.mark.parametrize(("options", "code"), [([], 3), (["--min-sqnr", "0"], 0), (["--min-sqnr", "-99"], 0)])
@pytest.mark.parametrize("with_data", [False, True])
def test_verify_of_a_useless_bundle_has_an_exit_code_of_its_own(
    options: list[str], code: int, with_data: bool, useless: tuple[Bundle, dict[str, str]], tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", **images(3))
    data = ["--data", tmp_path / "data.npz"] if with_data else []
    done = command("verify", useless[0].path, *data, *options, "--json")
    assert done.exit_code == code
    found = json.loads(done.stdout)
    assert (found["passed"], found["accurate"]) == (True, code == 0)
    (level,) = found["levels"]
    assert level["accuracy"]["samples"] == (3 if with_data else 1)
    assert (level["built"] is None) is with_data
    assert ("WARNING    'output' channels 4..8 of axis 1: " in done.stderr) is (code == 3)


def test_a_layer_that_differs_comes_before_what_is_inaccurate(
    useless: tuple[Bundle, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.bench.verify._selftest", lambda *_: "differs")
    assert command("verify", useless[0].path).exit_code == 1


def test_a_higher_limit_is_the_users_to_set(tmp_path: Path) -> None:
    bundle = build(SMALL, tmp_path, calibration=images(30))
    assert command("verify", bundle.path).exit_code == 0
    assert command("verify", bundle.path, "--min-sqnr", "80").exit_code == 3


def test_what_the_frontend_reads_wrongly_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference and the device share a mistake of edgec's reading; the original doesn't."""
    right = pipeline.load

    def wrong(*arguments: object) -> object:
        found = right(*arguments)
        for node in found.ir.graph:
            if node.op_type == "Relu":
                node.op_type = "Tanh"
        return found

    monkeypatch.setattr(pipeline, "load", wrong)
    bundle = build(SMALL, tmp_path, "host-fp32")
    monkeypatch.undo()
    assert bundle.manifest.accuracy.warnings
    found = verify(bundle, bundle.device())
    assert found.passed
    assert found.warnings


def test_the_bundle_keeps_the_model_as_it_was_given(tmp_path: Path) -> None:
    bundle = build(SMALL, tmp_path, "host-fp32")
    assert bundle.file("original.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
    external = tmp_path / "external.onnx"
    moved = copy.deepcopy(SMALL)  # saving changes it
    onnx.save(moved, external, save_as_external_data=True, location="weights.bin", size_threshold=0)
    kept = onnx.load_from_string(load(external).original)
    assert kept.graph == onnx.load(external).graph


def test_the_original_has_the_shapes_of_the_build(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> m (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "dynamic.onnx")
    original = load(tmp_path / "dynamic.onnx", {"x": (3, 4)}).original
    kept = onnx.load_from_string(original).graph
    assert [extent.dim_value for extent in kept.input[0].type.tensor_type.shape.dim] == [3, 4]
    ones = np.ones((3, 4), np.float32)
    assert measure(original, "given", [{"x": ones}], [{"y": ones}]).outputs[0].sqnr_db == 100


def test_a_quantized_model_is_compared_with_what_it_simulates(tmp_path: Path) -> None:
    quantized = build(SMALL, tmp_path, calibration=images(8)).file("model.onnx")
    (tmp_path / "again").mkdir()
    found = build(quantized, tmp_path / "again", calibration=images(20)).manifest.accuracy
    assert (found.on, found.samples, found.warnings) == ("held back", 2, ())
    assert all(figure.sqnr_db > 40 for figure in found.outputs)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("int8", [False, True])
def test_infinities_and_the_largest_floats_are_values_like_others(
    value: float, int8: bool, folder: Path
) -> None:
    bundle = Bundle.load(folder / f"{int8}.edgec")
    data = images(2)["image"]
    data[0, 0, 0, 0, 0] = value
    found = verify(bundle, bundle.device(), {"image": data})
    assert found.mismatch is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds one network with float inputs and outputs, and with int8 ones."""
    folder = tmp_path_factory.mktemp("ends")
    body = "(float[1,3,8,8] image) => (float y) { a = Conv<pads=[1,1,1,1]>(image, w1) y = Relu(a) }"
    onnx.save(onnx_models.model(body, {"w1": weights(16, 3, 3, 3)}), folder / "model.onnx")
    for int8 in (False, True):
        output = folder / f"{int8}.edgec"
        options = BuildOptions(target=HOST, output=output, int8_io=int8)
        pipeline.build(folder / "model.onnx", options)
    return folder
