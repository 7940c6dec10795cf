"""Models that are int8 in part, and graphs whose ends are tied in knots: built, run and verified."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.compiler import onnx_models
from tests.compiler.building import build, verified
from tests.compiler.lowering_cases import weights

FLOAT = "its result isn't quantized right behind it, or is also read as it is"
UNQUANTIZED = "its input isn't quantized"
NO_KERNEL = "no integer kernel for this operator"


@dataclass(frozen=True)
class Case:
    text: str
    constants: dict[str, Any]
    inner: tuple[str, ...]
    """Values that are quantized, next to inputs and outputs."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Per operator computed in float."""


_FLOAT = 'Einsum <equation = "nij,nkj,nkl->nil">'
"""Three operands are no product of two: computed in float, whatever comes in integers one day."""

ISLANDS = {
    "a convolution that is also read in float": Case(
        """(float[1,4,9,7] x) => (float y, float z) {
            a = Conv(x, w) b = Relu(a) y = Conv(b, v) c = Abs(a) z = Neg(c)
        }""",
        {"w": weights(8, 4, 3, 3), "v": weights(8, 8, 1, 1)},
        ("b",),
        {"Conv": FLOAT, "Relu": UNQUANTIZED, "Abs": UNQUANTIZED, "Neg": UNQUANTIZED},
    ),
    "an island in the middle": Case(
        f"(float[1,6,8] x) => (float y) {{ a = MatMul(x, w) b = {_FLOAT} (a, a, a) y = MatMul(b, v) }}",
        {"w": weights(8, 8), "v": weights(8, 4)},
        ("a", "b"),
        {"Einsum": NO_KERNEL},
    ),
    "two islands with integers between and around them": Case(
        f"""(float[1,6,8] x) => (float y) {{
            a = MatMul(x, w) b = {_FLOAT} (a, a, a) c = MatMul(b, w) d = {_FLOAT} (c, b, c)
            e = Add(d, b) y = MatMul(e, v)
        }}""",
        {"w": weights(8, 8), "v": weights(8, 4)},
        ("a", "b", "c", "d", "e"),
        {"Einsum": NO_KERNEL},
    ),
    "an island at the end": Case(
        "(float[1,6,8] x) => (float y, float z) { y = MatMul(x, w) z = ReduceLogSumExp<axes=[2]>(y) }",
        {"w": weights(8, 8)},
        (),
        {"ReduceLogSumExp": NO_KERNEL},
    ),
    "an island at the beginning": Case(
        "(float[1,6,8] x) => (float y) { a = ReduceLogSumExp<axes=[1]>(x) y = MatMul(a, w) }",
        {"w": weights(8, 8)},
        ("a",),
        {"ReduceLogSumExp": NO_KERNEL},
    ),
    "a product of activations of 16 bits": Case(
        """(float[1,8] x) => (float y) {
            q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) a = MatMul(d, w) y = Relu(a)
        }""",
        {"w": weights(8, 8), "s": np.float32(1e-4), "z": np.uint16(30000)},
        (),
        {"Gemm": UNQUANTIZED, "Relu": UNQUANTIZED, "QuantizeLinear": "not 8 bits with one scale"},
    ),
}  # fmt: skip


def quantized(
    text: str, constants: dict[str, Any], inner: tuple[str, ...] = (), opset: int = 17
) -> onnx.ModelProto:
    plain = onnx_models.model(text, constants, opset)
    return onnx_models.quantized(plain, onnx_models.samples(plain), inner=inner)


@pytest.mark.parametrize("name", ISLANDS)
def test_islands_run_within_tolerance_and_integers_around_them_bit_for_bit(name: str, tmp_path: Path) -> None:
    case = ISLANDS[name]
    opset = 21 if "16 bits" in name else 17
    bundle = build(quantized(case.text, case.constants, case.inner, opset), tmp_path)
    islands = bundle.manifest.islands
    for operator, reason in case.reasons.items():
        assert reason in {island.reason for island in islands if island.operator == operator}
    assert {island.operator for island in islands} >= set(case.reasons)
    inputs = onnx_models.samples(onnx.load(bundle.file("model.onnx")), seed=1)
    found = verified(bundle, data={key: np.stack([array, -array]) for key, array in inputs.items()})
    assert found.islands
    assert found.exact_layers == sum(step.checked for step in bundle.steps)
    assert all(error.max_relative_error < 1e-5 for error in found.islands)


# --- ends in knots ----------------------------------------------------------------------------------------

_ENDS = {
    "an output that later layers read": (
        "(float[1,4,9,7] x) => (float y, float z) { y = Conv(x, w) z = Conv(y, v) }",
        {"w": weights(8, 4, 3, 3), "v": weights(8, 8, 1, 1)},
    ),
    "two outputs of one tensor": ("(float[1,4] x) => (float y, float z) { y = Relu(x) z = Identity(y) }", {}),
    "an output that is another's view": (
        "(float[1,4] x) => (float y, float z) { y = Relu(x) z = Reshape(y, s) }", {"s": np.array([2, 2])}
    ),
    "an input that nothing reads": ("(float[1,4] x, float[3] n) => (float y) { y = Relu(x) }", {}),
    "an input of which only a part is read": (
        "(float[1,4] x) => (float y) { y = Slice(x, s, e) }", {"s": np.array([0, 1]), "e": np.array([1, 3])}
    ),
    "a constant output": (
        "(float[1,4] x) => (float y, float c) { y = Relu(x) c = Identity(k) }", {"k": weights(2, 3)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _ENDS)
def test_ends_in_knots_are_untied(name: str, tmp_path: Path) -> None:
    text, constants = _ENDS[name]
    model = quantized(text, constants)
    bundle = build(model, tmp_path)
    assert [tensor.name for tensor in bundle.inputs] == [value.name for value in model.graph.input]
    assert [tensor.name for tensor in bundle.outputs] == [value.name for value in model.graph.output]
    assert not bundle.manifest.islands
    verified(bundle)


def test_an_input_that_is_an_output_is_copied_under_its_own_name(tmp_path: Path) -> None:
    text = "(float[1,4] x, float[1,4] u) => (float y, float[1,4] u) { y = Relu(x) }"
    bundle = build(quantized(text, {}), tmp_path)
    assert [tensor.name for tensor in bundle.outputs] == ["y", "u"]
    verified(bundle)


def eight_bits(dtype: str) -> onnx.ModelProto:
    kind = np.dtype(dtype)
    zero = {"int8": 3, "uint8": 100}[dtype]
    rng = np.random.default_rng(0)
    return onnx_models.model(
        f"""({dtype}[1,4,9,7] x) => ({dtype} y) {{
            a = DequantizeLinear(x, s, z) b = DequantizeLinear<axis=0>(w, ws, wz) c = Conv(a, b) d = Relu(c)
            y = QuantizeLinear(d, t, z)
        }}""",
        {
            "s": np.float32(0.0213), "t": np.float32(0.0317), "z": np.array(zero, kind),
            "w": rng.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8),
            "ws": np.full(8, 0.01, np.float32), "wz": np.zeros(8, np.int8),
        },
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_inputs_and_outputs_of_8_bits_stay_what_they_are(dtype: str, tmp_path: Path) -> None:
    model = eight_bits(dtype)
    bundle = build(model, tmp_path)
    assert [tensor.dtype for tensor in (*bundle.inputs, *bundle.outputs)] == [dtype, dtype]
    verified(bundle)
    inputs = onnx_models.samples(model)
    network = onnx_models.network(model, tmp_path)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert (ours[0] == theirs[0]).all()
    assert ours[0].dtype == dtype


@pytest.mark.parametrize("given", ["quantized", "float"])
def test_a_picture_of_bytes_is_normalized_by_a_table(given: str, tmp_path: Path) -> None:
    plain = onnx_models.model(
        "(uint8[1,4,9,7] x) => (float y) { a = Cast<to=1>(x) b = Mul(a, c) d = Sub(b, m) y = Conv(d, w) }",
        {"c": np.float32(1 / 255), "m": np.float32(0.5), "w": weights(8, 4, 3, 3)},
    )
    model = (
        onnx_models.quantized(plain, onnx_models.samples(plain), inner=("d",))
        if given == "quantized"
        else plain
    )
    bundle = build(model, tmp_path)
    assert bundle.inputs[0].dtype == "uint8"
    assert not bundle.manifest.islands
    verified(bundle)


def test_bytes_that_are_moved_but_never_dequantized_reach_the_output(tmp_path: Path) -> None:
    model = onnx_models.model("(uint8[2,3] x) => (uint8 y) { t = Transpose(x) y = Identity(t) }")
    bundle = build(model, tmp_path)
    verified(bundle)
    network = onnx_models.network(model, tmp_path)
    x = np.arange(250, 256, dtype=np.uint8).reshape(2, 3)
    assert (onnx_models.run_network(network, {"x": x})[0] == x.T).all()


def test_bytes_are_read_by_float_operators_in_the_models_own_order(tmp_path: Path) -> None:
    """A convolution's result lies as NHWC, its uint8 codes as int8: a float operator gets neither."""
    model = eight_bits("uint8")
    model.graph.node.append(onnx.helper.make_node("Cast", ["y"], ["i"], "cast", to=onnx.TensorProto.INT32))
    model.graph.node.append(onnx.helper.make_node("CumSum", ["i", "axis"], ["n"], "sum"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.int32), "axis"))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("n", onnx.TensorProto.INT32, [1, 8, 7, 5]))
    inputs = onnx_models.samples(model)
    network = onnx_models.network(model, tmp_path)
    assert (onnx_models.run_network(network, inputs)[0] == onnx_models.run_onnx(model, inputs)[0]).all()
