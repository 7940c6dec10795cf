"""Models that fuzzing found wrong, shrunk: each is right now, in numpy and as machine code."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.compiler import onnx_models
from tests.fuzz.draw import SAMPLES, Drawn
from tests.fuzz.runs import outcomes
from tests.fuzz.shrink import samples_for


@dataclass(frozen=True)
class Found:
    graph: str
    constants: dict[str, Any] = field(default_factory=dict)
    precision: str = "int8"
    opset: int = 17


FOUND = {
    "a shape that is an output": Found(
        "(float[1,7] x) => (int64[2] s, float[1,7] y) { y = Tanh(x) s = Shape(y) }"
    ),
    "a constant that is an output": Found(
        "(float[1,7] x) => (int64[2] s, float[1,7] y, int64 c) { y = Tanh(x) s = Shape(y) c = Size(x) }",
        precision="fp32",
    ),
    "nearest by a fraction": Found(
        "(float[1,1,1,2] x) => (float y)"
        ' { r = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)'
        " y = Neg(r) }",
        {"s": np.array([1, 1, 1.7764667, 2.1363192], np.float32)},
    ),
    "a scalar's softsign": Found(
        "(float x, float[2] z) => (float y, float w) { y = Softsign(x) w = Tanh(z) }"
    ),
    "functions without vectors": Found(
        "(float[1,6,7,16] x, float[1,2,3,16] z) => (float y, float w)"
        " { y = Sinh(x) r = ReduceSum<keepdims=0>(z, a) w = Cosh(r) }",
        {"a": np.array([2])},
        "fp32",
    ),
    "scalars added": Found("(float a, float b) => (float y) { y = Add(a, b) }"),
    "truth values moved": Found(
        "(bool[6,5,1,2] x) => (bool[5,6,2,1] y) { y = Transpose<perm=[1,0,3,2]>(x) }", precision="fp32"
    ),
    "an image and a scalar element by element": Found(
        "(float[3,1] x, float[4,3,4,2] z) => (float y, float w) { y = Sub(x, c) w = Sub(z, c) }",
        {"c": np.array([0.5], np.float32)},
        "fp32",
    ),
    "a window behind the image": Found(
        "(float[1,2,3,3] x) => (float y) { p = AveragePool<kernel_shape=[1,1], strides=[3,2], ceil_mode=1>(x)"
        " y = Relu(p) }"
    ),
    "a padding outside a known range": Found(
        "(float[1,1,3,4] x) => (float y, float z) { s = Sigmoid(x) y = Pad(s, p, low) z = Pad(s, p, high) }",
        {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "low": np.float32(-0.5), "high": np.float32(3)},
    ),
    "two paddings of one value": Found(
        "(float[1,1,3,4] x) => (float y, float z) { s = Tanh(x) y = Pad(s, p, low) z = Pad(s, p, high) }",
        {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "low": np.float32(-9), "high": np.float32(3)},
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_right(name: str) -> None:
    found = FOUND[name]
    model = onnx_models.model(found.graph, found.constants, found.opset)
    case = Drawn(0, found.precision, model, samples_for(model, SAMPLES))
    ended = list(outcomes([case], lambda _case: True))
    assert [(one.stage, one.verdict.kind) for one in ended] == [("reference", "ok"), ("code", "ok")], ended
