"""Weights, biases and graphs in every form that QDQ models have them in."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgec.kernels.operations import Conv2d
from tests.compiler import onnx_models
from tests.compiler.building import build, verified
from tests.compiler.lowering_cases import weights
from tests.compiler.onnx_models import Arrays, Form

_NETWORK = (
    "(float[1,4,9,7] x) => (float y) { a = Conv(x, w) b = Relu(a) c = Conv<group=8>(b, v) y = Conv(c, u) }"
)
_WEIGHTS = {"w": weights(8, 4, 3, 3), "v": weights(8, 1, 3, 3), "u": weights(5, 8, 1, 1)}


def by_hand(form: Form) -> tuple[onnx.ModelProto, Arrays]:
    plain = onnx_models.model(_NETWORK, _WEIGHTS)
    inputs = onnx_models.samples(plain)
    return onnx_models.quantized(plain, inputs, form, inner=("b", "c")), inputs


def steps_from_onnx_runtime(model: onnx.ModelProto, inputs: Arrays, folder: Path) -> int:
    network = onnx_models.network(model, folder)
    assert not onnx_models.islands(network)
    ours = onnx_models.run_network(network, inputs)
    return onnx_models.difference(network, ours, onnx_models.run_onnx(model, inputs)).steps


def test_weights_that_leave_int8_without_their_zero_point_are_int16(tmp_path: Path) -> None:
    model, inputs = by_hand(Form(np.uint8, weights=np.uint8, weight_zero_point=20, weight_steps=230))
    network = onnx_models.network(model, tmp_path)
    convolutions = [o.operation for o in network.operators if isinstance(o.operation, Conv2d)]
    assert {convolution.weights.dtype.name for convolution in convolutions} == {"int16"}
    assert steps_from_onnx_runtime(model, inputs, tmp_path) == 0
    bundle = build(model, tmp_path)
    assert {step.kernel for step in bundle.steps} >= {"conv2d_wide_generic"}
    verified(bundle)


def test_weights_of_minus_128_are_exact(tmp_path: Path) -> None:
    model, inputs = by_hand(Form())
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_w"):
            array = numpy_helper.to_array(tensor).copy()
            array.flat[::7] = -128
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert steps_from_onnx_runtime(model, inputs, tmp_path) == 0
    verified(build(model, tmp_path))


def test_a_channel_without_weights_keeps_the_digits_of_its_float_bias(tmp_path: Path) -> None:
    """Tools give such a channel any scale, 1 for example; the bias in units of it would be 0."""
    bias = np.array([0.1, -0.2, 0.3], np.float32)
    plain = onnx_models.model(
        "(float[1,4] x) => (float y) { y = Gemm<transB=1>(x, w, b) }",
        {"w": np.concatenate([weights(2, 4), np.zeros((1, 4), np.float32)]), "b": bias},
    )
    inputs = onnx_models.samples(plain, scale=10)
    model = onnx_models.quantized(plain, inputs, Form(float_bias=True))
    scales = next(tensor for tensor in model.graph.initializer if tensor.name == "gemm_0_ws")
    scales.CopyFrom(
        numpy_helper.from_array(np.array([*numpy_helper.to_array(scales)[:2], 1], np.float32), "gemm_0_ws")
    )
    assert steps_from_onnx_runtime(model, inputs, tmp_path) == 0


@pytest.mark.parametrize(("size", "alike"), [(1.0, True), (1e-9, False)])
def test_a_channel_without_weights_has_the_tensors_scale_unless_its_bias_needs_its_own(
    size: float, alike: bool, tmp_path: Path
) -> None:
    """With one scale for all, kernels keep one multiplier; 24 bits are what a bias has of digits."""
    plain = onnx_models.model(
        "(float[1,4] x) => (float y) { y = Gemm<transB=1>(x, w, b) }",
        {
            "w": np.concatenate([np.float32(size) * weights(2, 4), np.zeros((1, 4), np.float32)]),
            "b": np.array([0, 0, 0.3], np.float32),
        },
    )
    inputs = onnx_models.samples(plain, scale=10)
    model = onnx_models.quantized(plain, inputs, Form(per_channel=False, float_bias=True))
    assert steps_from_onnx_runtime(model, inputs, tmp_path) == 0
    network = onnx_models.network(model, tmp_path)
    (product,) = (o.operation for o in network.operators if isinstance(o.operation, Conv2d))
    assert (np.unique(product.multiplier).size == 1) is alike


def test_a_bias_per_row_is_none_per_channel(tmp_path: Path) -> None:
    plain = onnx_models.model(
        "(float[4,4] x) => (float y) { y = Gemm<transB=1>(x, w, b) }",
        {"w": weights(4, 4), "b": weights(4, 1)},
    )
    inputs = onnx_models.samples(plain)
    model = onnx_models.quantized(plain, inputs, Form(float_bias=True))
    network = onnx_models.network(model, tmp_path)
    assert [reason for *_, reason in onnx_models.islands(network)] == [
        "its bias isn't a constant per output channel"
    ]
    theirs = onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, onnx_models.run_network(network, inputs), theirs).steps == 0


def test_sums_that_may_leave_int32_stay_in_float(tmp_path: Path) -> None:
    plain = onnx_models.model(
        "(float[1,70000] x) => (float y) { y = MatMul(x, w) }", {"w": np.ones((70000, 1), np.float32)}
    )
    model = onnx_models.quantized(plain, onnx_models.samples(plain))
    found = onnx_models.islands(onnx_models.network(model, tmp_path))
    assert [reason for *_, reason in found] == ["its sums may leave int32"]


@pytest.mark.parametrize("blocked", [False, True])
def test_weights_of_4_bits_compute_in_int8_if_scaled_per_channel(blocked: bool, tmp_path: Path) -> None:
    scales = (0.01 * (1 + np.arange(8))).astype(np.float32)
    form = "axis=0, block_size=4" if blocked else "axis=1"
    model = onnx_models.model(
        f"""(float[2,8] x) => (float y) {{
            a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) v = DequantizeLinear<{form}>(w, t)
            c = MatMul(b, v) d = QuantizeLinear(c, s, z) y = DequantizeLinear(d, s, z)
        }}""",
        {
            "s": np.float32(0.0213),
            "z": np.int8(3),
            "t": scales.reshape(2, 4) if blocked else scales[:4],
            "w": np.random.default_rng(0).integers(-8, 8, (8, 4)).astype(ml_dtypes.int4),
        },
        opset=21,
    )
    inputs = onnx_models.samples(model)
    network = onnx_models.network(model, tmp_path)
    assert bool(onnx_models.islands(network)) == blocked
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps == 0


# --- graphs -------------------------------------------------------------------------------------------------

_PARAMETERS = {
    "s": np.float32(0.0213),
    "t": np.float32(0.0171),
    "z": np.int8(3),
    "w": np.random.default_rng(1).integers(-127, 128, (6, 8)).astype(np.int8),
    "ws": np.linspace(0.005, 0.01, 6).astype(np.float32),
    "b": weights(6, 1).reshape(-1),
    "shape": np.array([1, 6, 5]),
    "kernel": np.random.default_rng(1).integers(-127, 128, (6, 5, 3)).astype(np.int8),
}
_INPUT = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) m = DequantizeLinear<axis=0>(w, ws)"
_OUTPUT = "e = QuantizeLinear(a, t, z) y = DequantizeLinear(e, t, z)"

GRAPHS = {
    "a linear layer of rows, its bias added": (
        f"{_INPUT} n = Transpose(m) p = MatMul(d, n) l = Add(b, p) a = Relu(l) {_OUTPUT}",
        "Conv2d",
    ),
    "a product by transposed weights": (f"{_INPUT} n = Transpose(m) a = MatMul(d, n) {_OUTPUT}", "Conv2d"),
    "a layer moved before it is quantized": (
        f"""{_INPUT} n = Transpose(m) p = MatMul(d, n)
        r = Reshape(p, shape) l = Relu(r) a = Transpose(l) {_OUTPUT}""",
        "Conv2d Rearrange",
    ),
    "an input moved before it is quantized": (
        f"""i = Transpose<perm=[0,2,1]>(x) q = QuantizeLinear(i, s, z) d = DequantizeLinear(q, s, z)
        j = Transpose<perm=[0,2,1]>(d) k = DequantizeLinear<axis=0>(kernel, ws) a = Conv(j, k, b)
        {_OUTPUT}""",
        "Rearrange Conv2d Rearrange",
    ),
    "one quantization for each reader": (
        f"""{_INPUT} n = Transpose(m) p = MatMul(d, n)
        q1 = QuantizeLinear(p, t, z) d1 = DequantizeLinear(q1, t, z)
        q2 = QuantizeLinear(p, t, z) d2 = DequantizeLinear(q2, t, z) a = Mul(d1, d2) {_OUTPUT}""",
        "Conv2d Lookup",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_as_other_tools_write_them_run_in_integers(name: str, tmp_path: Path) -> None:
    body, operations = GRAPHS[name]
    model = onnx_models.model(f"(float[1,5,8] x) => (float y) {{ {body} }}", _PARAMETERS)
    inputs = onnx_models.samples(model)
    network = onnx_models.network(model, tmp_path)
    assert not onnx_models.islands(network)
    assert onnx_models.operations(network) == operations.split()
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    found = onnx_models.difference(network, ours, theirs)
    assert found.steps <= 1
    assert found.share <= 0.05  # float biases are rounded to a step of the sums
