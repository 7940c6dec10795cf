"""Where other tools put QuantizeLinear and DequantizeLinear: products run in integers all the same."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.compiler import onnx_models
from tests.compiler.building import build, verified

random = np.random.default_rng(2)


def integers(*shape: int) -> np.ndarray:
    return random.integers(-127, 128, shape).astype(np.int8)


CONSTANTS = {
    "s": np.float32(0.0213),
    "t": np.float32(0.0171),
    "z": np.int8(3),
    "low": np.int8(-128),
    "w": integers(6, 6, 1, 1),
    "v": integers(6, 6, 3, 3),
    "ws": np.linspace(0.002, 0.006, 6).astype(np.float32),
    "vs": np.linspace(0.0005, 0.002, 6).astype(np.float32),
    "b": random.normal(size=6).astype(np.float32),
    "one": np.float32(1),
    "zero": np.float32(0),
    "six": np.float32(6),
    "shape": np.array([1, 384]),
    "f": integers(384, 6),
    "fs": np.float32(0.0005),
}
_INPUT = """
    q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
    m = DequantizeLinear<axis=0>(w, ws) k = DequantizeLinear<axis=0>(v, vs)
    c = Conv(d, m, b)"""
_OUTPUT = "e = QuantizeLinear(a, t, z) y = DequantizeLinear(e, t, z)"
_POSITIVE = "e = QuantizeLinear(a, t, low) y = DequantizeLinear(e, t, low)"

GRAPHS = {
    "behind a sigmoid": (f"{_INPUT} a = Sigmoid(c) {_OUTPUT}", "Conv2d Lookup"),
    "behind a hard swish": (f"{_INPUT} a = HardSwish(c) {_OUTPUT}", "Conv2d Lookup"),
    "behind a leaky relu": (f"{_INPUT} a = LeakyRelu<alpha=0.1>(c) {_OUTPUT}", "Conv2d Lookup"),
    "behind a clip and a reshape": (
        f"{_INPUT} p = Clip(c, zero, six) a = Reshape(p, shape) {_OUTPUT}", "Conv2d"
    ),
    "behind an addition": (f"{_INPUT} a = Add(c, d) {_OUTPUT}", "Conv2d Binary"),
    "behind an addition and a relu": (f"{_INPUT} o = Add(c, d) a = Relu(o) {_POSITIVE}", "Conv2d Binary"),
    "behind an addition and a hard swish": (
        f"{_INPUT} o = Add(d, c) a = HardSwish(o) {_OUTPUT}", "Conv2d Binary Lookup"
    ),
    "behind a function and an addition": (
        f"{_INPUT} o = HardSwish(c) a = Add(o, d) {_OUTPUT}", "Conv2d Lookup Binary"
    ),
    "behind a maximum": (f"{_INPUT} a = MaxPool<kernel_shape=[2,2]>(c) {_OUTPUT}", "Conv2d MaxPool"),
    "behind a concatenation": (
        f"{_INPUT} g = Conv<pads=[1,1,1,1]>(d, k) a = Concat<axis=1>(c, g) {_OUTPUT}", "Conv2d Conv2d Concat"
    ),
    "behind a function of a concatenation of one scale": (
        f"""{_INPUT} p = QuantizeLinear(c, s, z) u = DequantizeLinear(p, s, z)
        g = Concat<axis=1>(d, u) a = Tanh(g) {_OUTPUT}""",
        "Conv2d Concat Lookup",
    ),
    "for one reader of two": (
        f"""{_INPUT} r = Relu(c) p = QuantizeLinear(r, t, low) u = DequantizeLinear(p, t, low)
        g = Conv<pads=[1,1,1,1]>(u, k) a = Add(g, r) {_OUTPUT}""",
        "Conv2d Conv2d Binary",
    ),
    "by another scale for each reader": (
        f"""{_INPUT} p = QuantizeLinear(c, t, z) u = DequantizeLinear(p, t, z)
        o = QuantizeLinear(c, s, z) i = DequantizeLinear(o, s, z) a = Add(u, i) {_OUTPUT}""",
        "Conv2d Lookup Binary",
    ),
    "of a product behind a product": (
        f"""{_INPUT} r = Relu(c) p = QuantizeLinear(r, t, low) u = DequantizeLinear(p, t, low)
        h = Reshape(u, shape) j = DequantizeLinear(f, fs) g = MatMul(h, j) a = Tanh(g) {_OUTPUT}""",
        "Conv2d Rearrange Conv2d Lookup",
    ),
}  # fmt: skip
"""By where a product is quantized."""


@pytest.mark.parametrize("name", GRAPHS)
def test_a_product_runs_in_integers_wherever_it_is_quantized(name: str, tmp_path: Path) -> None:
    body, operations = GRAPHS[name]
    model = onnx_models.model(f"(float[1,6,8,8] x) => (float y) {{ {body} }}", CONSTANTS)
    network = onnx_models.network(model, tmp_path)
    assert not onnx_models.islands(network)
    found = Counter(onnx_models.operations(network))
    del found["Rearrange"]
    assert found == Counter(operation for operation in operations.split() if operation != "Rearrange")
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert (
        onnx_models.difference(network, ours, theirs).steps <= 3
    )  # two of the scale between, one of rounding


@pytest.mark.parametrize(
    "name",
    ["behind a maximum", "behind a concatenation", "behind a function of a concatenation of one scale"],
)
def test_what_only_moves_or_chooses_between_costs_nothing(name: str, tmp_path: Path) -> None:
    body, _ = GRAPHS[name]
    model = onnx_models.model(f"(float[1,6,8,8] x) => (float y) {{ {body} }}", CONSTANTS)
    network, inputs = onnx_models.network(model, tmp_path), onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps <= 1


FLOAT = {
    "never": f"{_INPUT} y = Relu(c)",
    "beside what isn't": f"{_INPUT} a = Add(c, x) {_OUTPUT}",
    "too coarsely": f"""{_INPUT}
        n = DequantizeLinear(w, one) g = Conv(d, n) a = LeakyRelu<alpha=0.001>(g) {_OUTPUT}""",
    "and is an output, too": f"{_INPUT} e = QuantizeLinear(c, t, z) y = DequantizeLinear(e, t, z)",
}


@pytest.mark.parametrize("name", FLOAT)
def test_a_product_without_such_a_scale_stays_in_float(name: str, tmp_path: Path) -> None:
    outputs = "float y, float c" if "output" in name else "float y"
    model = onnx_models.model(f"(float[1,6,8,8] x) => ({outputs}) {{ {FLOAT[name]} }}", CONSTANTS)
    islands = onnx_models.islands(onnx_models.network(model, tmp_path))
    assert "Conv" in [operator for _, operator, _ in islands]


def test_a_bundle_is_verified_layer_by_layer(tmp_path: Path) -> None:
    body, _ = GRAPHS["behind a function and an addition"]
    model = onnx_models.model(f"(float[1,6,8,8] x) => (float y) {{ {body} }}", CONSTANTS)
    bundle = build(model, tmp_path)
    assert verified(bundle).exact_layers == len(bundle.steps)


# --- scales -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_negative_scales_are_turned(dtype: type, tmp_path: Path) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    signs = np.array([1, -1, 1, -1, -1, 1], np.float32)
    constants = CONSTANTS | {
        "n": np.float32(-0.0213),
        "nz": np.array(low + 100, dtype),
        "w": random.integers(low, high + 1, (6, 6, 1, 1)).astype(dtype),
        "ws": signs * np.float32(0.003),
        "wz": np.full(6, low + 120, dtype),
        "b": random.integers(-2000, 2000, 6).astype(np.int32),
        "bs": signs * np.float32(-0.0213) * np.float32(0.003),
    }
    model = onnx_models.model(
        f"""(float[1,6,8,8] x) => (float y) {{
            q = QuantizeLinear(x, n, nz) d = DequantizeLinear(q, n, nz)
            m = DequantizeLinear<axis=0>(w, ws, wz)
            i = DequantizeLinear<axis=0>(b, bs) a = Conv(d, m, i) {_OUTPUT}
        }}""",
        constants,
    )
    network = onnx_models.network(model, tmp_path)
    assert not onnx_models.islands(network)
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps <= 1
