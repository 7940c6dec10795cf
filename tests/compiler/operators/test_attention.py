"""Attention as exporters write it is one operation, whatever masks hide; what is nearly one is none."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

from edgec.bench.bundle import Bundle
from edgec.compiler.operators.attention import attention, inner_nodes
from tests.compiler import onnx_models
from tests.compiler.building import HOST, build, verified
from tests.compiler.lowering_cases import floats, integers, weights

_INPUTS = "float[2,3,5,8] a, float[2,3,8,7] b, float[2,3,7,6] v"


def _last(body: str, constants: dict[str, Any], folder: Path, outputs: str = "float y") -> onnx_ir.Node:
    """The node that computes y."""
    text = f"({_INPUTS}, float[7] m) => ({outputs}) {{ {body} }}"
    graph = onnx_models.loaded(onnx_models.model(text, constants), folder).ir.graph
    assert bool(inner_nodes(graph)) == any(attention(node) for node in graph)
    (found,) = (value.producer() for value in graph.outputs if value.name == "y")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("body", "constants", "scale", "masks"),
    [
        ("s = MatMul(a, b) p = Softmax(s) y = MatMul(p, v)", {}, 1.0, 0),
        ("s = MatMul(a, b) c = Mul(f, s) p = Softmax(c) y = MatMul(p, v)", {"f": floats(0.5)}, 0.5, 0),
        ("s = MatMul(a, b) c = Div(s, f) d = Add(c, m) p = Softmax(d) y = MatMul(p, v)",
         {"f": np.float32(8)}, 0.125, 1),
        ("q = Mul(a, f) k = Mul(f, b) s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v)",
         {"f": floats(0.5)}, 0.25, 0),
        ("q = Mul(a, f) s = MatMul(q, b) p = Softmax(s) y = MatMul(p, v)", {"f": floats(-0.5)}, 1.0, 0),
    ],
)  # fmt: skip
def test_attention_is_recognized(
    body: str, constants: dict[str, Any], scale: float, masks: int, tmp_path: Path
) -> None:
    form = attention(_last(body, constants, tmp_path))
    assert form is not None
    assert form.scale == scale
    read = [node.inputs[index].name for node, index in form.operands]  # type: ignore[union-attr]
    assert read == ["q" if scale == 1 and "q =" in body else "a", "b", "v", *["m"] * masks]


@pytest.mark.parametrize(
    ("body", "constants", "outputs"),
    [
        ("s = MatMul(a, b) p = Softmax<axis=2>(s) y = MatMul(p, v)", {}, "float y"),
        ("s = MatMul(a, b) p = Softmax(s) y = MatMul(p, v)", {}, "float y, float p"),
        ("s = MatMul(a, b) p = Softmax(s) y = MatMul(p, v)", {}, "float y, float s"),
        ("s = MatMul(a, b) c = Mul(s, f) p = Softmax(c) y = MatMul(p, v)", {"f": floats(-1)}, "float y"),
        ("s = MatMul(a, b) c = Mul(s, f) p = Softmax(c) y = MatMul(p, v)", {"f": weights(7)}, "float y"),
        ("s = MatMul(a, b) c = Div(f, s) p = Softmax(c) y = MatMul(p, v)", {"f": floats(1)}, "float y"),
        ("s = MatMul(a, b) d = Add(s, f) p = Softmax(d) y = MatMul(p, v)", {"f": floats(3)}, "float y"),
        ("s = MatMul(a, b) d = Add(s, f) p = Softmax(d) y = MatMul(p, v)",
         {"f": np.array([0, 0, 0, 0, 0, 0, -np.inf], np.float32)}, "float y"),
        ("s = MatMul(a, b) p = Tanh(s) y = MatMul(p, v)", {}, "float y"),
    ],
)  # fmt: skip
def test_what_is_nearly_attention_is_none(
    body: str, constants: dict[str, Any], outputs: str, tmp_path: Path
) -> None:
    assert attention(_last(body, constants, tmp_path, outputs)) is None


_HEADS = """(float[1,19,24] x, float[1,1,1,19] m) => (float y) {
    q0 = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wv)
    q1 = Reshape(q0, shape) k1 = Reshape(k0, shape) v1 = Reshape(v0, shape)
    q = Transpose<perm=[0,2,1,3]>(q1) k = Transpose<perm=[0,2,3,1]>(k1) v = Transpose<perm=[0,2,1,3]>(v1)
    s = MatMul(q, k) c = Mul(s, scale) d = Add(c, m) p = Softmax(d) o = MatMul(p, v)
    t = Transpose<perm=[0,2,1,3]>(o) r = Reshape(t, back) y = MatMul(r, wo)
}"""


def _built(folder: Path, target: str) -> tuple[Bundle, dict[str, np.ndarray]]:
    """Three heads of a block, calibrated on sequences of which a part is padding."""
    constants: dict[str, Any] = {f"w{name}": weights(24, 24) for name in "qkvo"}
    constants |= {"shape": integers(1, 19, 3, 8), "back": integers(1, 19, 24), "scale": np.float32(8**-0.5)}
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 20, 24)
    data = {
        "x": rng.normal(size=(24, 19, 24)).astype(np.float32),
        "m": np.where(np.arange(19) < lengths[:, None], 0, -1e4).astype(np.float32).reshape(24, 1, 1, 19),
    }
    path = folder / "data.npz"
    np.savez(path, **data)
    bundle = build(onnx_models.model(_HEADS, constants), folder, target, calibration=path)
    return bundle, {"x": data["x"][:4, None], "m": data["m"][:4, None]}


@pytest.mark.parametrize("target", [HOST, "rpi4-int8", "cortex-m4-int8", "cortex-m0plus-int8"])
def test_heads_with_masks_run_whole_in_integers(target: str, tmp_path: Path) -> None:
    """A mask of -10000 costs the scores nothing: it has a scale of its own."""
    bundle, data = _built(tmp_path, target)
    kernels = [step.kernel for step in bundle.steps]
    assert sum(kernel.startswith("attention_") for kernel in kernels) == 1
    assert not any(kernel == "island" or kernel.startswith(("softmax", "product")) for kernel in kernels)
    accuracy = verified(bundle, None, data).accuracy
    assert all(figure.sqnr_db is not None and figure.sqnr_db > 29 for figure in accuracy.outputs)
