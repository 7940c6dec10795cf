"""Written-out normalizations become one operator that computes the same; what is only like them stays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.model import serialize
from edgec.kernels import reference
from tests.compiler.lowering_cases import floats, integers, weights
from tests.compiler.onnx_models import loaded, model, run_onnx, samples

SEQUENCE, IMAGE = "float[2,5,8] x", "float[2,6,4,5] x"
MEAN, MEAN_1 = "ReduceMean<axes=[-1]>", "ReduceMean<axes=[1]>"
CENTRED = f"m = {MEAN}(x) d = Sub(x, m)"
VARIANCE = f"q = Pow(d, two) v = {MEAN}(q) e = Add(v, eps)"
AFFINE = "t = Mul(n, s) y = Add(t, b)"
CONSTANTS = {
    "two": np.float32(2), "half": np.float32(0.5), "minus_half": np.float32(-0.5), "one": np.float32(1),
    "eps": np.float32(1e-5), "tiny": np.float32(1e-12),
    "s": 1 + weights(8, 1)[:, 0], "b": weights(8, 2)[:, 0],
    "image_s": 1 + weights(6, 1, 1), "image_b": weights(6, 1, 1), "axis": integers(-1),
    "wide": integers(2, 5, 8), "large": np.float32(0.5), "rows_s": weights(5, 1), "two_axes": weights(5, 8),
    "groups": integers(2, 3, -1), "whole": integers(2, 6, 4, 5), "ones": floats(1, 1, 1),
    "zeros": floats(0, 0, 0), "group_s": floats(1, 2, 3), "others": integers(6, 2, -1),
    "two_ones": floats(1, 1), "two_zeros": floats(0, 0),
}  # fmt: skip

LAYER, RMS, L2, GROUP = "LayerNormalization", "RMSNormalization", "LpNormalization", "GroupNormalization"
BETWEEN = "Transpose LayerNormalization Transpose"

RECOGNIZED = {
    "layer": (SEQUENCE, f"{CENTRED} {VARIANCE} r = Sqrt(e) n = Div(d, r) {AFFINE}", LAYER),
    "layer, without scale and bias": (SEQUENCE, f"{CENTRED} {VARIANCE} r = Sqrt(e) y = Div(d, r)", LAYER),
    "layer, operands the other way": (
        SEQUENCE, f"{CENTRED} q = Mul(d, d) v = {MEAN}(q) e = Add(eps, v) r = Sqrt(e) i = Reciprocal(r)"
        " n = Mul(i, d) t = Mul(s, n) y = Add(b, t)", LAYER,
    ),
    "layer, differences twice": (
        SEQUENCE, f"{CENTRED} c = Sub(x, m) q = Mul(d, c) v = {MEAN}(q) e = Add(v, eps) r = Sqrt(e)"
        f" n = Div(c, r) {AFFINE}", LAYER,
    ),
    "layer, powers": (SEQUENCE, f"{CENTRED} {VARIANCE} r = Pow(e, half) n = Div(d, r) {AFFINE}", LAYER),
    "layer, a negative power": (
        SEQUENCE, f"{CENTRED} {VARIANCE} r = Pow(e, minus_half) n = Mul(d, r) {AFFINE}", LAYER
    ),
    "layer, one divided": (
        SEQUENCE, f"{CENTRED} {VARIANCE} r = Sqrt(e) i = Div(one, r) n = Mul(d, i) {AFFINE}", LAYER
    ),
    "layer, two after each other": (
        SEQUENCE,
        f"{CENTRED} {VARIANCE} r = Sqrt(e) n = Div(d, r) t = Mul(n, s) z = Add(t, b) "
        f"m2 = {MEAN}(z) d2 = Sub(z, m2) q2 = Mul(d2, d2) v2 = {MEAN}(q2) e2 = Add(v2, eps) r2 = Sqrt(e2) "
        "y = Div(d2, r2)", f"{LAYER} {LAYER}",
    ),
    "layer of two axes": (
        SEQUENCE, "m = ReduceMean<axes=[1,2]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[-1,-2]>(q)"
        " e = Add(v, eps) r = Sqrt(e) n = Div(d, r) t = Mul(n, two_axes) y = Add(t, rows_s)", LAYER,
    ),
    "channels of an image": (
        IMAGE, f"m = {MEAN_1}(x) d = Sub(x, m) q = Pow(d, two) v = {MEAN_1}(q) e = Add(v, eps) r = Sqrt(e)"
        " n = Div(d, r) t = Mul(n, image_s) y = Add(t, image_b)", BETWEEN,
    ),
    "a bias of rows": (
        SEQUENCE, f"{CENTRED} {VARIANCE} r = Sqrt(e) n = Div(d, r) t = Mul(n, s) y = Add(t, rows_s)",
        f"{LAYER} Add",
    ),
    "a result that others read, too": (
        SEQUENCE, f"{CENTRED} {VARIANCE} r = Sqrt(e) n = Div(d, r) t = Mul(n, s) y = Add(t, n)",
        f"{LAYER} Mul Add",
    ),
    "RMS": (
        SEQUENCE, f"q = Mul(x, x) v = {MEAN}(q) e = Add(v, eps) r = Sqrt(e) n = Div(x, r) y = Mul(s, n)", RMS,
    ),
    "RMS, a reciprocal root": (
        SEQUENCE, f"q = Pow(x, two) v = {MEAN}(q) e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r)"
        f" n = Mul(x, i) {AFFINE}", f"{RMS} Add",
    ),
    "L2": (SEQUENCE, "r = ReduceL2<axes=[-1]>(x) y = Div(x, r)", L2),
    "L2, at least": (
        SEQUENCE, "r = ReduceL2<axes=[1]>(x) c = Clip(r, tiny) z = Expand(c, wide) y = Div(x, z)", L2
    ),
    "L2, of squares": (
        SEQUENCE, "q = Mul(x, x) v = ReduceSum(q, axis) r = Sqrt(v) c = Max(r, tiny) y = Div(x, c)", L2
    ),
    "L2, sum of squares": (SEQUENCE, "v = ReduceSumSquare<axes=[1]>(x) r = Sqrt(v) y = Div(x, r)", L2),
    "groups": (
        IMAGE, "a = Reshape(x, groups) i = InstanceNormalization(a, ones, zeros) r = Reshape(i, whole)"
        " t = Mul(r, image_s) y = Add(t, image_b)", GROUP,
    ),
    "groups with scales": (
        IMAGE, "a = Reshape(x, groups) i = InstanceNormalization(a, group_s, group_s) r = Reshape(i, whole)"
        " t = Mul(r, image_s) y = Relu(t)", f"{GROUP} Relu",
    ),
}  # fmt: skip

LEFT = {
    "the mean of another axis": (
        SEQUENCE, f"m = ReduceMean<axes=[1]>(x) d = Sub(x, m) {VARIANCE} r = Sqrt(e) y = Div(d, r)",
        f"ReduceMean Sub {RMS}",
    ),
    "the squares' mean of other axes": (
        SEQUENCE, "m = ReduceMean<axes=[1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[0]>(q)"
        " e = Add(v, eps) r = Sqrt(e) y = Div(d, r)", f"ReduceMean Sub Transpose {RMS} Transpose",
    ),
    "an epsilon from outside": (
        f"{SEQUENCE}, float[1] other", f"{CENTRED} q = Mul(d, d) v = {MEAN}(q) e = Add(v, other) r = Sqrt(e)"
        " y = Div(d, r)", "ReduceMean Sub Mul ReduceMean Add Sqrt Div",
    ),
    "a deviation that others read, too": (
        SEQUENCE, f"{CENTRED} {VARIANCE} r = Sqrt(e) n = Div(d, r) t = Mul(n, r) y = Add(t, n)",
        "ReduceMean Sub Pow ReduceMean Add Sqrt Div Mul Add",
    ),
    "squares of something else": (
        SEQUENCE, f"a = Relu(x) q = Mul(a, a) v = {MEAN}(q) e = Add(v, eps) r = Sqrt(e) y = Div(x, r)",
        "Relu Mul ReduceMean Add Sqrt Div",
    ),
    "a product that is no square": (
        SEQUENCE, f"a = Relu(x) q = Mul(a, x) v = {MEAN}(q) e = Add(v, eps) r = Sqrt(e) y = Div(x, r)",
        "Relu Mul ReduceMean Add Sqrt Div",
    ),
    "a root of a third": (
        SEQUENCE, f"q = Mul(x, x) v = {MEAN}(q) e = Add(v, eps) r = Pow(e, eps) y = Div(x, r)",
        "Mul ReduceMean Add Pow Div",
    ),
    "a least norm that counts": (
        SEQUENCE, "r = ReduceL2<axes=[-1]>(x) c = Clip(r, large) y = Div(x, c)", "ReduceL2 Clip Div"
    ),
    "a norm of two axes": (SEQUENCE, "r = ReduceL2<axes=[1,2]>(x) y = Div(x, r)", "ReduceL2 Div"),
    "a norm of another": (
        SEQUENCE, "a = Relu(x) r = ReduceL2<axes=[1]>(a) y = Div(x, r)", "Relu ReduceL2 Div"
    ),
    "groups that aren't brought back": (
        IMAGE, "a = Reshape(x, groups) i = InstanceNormalization(a, ones, zeros) y = Relu(i)",
        "Reshape InstanceNormalization Relu",
    ),
    "groups of other images": (
        IMAGE, "a = Reshape(x, others) i = InstanceNormalization(a, two_ones, two_zeros) "
        "y = Reshape(i, whole)", "Reshape InstanceNormalization Reshape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECOGNIZED | LEFT)
def test_a_model_computes_the_same_with_the_operators_that_it_wrote_out(name: str, tmp_path: Path) -> None:
    inputs, body, operators = (RECOGNIZED | LEFT)[name]
    constants: dict[str, Any] = {key: value for key, value in CONSTANTS.items() if key in _words(body)}
    plain = model(f"({inputs}) => (float y) {{ {body} }}", constants, opset=14)
    found = loaded(plain, tmp_path)
    assert [node.op_type for node in found.ir.graph] == operators.split()
    for seed in range(3):
        given = samples(plain, seed) | ({"other": floats(1e-3)} if "other" in inputs else {})
        (expected,) = run_onnx(plain, given)
        (ours,) = reference.run_onnx(serialize(found), [given[v.name] for v in found.ir.graph.inputs])
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_zeros_stay_zeros(tmp_path: Path) -> None:
    inputs, body, _ = RECOGNIZED["L2, at least"]
    constants = {key: value for key, value in CONSTANTS.items() if key in _words(body)}
    plain = model(f"({inputs}) => (float y) {{ {body} }}", constants, opset=14)
    (ours,) = reference.run_onnx(serialize(loaded(plain, tmp_path)), [np.zeros((2, 5, 8), np.float32)])
    assert not ours.any()


def _words(body: str) -> set[str]:
    return set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
