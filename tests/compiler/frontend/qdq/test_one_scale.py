"""Activations with one scale per channel, as NNCF quantizes what depthwise convolutions read."""

from pathlib import Path

import numpy as np
import pytest

from tests.compiler import onnx_models

random = np.random.default_rng(4)
SCALES = np.array([0.0235, 0.011, 0.0235, 0.004, 0.019, 0.0213], np.float32)

CONSTANTS = {
    "s": np.float32(0.0213),
    "t": np.float32(0.0171),
    "z": np.int8(3),
    "w": random.integers(-127, 128, (6, 6, 1, 1)).astype(np.int8),
    "ws": np.linspace(0.002, 0.006, 6).astype(np.float32),
    "v": random.integers(-127, 128, (6, 1, 3, 3)).astype(np.int8),
    "vs": np.linspace(0.005, 0.02, 6).astype(np.float32),
    "b": random.normal(size=6).astype(np.float32),
    "factor": np.array([1.5, -0.7, 2, 0.3, 1, -1], np.float32).reshape(1, 6, 1, 1),
    "offset": random.normal(size=(1, 6, 1, 1)).astype(np.float32),
    "zero": np.float32(0),
    "six": np.float32(6),
    "one": np.float32(1),
    "cs": SCALES,
    "cz": np.zeros(6, np.uint8),
    "mixed": np.arange(6, dtype=np.uint8),
}
_CONV = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) m = DequantizeLinear<axis=0>(w, ws)"
_DEPTHWISE = """p = QuantizeLinear<axis=1>(r, cs, cz) u = DequantizeLinear<axis=1>(p, cs, cz)
    k = DequantizeLinear<axis=0>(v, vs) a = Conv<group=6>(u, k) e = QuantizeLinear(a, t, z)
    y = DequantizeLinear(e, t, z)"""

GRAPHS = {
    "relu": f"{_CONV} c = Conv(d, m, b) r = Relu(c) {_DEPTHWISE}",
    "a clip that no code shows": f"{_CONV} c = Conv(d, m, b) r = Clip(c, zero, six) {_DEPTHWISE}",
    "batch norm": f"{_CONV} c = Conv(d, m) n = Mul(c, factor) o = Add(n, offset) r = Relu(o) {_DEPTHWISE}",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_depthwise_convolutions_run_in_integers(name: str, tmp_path: Path) -> None:
    model = onnx_models.model(f"(float[1,6,8,8] x) => (float y) {{ {GRAPHS[name]} }}", CONSTANTS)
    network = onnx_models.network(model, tmp_path)
    assert not onnx_models.islands(network)
    assert onnx_models.operations(network).count("Conv2d") == 2
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    found = onnx_models.difference(network, ours, theirs)
    assert found.steps <= 2  # a code in front that is rounded the other way, and one of its own
    assert found.share <= 0.03


FLOAT = {
    "a clip that codes show": f"{_CONV} c = Conv(d, m, b) r = Clip(c, zero, one) {_DEPTHWISE}",
    "other zero points": f"{_CONV} c = Conv(d, m, b) r = Relu(c) {_DEPTHWISE}".replace("cz", "mixed"),
    "another reader": f"{_CONV} c = Conv(d, m, b) r = Relu(c) {_DEPTHWISE} i = Add(r, x)",
}


@pytest.mark.parametrize("name", FLOAT)
def test_what_is_not_that_form_computes_the_same_in_float(name: str, tmp_path: Path) -> None:
    outputs = "float y, float i" if "reader" in name else "float y"
    model = onnx_models.model(f"(float[1,6,8,8] x) => ({outputs}) {{ {FLOAT[name]} }}", CONSTANTS)
    network = onnx_models.network(model, tmp_path)
    assert "Conv" in [operator for _, operator, _ in onnx_models.islands(network)]
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps <= 1


def test_batch_norm_behind_a_quantized_product_goes_into_its_scales(tmp_path: Path) -> None:
    body = f"""{_CONV} c = Conv(d, m, b) n = Mul(c, factor) o = Add(n, offset)
        e = QuantizeLinear(o, t, z) y = DequantizeLinear(e, t, z)"""
    model = onnx_models.model(f"(float[1,6,8,8] x) => (float y) {{ {body} }}", CONSTANTS)
    network = onnx_models.network(model, tmp_path)
    assert [kind for kind in onnx_models.operations(network) if kind != "Rearrange"] == ["Conv2d"]
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps <= 1
