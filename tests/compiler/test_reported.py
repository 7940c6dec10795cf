"""Networks after public bug reports of other compilers: what islands compute of them, or one clear line."""

from pathlib import Path

import numpy as np
import pytest

from edgec import api
from edgec.errors import UnsupportedError
from tests.compiler import onnx_models
from tests.compiler.building import build, verified
from tests.compiler.lowering_cases import weights

_PIXELS = np.stack(np.meshgrid([0], np.arange(64), np.arange(2), indexing="ij"), -1)

REPORTED = {
    "a transposed convolution by its shape": onnx_models.model(
        """(float[1,3,8,8] x) => (float[1,4,16,17] y) {
            a = Conv<pads=[1,1,1,1]>(x, v) b = Relu(a)
            c = ConvTranspose<strides=[2,2], kernel_shape=[3,3], output_shape=[16,17]>(b, w)
            d = Relu(c) y = Conv<pads=[1,1,1,1]>(d, u)
        }""",
        {"v": weights(4, 3, 3, 3), "w": weights(4, 8, 3, 3), "u": weights(4, 8, 3, 3)},
    ),
    "a transposed convolution by its shape, last": onnx_models.model(
        """(float[1,4,5,5] x) => (float[1,8,10,11] y) {
            a = Relu(x) y = ConvTranspose<strides=[2,2], output_shape=[10,11]>(a, w)
        }""",
        {"w": weights(4, 8, 3, 3)},
    ),
    "fractional scales": onnx_models.model(
        """(float[1,3,5,5] x) => (float[1,2,12,12] y) {
            a = Relu(x) b = Resize<mode="linear">(a, , scales) y = Conv<pads=[1,1,1,1]>(b, v)
        }""",
        {"v": weights(2, 3, 3, 3), "scales": np.array([1, 1, 2.5, 2.5], np.float32)},
    ),
    "context of the whole map": onnx_models.model(
        """(float[1,3,16,16] x) => (float[1,4,8,8] y) {
            a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, stem) b = Relu(a)
            c = ReduceMean<axes=[2,3]>(b) d = Conv(c, pooled) e = Relu(d) f = Expand(e, shape)
            g = Conv<dilations=[4,4], pads=[4,4,4,4]>(b, dilated) h = Relu(g)
            i = Concat<axis=1>(f, h) y = Conv(i, out)
        }""",
        {
            "stem": weights(16, 3, 3, 3), "pooled": weights(8, 16, 1, 1), "dilated": weights(8, 16, 3, 3),
            "out": weights(4, 16, 1, 1), "shape": np.array([1, 8, 8, 8]),
        },
    ),
    "slices that are written to": onnx_models.model(
        """(float[1,3,16,16] x) => (float[1,64,6] y) {
            a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, stem) b = Relu(a) c = Conv(b, out)
            d = Reshape(c, flat) e = Transpose<perm=[0,2,1]>(d)
            f = Slice(e, zero, two, axis) g = Sigmoid(f) y = ScatterND(e, pixels, g)
        }""",
        {
            "stem": weights(16, 3, 3, 3), "out": weights(6, 16, 1, 1), "flat": np.array([1, 6, 64]),
            "zero": np.array([0]), "two": np.array([2]), "axis": np.array([2]), "pixels": _PIXELS,
        },
    ),
    "attention as one node": onnx_models.model(
        """(float[1,10,16] x) => (float[1,4] y) {
            a = LayerNormalization(x, g, h) b = MatMul(a, qkv) q, k, v = Split<axis=2, num_outputs=3>(b)
            c = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v) d = MatMul(c, mix) e = Add(x, d)
            f = ReduceMean<keepdims=0>(e, one) y = MatMul(f, out)
        }""",
        {
            "g": weights(16, 1).reshape(-1), "h": weights(16, 1).reshape(-1), "qkv": weights(16, 48),
            "mix": weights(16, 16), "out": weights(16, 4), "one": np.array([1]),
        },
        opset=23,
    ),
    "grey images": onnx_models.model(
        """(float[1,1,4,6] x) => (float[1,1,4,6] y, int64[1,1,4,1] i, float[1,1,1,1] m) {
            y = Softmax(x) i = ArgMax<axis=3>(x) m = GlobalMaxPool(x)
        }"""
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTED)
def test_reported_networks_compute_what_onnx_says(name: str, tmp_path: Path) -> None:
    model = REPORTED[name]
    bundle = build(model, tmp_path, "host-fp32")
    inputs = {key: array[np.newaxis] for key, array in onnx_models.samples(model, seed=3).items()}
    found = verified(bundle, data=inputs)
    assert found.mismatch is None
    expected = onnx_models.run_onnx(model, {key: array[0] for key, array in inputs.items()})
    outputs = api.load(bundle.path).run({key: array[0] for key, array in inputs.items()})
    for value, wanted in zip(model.graph.output, expected, strict=True):
        np.testing.assert_allclose(outputs[value.name], wanted, rtol=1e-4, atol=1e-5)


def test_what_firmware_lacks_is_named_with_node_and_operator(tmp_path: Path) -> None:
    model = onnx_models.model(
        """(float[1,3,8,8] x, float[8,8,2,2] w, float[1,8,8,8] p) => (float[1,2,8,8] y) {
            a = Conv<pads=[1,1,1,1]>(x, v) b = Relu(a) c = MaxPool<kernel_shape=[2,2], strides=[2,2]>(b)
            d = ConvTranspose<strides=[2,2]>(c, w) s = Sigmoid(d) e = Pow(s, p) y = Conv(e, u)
        }""",
        {"v": weights(8, 3, 3, 3), "u": weights(2, 8, 1, 1)},
    )
    with pytest.raises(UnsupportedError) as error:
        build(model, tmp_path, "cortex-m4-int8")
    lacks = "which firmware for cortex-m4 doesn't have"
    for node in (
        f"'convtranspose_3' (ConvTranspose) can't be compiled: it needs division of 64-bit integers, {lacks}",
        f"'pow_5' (Pow) can't be compiled: it needs the C library's powf, {lacks}",
    ):
        assert node in str(error.value)
    assert "\n" not in str(error.value)


def test_axes_that_are_an_input_must_fit_the_shape_that_the_model_declares(tmp_path: Path) -> None:
    text = "(float[3,2,2] x, int64[1] axes) => (float[3,1,2] y) { y = ReduceSum<keepdims=1>(x, axes) }"
    model = onnx_models.model(text)
    with pytest.raises(
        UnsupportedError, match=r"'y' has the shape \[1, 2, 2\] .* and in the model \[3, 1, 2\]"
    ):
        build(model, tmp_path, "host-fp32")
    samples = {"x": np.ones((1, 3, 2, 2), np.float32), "axes": np.array([[1]])}
    assert verified(build(model, tmp_path, "host-fp32", calibration=samples)).passed
