"""Nodes of islands are tried alone: what differs from the oracle or dies is refused, in words."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from tvm import tirx
from tvm_ffi import structural_map

from edgec import cache
from edgec.compiler.lower.islands import float_schedule, refusals, trial
from edgec.compiler.lower.islands.converters import CONVERTERS
from edgec.kernels.reference.isolation import Died
from tests.compiler import onnx_models


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(trial, "_verdicts", {})


def faults(text: str, constants: dict[str, Any] | None = None, opset: int = 18) -> list[tuple[str, str, str]]:
    return trial.faults(onnx_models.model(text, constants, opset))


def test_a_reading_that_is_not_onnx_s_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVERTERS, "Neg", lambda given: given.data)
    (found,) = faults("(float[2,3] x) => (float[2,3] y) { a = Abs(x) b = Neg(a) y = Exp(b) }")
    assert found[:2] == ("neg_1", "Neg")
    assert found[2].startswith(
        "edgec would compute something else than ONNX defines for inputs float[2, 3]: "
    )


def test_a_result_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVERTERS, "Transpose", lambda given: given.data)
    (found,) = faults("(float[2,3] x) => (float[3,2] y) { y = Transpose(x) }")
    assert found[2].endswith("output 0 is float32[2, 3], not float32[3, 2]")


def test_a_reading_that_takes_its_process_along_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVERTERS, "Neg", lambda given: __import__("os").abort())
    (found,) = faults("(float[2,3] x) => (float[2,3] y) { y = Neg(x) }")
    assert found == ("neg_0", "Neg", "edgec has no kernel for it with inputs float[2, 3]")


def test_a_death_is_no_verdict_for_later_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "(float[2,3] x) => (float[2,3] y) { y = Neg(x) }"
    with monkeypatch.context() as hung:
        hung.setattr(trial, "isolated", lambda calls, _seconds: [Died("timeout") for _ in calls])
        assert faults(text)
    monkeypatch.setattr(trial, "_verdicts", {})  # as in another process
    assert not faults(text)


def test_settings_that_are_inputs_are_named_as_onnx_and_the_model_name_them() -> None:
    text = """(float[1,3,4,4] x, float[8] roi, int64[4] size) => (float[1,3,5,5] y) {
        y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(x, roi, , size)
    }"""
    (found,) = faults(text)
    assert found[2] == (
        "its inputs 'roi' ('roi') and 'sizes' ('size') are no constants: edgec has to know them to "
        "compile; make them initializers"
    )


def test_operators_and_forms_without_a_kernel_are_told_apart() -> None:
    (found,) = faults(
        """(float[4,1,3] x) => (float[4,1,1,5] y) {
            y = LSTM<hidden_size=5, activations=["Affine", "Tanh", "Tanh"]>(x, w, r)
        }""",
        {"w": np.ones((1, 20, 3), np.float32), "r": np.ones((1, 20, 5), np.float32)},
    )
    assert found[2] == "edgec has no kernel for this operator"


def test_verdicts_are_kept_and_decided_by_shapes_not_by_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "(float[2,16] x) => (float[2,32] y) { y = MatMul(x, w) }"
    assert not faults(text, {"w": np.ones((16, 32), np.float32)})
    monkeypatch.setattr(trial, "isolated", lambda *_: pytest.fail("tried again"))
    assert not faults(text, {"w": np.zeros((16, 32), np.float32)})
    monkeypatch.setattr(trial, "_verdicts", {})  # as in another process
    assert not faults(text, {"w": np.zeros((16, 32), np.float32)})


CORNERS = {
    "infinities in one direction": "(float[6] x) => (bool[6] y) { y = IsInf<detect_negative=0>(x) }",
    "modes of blocks": """(float[1,2,4,6] x) => (float[1,8,2,3] y) opset 28
        { y = SpaceToDepth<blocksize=2, mode="CRD">(x) }""",
    "remainders of infinities": "(float[14] x, float[14] z) => (float[14] y) { y = Mod<fmod=1>(x, z) }",
    "integers divided": "(int32[14] x, int32[14] z) => (int32[14] y) { y = Div(x, z) }",
    "maxima of infinities": "(float[3,4] x) => (float[3] y) { y = ReduceMax<keepdims=0>(x, one) }",
    "one value's maximum": "(float[3,4] x) => (float[3,4] y) { y = Max(x) }",
    "the last of equal maxima": """(float[3,9] x) => (int64[3,1] y)
        { y = ArgMax<axis=1, select_last_index=1>(x) }""",
    "axes that shapes tell": "(float[2,3,4] x, int64[1] k) => (float[2,1,4] y) { y = ReduceSum(x, k) }",
    "axes that shapes leave open": """(float[2,2,4] x, int64[1] k) => (float[2,4] y)
        { y = ReduceMax<keepdims=0>(x, k) }""",
    "a shape that is declared": "(float[2,6] x, int64[2] s) => (float[4,3] y) { y = Reshape(x, s) }",
    "k that is declared": """(float[2,9] x, int64[1] k) => (float[2,4] y, int64[2,4] i)
        { y, i = TopK(x, k) }""",
    "fractional scales, nearest": """(float[1,2,5,5] x) => (float[1,2,12,12] y)
        { y = Resize<mode="nearest">(x, , fraction) }""",
    "fractional scales, linear": """(float[1,2,5,5] x) => (float[1,2,12,12] y)
        { y = Resize<mode="linear">(x, , fraction) }""",
    "half pixels, symmetric": """(float[1,2,5,5] x) => (float[1,2,12,12] y) opset 19 {
        y = Resize<mode="linear", coordinate_transformation_mode="half_pixel_symmetric">(x, , fraction) }""",
    "cubic without what is outside": """(float[1,2,5,5] x) => (float[1,2,12,12] y)
        { y = Resize<mode="cubic", exclude_outside=1>(x, , fraction) }""",
    "antialiased": """(float[1,2,8,8] x) => (float[1,2,5,5] y)
        { y = Resize<mode="linear", antialias=1>(x, , , small) }""",
    "a transposed convolution's shape": """(float[1,2,5,5] x) => (float[1,3,10,11] y)
        { y = ConvTranspose<strides=[2,2], output_shape=[10,11]>(x, w) }""",
    "a filling that is no constant": """(float[2,3] x, float v) => (float[2,5] y)
        { y = Pad(x, pads, v) }""",
    "pads that are no constants": """(float[2,3] x, int64[4] p) => (float[2,5] y)
        { y = Pad<mode="reflect">(x, p) }""",
    "slopes of few dimensions": """(float[1,2,3,2,2] x, float[2,1,1,1] s)
        => (float[1,2,3,2,2] y) { y = PRelu(x, s) }""",
    "rows of length one": "(float[3,4] x) => (float[3,4] y) { y = LpNormalization(x) }",
    "products of bytes": """(uint8[2,4] a, float p, uint8 q, uint8[4,3] b, float r, uint8 s, float t, uint8 u)
        => (uint8[2,3] y) { y = QLinearMatMul(a, p, q, b, r, s, t, u) }""",
    "scattered rows": """(float[6,4] x, int64[3,1] i, float[3,4] u) => (float[6,4] y)
        { y = ScatterND(x, i, u) }""",
    "gathered from behind": "(float[6,4] x, int64[3] i) => (float[3,4] y) { y = Gather(x, i) }",
    "indices of maxima": """(float[1,2,6,6] x) => (float[1,2,3,3] y, int64[1,2,3,3] i)
        { y, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }""",
    "mean and deviation of a normalization": """(float[2,3,8] x)
        => (float[2,3,8] y, float[2,3,1] m, float[2,3,1] d) { y, m, d = LayerNormalization(x, g) }""",
}
CONSTANTS = {
    "one": np.array([1]),
    "fraction": np.array([1, 1, 2.5, 2.5], np.float32),
    "pads": np.array([0, 1, 0, 1]),
    "small": np.array([1, 2, 5, 5]),
    "w": np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32),
    "g": np.arange(8, dtype=np.float32),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners_that_onnx_defines_are_computed_so(name: str) -> None:
    text, opset = CORNERS[name], 18
    if "opset" in text:
        before, after = text.split("opset ", 1)
        text, opset = before + after.split(None, 1)[1], int(after.split(None, 1)[0])
    used = {key: value for key, value in CONSTANTS.items() if f" {key})" in text or f" {key}," in text}
    assert faults(text, used, opset) == []
    assert onnx.defs.onnx_opset_version() >= opset


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(28, "No space left"), RuntimeError("std::bad_alloc")]
)
def test_a_want_of_memory_is_no_verdict_for_later_builds(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "(float[2,3] x) => (float[2,3] y) { y = Neg(x) }"
    with monkeypatch.context() as poor:
        poor.setattr(trial, "_compiled", Mock(side_effect=error))
        ((_, _, reason),) = faults(text)
    assert reason == refusals.untried(refusals.MEMORY)
    monkeypatch.setattr(trial, "_verdicts", {})  # as in another process
    assert not faults(text)


def test_what_is_tried_is_what_a_bundle_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    def negated(nest: Any) -> Any:
        return structural_map(nest, (tirx.Add, lambda node: tirx.Sub(node.a, node.b)), order="post")

    monkeypatch.setattr(float_schedule, "pass_nan_on", negated)
    (found,) = faults("(float[2,3] x, float[2,3] z) => (float[2,3] y) { y = Add(x, z) }")
    assert found[2].startswith("edgec would compute something else than ONNX defines")
    monkeypatch.undo()
