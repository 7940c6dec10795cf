"""Linear resizing, in float and in integers, against ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler.lower.graph.floating import floating
from tests.compiler import onnx_models
from tests.compiler.building import HOST, build, verified
from tests.compiler.lowering_cases import weights

MODES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
SIZES = {"twice": (10, 12), "less": (3, 4), "one row": (1, 6), "unevenly": (7, 17)}


def _by_size(mode: str, size: tuple[int, int]) -> onnx.ModelProto:
    text = f"""(float[2,3,5,6] x) => (float y) {{
        y = Resize<mode="linear", coordinate_transformation_mode="{mode}">(x, , , size)
    }}"""
    return onnx_models.model(text, {"size": np.array([2, 3, *size], np.int64)}, 19)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_floats_are_onnx_runtime_s(mode: str, size: str, tmp_path: Path) -> None:
    model = _by_size(mode, SIZES[size])
    network = floating(onnx_models.loaded(model, tmp_path))
    assert "Interpolate" in onnx_models.operations(network)
    onnx_models.assert_floats_are_onnx_runtime_s(network, model)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_integers_are_within_a_step_of_the_input(mode: str, size: str, tmp_path: Path) -> None:
    """Of the input, whose scale is kept; the result here has about the same."""
    plain = _by_size(mode, SIZES[size])
    model = onnx_models.quantized(plain, onnx_models.samples(plain))
    network = onnx_models.network(model, tmp_path)
    assert "Interpolate" in onnx_models.operations(network)
    assert not network.floats
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps <= 1


@pytest.mark.parametrize(
    ("scales", "attributes"),
    [([1, 1, 2.3, 1.7], ""), ([1.7, 2.3], "axes=[3,2],"), ([1, 1, 0.6, 0.55], "")],
)
def test_given_factors_are_taken(scales: list[float], attributes: str, tmp_path: Path) -> None:
    text = f"""(float[1,3,5,6] x) => (float y) {{
        y = Resize<mode="linear", {attributes} coordinate_transformation_mode="half_pixel">(x, , scales)
    }}"""
    model = onnx_models.model(text, {"scales": np.array(scales, np.float32)}, 19)
    network = floating(onnx_models.loaded(model, tmp_path))
    assert onnx_models.operations(network).count("Interpolate") == 1
    onnx_models.assert_floats_are_onnx_runtime_s(network, model)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_factors_that_are_an_input_are_no_constants(mode: str, tmp_path: Path) -> None:
    """Four rows may be two by a factor of 2.3, too."""
    text = f"""(float[1,1,2,2] x, float[4] scales) => (float[1,1,4,4] y) {{
        y = Resize<mode="{mode}", coordinate_transformation_mode="half_pixel">(x, , scales)
    }}"""
    network = floating(onnx_models.loaded(onnx_models.model(text, {}, 19), tmp_path))
    assert onnx_models.operations(network) == ["Island"]


@pytest.mark.parametrize("target", [HOST, "rpi4-int8", "cortex-m4-int8", "cortex-m0plus-int8"])
def test_edgec_quantizes_it(target: str, tmp_path: Path) -> None:
    text = """(float[2,3,5,6] x) => (float y) {
        t = Conv(x, w) y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(t, , , size)
    }"""
    constants = {"w": weights(4, 3, 1, 1), "size": np.array([2, 4, 10, 12], np.int64)}
    bundle = build(onnx_models.model(text, constants, 19), tmp_path, target)
    assert not bundle.manifest.islands
    assert "interpolate" in {step.kernel for step in bundle.steps}
    accuracy = verified(bundle).accuracy
    assert all(figure.sqnr_db is not None and figure.sqnr_db > 30 for figure in accuracy.outputs)
