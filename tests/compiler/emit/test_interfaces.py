"""Inputs and outputs of unusual kinds: handed on, constant, scalar, unread, empty, half."""

from typing import Any

import numpy as np
import onnx

from edgec.kernels.reference import oracle
from tests.backend.cases import Case
from tests.backend.verdicts import PASS, verdicts
from tests.compiler.onnx_models import model

X = "float[1,4,6,6] x"
ONES = np.ones((2, 3), np.float32)
FLAGS = np.array([True, False, True])

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": (f"({X}) => (float y) {{ y = Identity(x) }}", {}),
    "one value, two names": (f"({X}) => (float y, float z) {{ y = Relu(x) z = Identity(y) }}", {}),
    "an input, two names": (f"({X}) => (float y, float z) {{ y = Identity(x) z = Identity(x) }}", {}),
    "a constant": (f"({X}) => (float y, float c) {{ y = Relu(x) c = Identity(w) }}", {"w": ONES}),
    "an initializer": (f"({X}) => (float y, float[2,3] w) {{ y = Relu(x) }}", {"w": ONES}),
    "a node's constant": (
        f"({X}) => (float y, float c) {{ y = Relu(x) c = Constant<value_floats=[1.0,2.0]>() }}", {}
    ),
    "a shape": (f"({X}) => (int64 s) {{ s = Shape(x) }}", {}),
    "no inputs": ("() => (float y) { y = Relu(w) }", {"w": -ONES}),
    "no inputs, no nodes": ("() => (float y) { y = Constant<value_floats=[1.0,2.0]>() }", {}),
    "booleans": ("(bool b) => (bool y, bool c) { y = Not(b) c = Identity(w) }", {"w": FLAGS}),
    "a boolean handed on": ("(bool b) => (bool y) { y = Identity(b) }", {}),
    "an integer handed on": (
        "(int64 i, float[3] x) => (float y, int64 j) { c = Cast<to=1>(i) y = Mul(x, c) j = Identity(i) }", {}
    ),
    "booleans moved": (
        "(bool[2,3] b) => (bool[3,2] y) { y = Transpose<perm=[1,0]>(b) }", {}
    ),
    "an unread flag": (f"({X}, bool t) => (float y) {{ y = Relu(x) }}", {}),
    "an empty input": (f"({X}, double[0] e) => (double[1,4,6,6] y) {{ y = CastLike(x, e) }}", {}),
    "an empty part": (
        f"({X}) => (float y) {{ y = Concat<axis=1>(x, e) }}", {"e": np.zeros((1, 0, 6, 6), np.float32)}
    ),
    "half precision": ("(float16[1,4,6,6] x) => (float16 y) { y = Sigmoid(x) }", {}),
    "double precision": ("(double[1,4,6,6] x) => (double y) { y = Sigmoid(x) }", {}),
    "8-bit integers": ("(uint8[2,3] x) => (uint8 y) { y = Add(x, w) }", {"w": ONES.astype(np.uint8) * 250}),
}  # fmt: skip


def case(name: str, proto: onnx.ModelProto) -> Case:
    generator = np.random.default_rng(0)
    inputs = []
    for value in proto.graph.input:
        kind = value.type.tensor_type
        drawn = generator.standard_normal([extent.dim_value for extent in kind.shape.dim]) * 3
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        inputs.append(np.asarray(drawn > 0 if dtype.kind == "b" else np.abs(drawn)).astype(dtype))
    names = [value.name for value in proto.graph.input]
    feed = dict(zip(names, inputs, strict=True))
    expected = oracle.evaluate(proto.SerializeToString(), feed)
    return Case(name, proto, ((tuple(inputs), tuple(expected[v.name] for v in proto.graph.output)),))


def test_models() -> None:
    made = [case(name, model(*described)) for name, described in MODELS.items()]
    assert [verdict for verdict in verdicts(made) if verdict.kind != PASS] == []


def test_an_output_that_is_an_input() -> None:
    """ONNX Runtime answers it with nonsense, so that the right values are written down here."""
    proto = model(f"({X}, float[2] s) => (float y) {{ y = Relu(x) }}")
    proto.graph.output.append(proto.graph.input[1])
    x, s = np.full((1, 4, 6, 6), -1, np.float32), np.array([1, 2], np.float32)
    made = Case("s", proto, (((x, s), (np.zeros_like(x), s)),))
    assert [verdict.kind for verdict in verdicts([made])] == [PASS]
