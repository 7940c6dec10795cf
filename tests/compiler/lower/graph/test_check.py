"""What can't be compiled is one error, one line, that names every such node."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler.lower.graph.check import check
from edgec.errors import UnsupportedError
from edgec.targets import loader
from tests.compiler import onnx_models
from tests.compiler.building import build
from tests.compiler.lowering_cases import weights


def message(model: onnx.ModelProto, folder: Path, target: str = "arm64-int8") -> str:
    with pytest.raises(UnsupportedError) as refused:
        check(onnx_models.loaded(model, folder), loader.load(target))
    return str(refused.value)


LSTM = {"w": weights(1, 16, 3), "r": weights(1, 16, 4), "p": weights(1, 12)}
MANY = """(float[5,1,3] x, float[1,2,3,3,3] v) => (float s, int64 t, float h, float c) {
    l = LSTM<hidden_size=4>(x, w, r, , , , , p)
    a = Relu(l)
    n = NonZero(a)
    t = Transpose(n)
    b = com.acme.Warp(a)
    s = Sigmoid(b)
    u, h = GRU<hidden_size=4>(b, w, b)
    d = Conv(v, k)
    c = Abs(d)
}"""
SHAPES = ("?", "?"), ("?", 4), (1, 1, 4), (1, 2, 2, 2, 2)
"""Of the outputs, as far as an exporter may say them."""


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_every_node_is_named_with_its_operator_and_the_reason(precision: str, tmp_path: Path) -> None:
    model = onnx_models.model(MANY, LSTM | {"k": weights(2, 2, 2, 2, 2)}, opset=20)
    for output, shape in zip(model.graph.output, SHAPES, strict=True):
        tensor = output.type.tensor_type
        tensor.CopyFrom(onnx.helper.make_tensor_value_info("", tensor.elem_type, shape).type.tensor_type)
    assert message(model, tmp_path, f"arm64-{precision}").split("; ") == [
        "node 'lstm_0' (LSTM) can't be compiled: an LSTM with peepholes has no kernel",
        "node 'nonzero_2' (NonZero) can't be compiled: the shape of its result depends on values that are "
        "known only when it runs",
        "node 'warp_4' (Warp) can't be compiled: the operator set 'com.acme' is unknown",
        "node 'gru_6' (GRU) can't be compiled: its weights aren't constant",
    ]


def test_a_build_names_the_model_and_leaves_nothing(tmp_path: Path) -> None:
    model = onnx_models.model(
        """(float[1,4,9,9] x, float[3,3] z) => (float y, float d) {
            a = Conv(x, w) b = Det(z) y = Relu(a) d = Abs(b)
        }""",
        {"w": weights(4, 4, 1, 1)},
    )
    with pytest.raises(UnsupportedError, match=r"^model\.onnx: node 'det_1' \(Det\) can't be compiled: .+$"):
        build(model, tmp_path)
    assert not list(tmp_path.glob("*.edgec"))


DYNAMIC = "its scales and zero points are known only when it runs: quantize the model statically"
SEVERAL = "8-bit integers of several scales can only be dequantized, by as many"
SCALAR = {"s": np.float32(0.1), "z": np.int8(0)}

REFUSED = {
    "control flow": (
        """(float[1,8] x, bool[1] c) => (float y) {
            y = If(c) <
                then_branch = one () => (float[1,8] t) { t = Relu(x) },
                else_branch = two () => (float[1,8] t) { t = Neg(x) }
            >
        }""",
        {},
        {"if_0 If": "control flow isn't supported"},
    ),
    "text": (
        "(float[1,8] x) => (string y) { y = Identity(k) }",
        {"k": np.array(["a"], object)},
        {"identity_0 Identity": "its result is of type string, which edgec doesn't compute with"},
    ),
    "no elements": (
        "(float[1,8] x) => (float y) { y = Slice(x, s, s) }",
        {"s": np.array([0])},
        {"slice_0 Slice": "its result has no elements"},
    ),
    "integer arithmetic": (
        """(float[1,8] x) => (float y) {
            q = QuantizeLinear(x, s, z) r = Abs(q) y = DequantizeLinear(r, s, z)
        }""",
        SCALAR,
        {"abs_1 Abs": "only QuantizeLinear may compute 8-bit integers"},
    ),
    "another form of quantization": (
        """(float[1,8] x) => (float y) {
            q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z) f = Cast<to=1>(i) y = Mul(f, s)
        }""",
        {"w": np.ones((8, 4), np.int8)},
        {
            "dynamicquantizelinear_0 DynamicQuantizeLinear": DYNAMIC,
            "matmulinteger_1 MatMulInteger": DYNAMIC,
        },
    ),
    "several scales read as one": (
        "(float[2,3] x) => (float y) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, t, u) }",
        {
            "s": np.ones(3, np.float32),
            "z": np.zeros(3, np.int8),
            "t": np.float32(1),
            "u": np.int8(0),
        },
        {"quantizelinear_0 QuantizeLinear": SEVERAL},
    ),
    "an output of several scales": (
        "(float[2,3] x) => (int8 y) { y = QuantizeLinear(x, s, z) }",
        {"s": np.ones(3, np.float32), "z": np.zeros(3, np.int8)},
        {"quantizelinear_0 QuantizeLinear": SEVERAL},
    ),
    "a scale of 0": (
        "(float[1,8] x) => (int8 y) { y = QuantizeLinear(x, s, z) }",
        {"s": np.float32(0), "z": np.int8(0)},
        {"quantizelinear_0 QuantizeLinear": "its scale isn't positive"},
    ),
    "too many scales": (
        "(float[8] x) => (float y) { w = DequantizeLinear(q, s) y = Add(x, w) }",
        {"s": np.ones(4, np.float32), "q": np.ones((4, 8), np.int8)},
        {"dequantizelinear_0 DequantizeLinear": "it has 4 scales for axis 1 of [4, 8]"},
    ),
}
"""Text, constants, and the reason per node and operator."""


@pytest.mark.parametrize("name", REFUSED)
def test_reasons(name: str, tmp_path: Path) -> None:
    text, constants, refused = REFUSED[name]
    named = [(*nodes.split(), reason) for nodes, reason in refused.items()]
    expected = "; ".join(
        f"node '{node}' ({kind}) can't be compiled: {reason}" for node, kind, reason in named
    )
    assert message(onnx_models.model(text, constants), tmp_path) == expected


def test_a_model_that_only_relax_can_judge_passes(tmp_path: Path) -> None:
    model = onnx_models.model(
        "(float[1,8] x) => (float y) { y = LayerNormalization(x, g) }", {"g": weights(8)}
    )
    check(onnx_models.loaded(model, tmp_path), loader.load("arm64-int8"))


@pytest.mark.parametrize(
    ("text", "constants", "expected"),
    [
        (
            "(float[1,8] x) => (float y, float[0] e) { y = Relu(x) }",
            {"e": np.zeros(0, np.float32)},
            "output 'e' has no elements",
        ),
        (
            "(bfloat16[1,8] x) => (bfloat16[1,8] y) { y = Relu(x) }",
            {},
            "input 'x' is of type bfloat16, which edgec doesn't compute with",
        ),
        (
            "(seq(float[2]) s) => (float[2] y) { y = SequenceAt(s, i) }",
            {"i": np.array(0)},
            "input 's' is no tensor, and edgec compiles models of tensors",
        ),
        (
            "(float[65536,65536] x) => (float y) { y = ReduceMax(x) }",
            {},
            "input 'x' takes 16.0 GiB, and 2 are the most",
        ),
    ],
)
def test_inputs_and_outputs_are_tensors_that_fit(
    text: str, constants: dict[str, np.ndarray], expected: str, tmp_path: Path
) -> None:
    assert message(onnx_models.model(text, constants), tmp_path).split("; ")[0] == expected
