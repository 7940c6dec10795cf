"""ONNX Runtime's operators on integers: each is written out, and computes what ONNX Runtime does."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.check import check
from edgec.compiler.lower.graph.integer import integer
from edgec.errors import UnsupportedError
from edgec.targets import loader
from tests.compiler import onnx_models

random = np.random.default_rng(5)


def integers(*shape: int) -> np.ndarray:
    return random.integers(-127, 128, shape).astype(np.int8)


X = {"xs": np.float32(0.02), "xz": np.int8(3)}
Y = {"ys": np.float32(0.031), "yz": np.int8(-7)}
W = {"ws": np.linspace(0.005, 0.01, 6).astype(np.float32), "wz": np.zeros(6, np.int8)}
U = {"us": np.float32(0.013), "uz": np.int8(-9), "u": integers(1, 4, 8, 8)}
BIAS = random.integers(-5000, 5000, 6).astype(np.int32)

CASES: dict[str, tuple[str, list[str], dict[str, Any], dict[str, Any], tuple[int, ...]]] = {
    "QLinearConv of ONNX": (
        ":QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], {"pads": [1, 1, 1, 1]},
        X | Y | W | {"w": integers(6, 4, 3, 3), "b": BIAS}, (1, 4, 8, 8),
    ),
    "QLinearConv, channels last": (
        "com.microsoft:QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"],
        {"channels_last": 1, "strides": [2, 2]}, X | Y | W | {"w": integers(6, 4, 3, 3), "b": BIAS},
        (1, 8, 8, 4),
    ),
    "QLinearMatMul by columns": (
        ":QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], {},
        X | Y | {"w": integers(8, 6), "ws": np.float32(0.007), "wz": np.int8(2)}, (1, 5, 8),
    ),
    "QGemm with alpha": (
        "com.microsoft:QGemm", ["x", "xs", "xz", "w", "ws", "wz", "b", "ys", "yz"],
        {"alpha": 0.5, "transB": 1}, X | Y | W | {"w": integers(6, 8), "b": BIAS}, (5, 8),
    ),
    "QGemm of columns": (
        "com.microsoft:QGemm", ["x", "xs", "xz", "w", "ws", "wz", "", "ys", "yz"], {},
        X | Y | W | {"w": integers(8, 6)}, (5, 8),
    ),
    "QLinearAdd": (
        "com.microsoft:QLinearAdd", ["x", "xs", "xz", "u", "us", "uz", "ys", "yz"], {}, X | Y | U,
        (1, 4, 8, 8),
    ),
    "QLinearMul": (
        "com.microsoft:QLinearMul", ["x", "xs", "xz", "u", "us", "uz", "ys", "yz"], {}, X | Y | U,
        (1, 4, 8, 8),
    ),
    "QLinearConcat": (
        "com.microsoft:QLinearConcat", ["ys", "yz", "x", "xs", "xz", "u", "us", "uz"], {"axis": 1}, X | Y | U,
        (1, 4, 8, 8),
    ),
    "QLinearGlobalAveragePool": (
        "com.microsoft:QLinearGlobalAveragePool", ["x", "xs", "xz", "ys", "yz"], {"channels_last": 0}, X | Y,
        (1, 4, 8, 8),
    ),
    "QLinearGlobalAveragePool, channels last": (
        "com.microsoft:QLinearGlobalAveragePool", ["x", "xs", "xz", "ys", "yz"], {"channels_last": 1}, X | Y,
        (1, 8, 8, 4),
    ),
    "QLinearAveragePool": (
        "com.microsoft:QLinearAveragePool", ["x", "xs", "xz", "ys", "yz"],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, X | Y, (1, 4, 8, 8),
    ),
    "QLinearAveragePool, channels last": (
        "com.microsoft:QLinearAveragePool", ["x", "xs", "xz", "ys", "yz"],
        {"kernel_shape": [2, 2], "strides": [2, 2], "channels_last": 1}, X | Y, (1, 8, 8, 4),
    ),
    "QLinearWhere": (
        "com.microsoft:QLinearWhere", ["c", "x", "xs", "xz", "u", "us", "uz", "ys", "yz"], {},
        X | Y | U | {"c": random.random((1, 4, 8, 8)) < 0.5}, (1, 4, 8, 8),
    ),
    "QLinearSigmoid": (
        "com.microsoft:QLinearSigmoid", ["x", "xs", "xz", "ys", "yz"], {}, X | Y, (1, 4, 8, 8)
    ),
    "QLinearLeakyRelu": (
        "com.microsoft:QLinearLeakyRelu", ["x", "xs", "xz", "ys", "yz"], {"alpha": 0.2}, X | Y, (1, 4, 8, 8)
    ),
    "QLinearSoftmax of rows": (
        "com.microsoft:QLinearSoftmax", ["x", "xs", "xz", "ys", "yz"], {"axis": 1, "opset": 12},
        X | {"ys": np.float32(1 / 256), "yz": np.int8(-128)}, (3, 8),
    ),
}  # fmt: skip
"""Operator, inputs, attributes, constants and the shape of `x`."""


def written(name: str, opset: int = 17) -> onnx.ModelProto:
    spelt, inputs, attributes, constants, shape = CASES[name]
    domain, operator = spelt.split(":")
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["r", "xs", "xz"], ["x"], "first"),
            helper.make_node(operator, inputs, ["y"], "node", domain=domain, **attributes),
            helper.make_node("DequantizeLinear", ["y", "ys", "yz"], ["o"], "last"),
        ],
        "g",
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [*"abcd"[: len(shape)]])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", CASES)
def test_each_computes_what_onnx_runtime_does(name: str, opset: int, tmp_path: Path) -> None:
    model = written(name, opset)
    network = onnx_models.network(model, tmp_path)
    assert [operator for _, operator, _ in onnx_models.islands(network)] == ["Where"] * (
        name == "QLinearWhere"
    )
    inputs = onnx_models.samples(model)
    found = onnx_models.difference(
        network, onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    )
    assert found.steps <= 1
    assert found.share <= 0.02


INTEGERS = {
    "ConvInteger": ("float[1,4,8,8] r", "i = ConvInteger<pads=[1,1,1,1]>(x, k, xz, wz)", (1, 6, 1, 1)),
    "MatMulInteger": ("float[1,5,8] r", "i = MatMulInteger(x, m, xz)", (6,)),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_sums_of_integers_with_static_scales_are_layers(name: str, tmp_path: Path) -> None:
    declared, body, shape = INTEGERS[name]
    model = onnx_models.model(
        f"""({declared}) => (float o) {{
            x = QuantizeLinear(r, xs, xz) {body} f = Cast<to=1>(i) g = Mul(f, scale) h = Add(g, offset)
            y = QuantizeLinear(h, ys, yz) o = DequantizeLinear(y, ys, yz)
        }}""",
        X | Y | {
            "k": integers(6, 4, 3, 3), "m": integers(8, 6), "wz": np.int8(2),
            "offset": np.ones(shape, np.float32),
            "scale": np.linspace(1e-4, 2e-4, 6).astype(np.float32).reshape(shape),
        },
    )  # fmt: skip
    network = onnx_models.network(model, tmp_path)
    operations = onnx_models.operations(network)
    assert "Conv2d" in operations or name == "MatMulInteger"
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps <= 1


def test_codes_are_pooled_padded_and_clipped_as_the_numbers_that_they_are(tmp_path: Path) -> None:
    model = onnx_models.model(
        """(float[1,2,6,6] r) => (float o) {
            x = QuantizeLinear(r, s, z) a = MaxPool<kernel_shape=[2,2], pads=[1,1,0,0]>(x)
            b = Clip(a, low, high) c = Concat<axis=1>(a, b) o = DequantizeLinear(c, s, z)
        }""",
        {"s": np.float32(0.02), "z": np.uint8(120), "low": np.uint8(100), "high": np.uint8(140)},
    )
    network = onnx_models.network(model, tmp_path)
    assert not onnx_models.islands(network)
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps == 0


def test_a_scale_that_is_an_input_is_named(tmp_path: Path) -> None:
    model = written("QLinearConv of ONNX")
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "ys")
    model.graph.initializer.remove(scale)
    model.graph.input.append(helper.make_tensor_value_info("ys", TensorProto.FLOAT, []))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match=r"node 'node' \(QLinearConv\).*scales and zero points"):
        check(load(tmp_path / "model.onnx"), loader.load("arm64-int8"))


def test_an_integer_operator_keeps_its_name(tmp_path: Path) -> None:
    model = load(_saved(written("QLinearAdd"), tmp_path))
    assert [node.op_type for node in model.ir.graph if node.name == "node"] == ["Add"]
    integer(model)


def _saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"
