"""Transposed convolutions as convolutions: every attribute, in float and integers, against ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler.frontend.write_conv_transpose import write_conv_transpose
from edgec.compiler.graph import shape_of
from edgec.compiler.lower.graph.floating import floating
from tests.compiler import onnx_models
from tests.compiler.building import HOST, build, verified
from tests.compiler.frontend.test_frontend import inferred
from tests.compiler.lowering_cases import weights

CASES = {
    "two by two": ("float[1,6,5,4] x", "strides=[2,2]", (6, 3, 2, 2)),
    "overlapping": ("float[2,6,5,4] x", "strides=[2,2], pads=[1,1,1,1]", (6, 3, 4, 4)),
    "with more at the end": (
        "float[1,6,5,4] x",
        "strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]",
        (6, 3, 3, 3),
    ),
    "each channel alone": ("float[1,6,5,4] x", "strides=[2,3], group=6", (6, 1, 4, 3)),
    "in groups": ("float[1,6,5,4] x", "strides=[3,1], group=2, pads=[1,0,0,1]", (6, 2, 3, 2)),
    "dilated": ("float[1,6,5,4] x", "strides=[2,2], dilations=[2,3]", (6, 3, 3, 2)),
    "with gaps": ("float[1,6,5,4] x", "strides=[4,3]", (6, 3, 2, 1)),
    "cut far": ("float[1,6,5,4] x", "strides=[2,2], pads=[4,3,2,4]", (6, 3, 5, 3)),
    "of no stride": ("float[1,6,5,4] x", "pads=[1,1,1,1]", (6, 3, 3, 3)),
    "of a given shape": ("float[1,6,5,4] x", "strides=[2,2], output_shape=[9,8]", (6, 3, 3, 3)),
    "as large": ("float[1,6,5,4] x", 'strides=[2,2], auto_pad="SAME_UPPER"', (6, 3, 3, 3)),
    "as large, from the end": ("float[1,6,5,4] x", 'strides=[2,2], auto_pad="SAME_LOWER"', (6, 3, 3, 3)),
    "of a signal": ("float[1,6,5] x", "strides=[2], pads=[1,0]", (6, 3, 5)),
}


def _groups(name: str) -> int:
    return 6 if "alone" in name else 2 if "groups" in name else 1


def _float(name: str) -> onnx.ModelProto:
    declared, attributes, shape = CASES[name]
    text = f"({declared}) => (float y) {{ t = ConvTranspose<{attributes}>(x, w, b) y = Relu(t) }}"
    bias = weights(shape[1] * _groups(name), 1).reshape(-1)
    return onnx_models.model(text, {"w": weights(*shape), "b": bias})


def _quantized(name: str) -> onnx.ModelProto:
    """As other tools leave it: weights with one scale and zero point for each output of a group."""
    declared, attributes, shape = CASES[name]
    text = f"""({declared}) => (float y) {{
        xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z)
        wd = DequantizeLinear<axis=1>(w, ws, wz)
        t = ConvTranspose<{attributes}>(xd, wd, b) r = Relu(t)
        yq = QuantizeLinear(r, ys, low) y = DequantizeLinear(yq, ys, low)
    }}"""
    outputs = shape[1]
    constants = {
        "s": np.float32(0.02), "z": np.int8(3), "ys": np.float32(0.03), "low": np.int8(-128),
        "w": np.random.default_rng(1).integers(-100, 101, shape).astype(np.int8),
        "ws": np.linspace(0.002, 0.01, outputs).astype(np.float32),
        "wz": np.arange(outputs).astype(np.int8), "b": weights(outputs * _groups(name), 1).reshape(-1),
    }  # fmt: skip
    return onnx_models.model(text, constants)


@pytest.mark.parametrize("name", CASES)
def test_floats_are_onnx_runtime_s(name: str, tmp_path: Path) -> None:
    model = _float(name)
    network = floating(onnx_models.loaded(model, tmp_path))
    assert "FloatConv2d" in onnx_models.operations(network)
    assert "Island" not in onnx_models.operations(network)
    onnx_models.assert_floats_are_onnx_runtime_s(network, model)


@pytest.mark.parametrize("name", CASES)
def test_integers_are_those_of_the_quantized_model(name: str, tmp_path: Path) -> None:
    model = _quantized(name)
    network = onnx_models.network(model, tmp_path)
    assert "Conv2d" in onnx_models.operations(network)
    assert not network.floats
    inputs = onnx_models.samples(model)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert onnx_models.difference(network, ours, theirs).steps <= 1


@pytest.mark.parametrize("target", [HOST, "cortex-m4-int8"])
def test_edgec_quantizes_them(target: str, tmp_path: Path) -> None:
    bundle = build(_float("overlapping"), tmp_path, target)
    assert not bundle.manifest.islands
    accuracy = verified(bundle).accuracy
    assert all(figure.sqnr_db is not None and figure.sqnr_db > 30 for figure in accuracy.outputs)


def test_windows_have_no_more_taps_than_a_phase_needs(tmp_path: Path) -> None:
    """Four by four at stride 2 is two by two for each phase, wherever the pads let the result begin."""
    nodes = {node.op_type: node for node in onnx_models.loaded(_float("overlapping"), tmp_path).ir.graph}
    assert shape_of(nodes["Conv"].inputs[1]) == (12, 6, 2, 2)


def test_what_onnx_infers_by_half_stays(tmp_path: Path) -> None:
    """ONNX's inference breaks off at an extent of output_shape that is less than the input's."""
    text = "(float[1,2,5] x) => (float y) { y = ConvTranspose<output_shape=[3]>(x, w) }"
    model = inferred(onnx_models.model(text, {"w": weights(2, 2, 3)}))
    assert [node.op_type for node in write_conv_transpose(model).graph] == ["ConvTranspose"]
