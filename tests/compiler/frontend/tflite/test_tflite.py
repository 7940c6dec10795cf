"""Reading .tflite files: every operator computes what TensorFlow Lite's interpreter said that it does."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler.frontend.load import load
from edgec.compiler.frontend.tflite.convert import convert
from edgec.compiler.frontend.tflite.table import ROWS
from edgec.compiler.lower.graph.integer import integer
from edgec.errors import EdgecError, ModelError
from tests.compiler import onnx_models
from tests.compiler.building import build, verified
from tests.compiler.frontend.tflite.cases import CASES, EXPECTED, feed
from tests.compiler.frontend.tflite.files import Operator, Tensor, constant, written

SHARED = onnx_models.SHARED / "models"
OFFICIAL = ("mlperf_kws_dscnn_int8", "mlperf_ic_resnet8_int8")


@pytest.mark.parametrize("name", CASES)
def test_each_operator_computes_what_the_interpreter_does(name: str) -> None:
    model = convert(CASES[name])
    onnx.checker.check_model(model, full_check=True)
    with np.load(EXPECTED) as expected:
        for position, ours in enumerate(onnx_models.run_onnx(model, feed(name))):
            theirs = expected[f"{name}: {position}"]
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            if ours.dtype.kind == "f":
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
            else:  # one step, where the two round in other ways
                assert np.abs(ours.astype(int) - theirs).max() <= (ours.dtype == np.int8)


def test_every_row_has_a_case_or_a_reason() -> None:
    tried = {name.split(",")[0] for name in CASES}
    assert ROWS.keys() - tried == {  # of other types, or by the row of another case
        "BROADCAST_TO", "CAST", "DEQUANTIZE", "LOG", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "POW",
        "QUANTIZE", "RELU_0_TO_1", "RSQRT", "SELECT_V2", "SHAPE", "SIGN", "SQRT",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["CONV_2D, quantized", "DEPTHWISE_CONV_2D, quantized"])
def test_quantized_convolutions_run_in_integers(name: str, tmp_path: Path) -> None:
    network = integer(load(_saved(CASES[name], tmp_path)))
    assert not onnx_models.islands(network)
    assert "Conv2d" in onnx_models.operations(network)
    (ours,) = onnx_models.run_network(network, feed(name))
    with np.load(EXPECTED) as expected:
        assert np.abs(ours.astype(int) - expected[f"{name}: 0"]).max() <= 1


def test_a_quantized_file_builds_and_keeps_its_types_and_names(tmp_path: Path) -> None:
    bundle = build(_saved(CASES["CONV_2D, quantized"], tmp_path), tmp_path)
    assert [(tensor.name, tensor.dtype) for tensor in (*bundle.inputs, *bundle.outputs)] == [
        ("x", "int8"),
        ("y", "int8"),
    ]
    verified(bundle)


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_models_run_whole_in_integers(name: str, tmp_path: Path) -> None:
    path = SHARED / f"{name}.tflite"
    if not path.exists():
        pytest.skip("no shared models")
    network = integer(load(path))
    assert not onnx_models.islands(network)
    assert {type(operator.operation).__name__ for operator in network.operators} <= {
        "Conv2d", "Binary", "Mean", "Softmax"
    }  # fmt: skip
    verified(build(path, tmp_path))


# --- mistakes -----------------------------------------------------------------------------------------------


def one(name: str, inputs: list[Tensor], **keywords: object) -> bytes:
    names = [tensor.name for tensor in inputs]
    tensors = [*inputs, Tensor("y", (1, 4))]
    return written(tensors, [Operator(name, names, ["y"], **keywords)], ["x"], ["y"])  # type: ignore[arg-type]


X = Tensor("x", (1, 4))

REFUSED = {
    "a custom operator": (one("Detection_PostProcess", [X], custom=True), r"PostProcess \(custom\)"),
    "a variable": (one("READ_VARIABLE", [X]), r"operators that edgec doesn't read: READ_VARIABLE"),
    "16 bits": (one("RELU", [Tensor("x", (1, 4), "int16", [0.1])]), r"int16x8"),
    "a computed shape": (one("TRANSPOSE", [X, Tensor("s", (2,), "int32")]), "axes are computed when"),
    "nothing before it": (one("ADD", [X, Tensor("z", (1, 4))]), r"nothing computes tensor 'z'"),
    "too few bytes": (one("ADD", [X, Tensor("z", (9, 9), array=np.zeros(3, np.float32))]), r"'z'.*12 bytes"),
    "another kind of file": (b"<html>", "not a TensorFlow Lite file"),
    "an ellipsis": (
        one("STRIDED_SLICE", [X, *(constant(n, np.zeros(2, np.int32)) for n in "bes")],
            options=("StridedSliceOptions", {"EllipsisMask": 1})),
        r"operator 0 \(STRIDED_SLICE\): an ellipsis",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(ModelError, match=rf"^model\.tflite: .*{reason}") as error:
        load(_saved(content, tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["CONV_2D, quantized", "STRIDED_SLICE", "UNPACK", "SPLIT_V"])
def test_damaged_files_end_in_one_line(name: str, tmp_path: Path) -> None:
    dice, refused = np.random.default_rng(0), 0
    for _ in range(150):
        data = bytearray(CASES[name])
        for _ in range(int(dice.integers(1, 5))):
            data[int(dice.integers(len(data)))] = int(dice.integers(256))
        end = len(data) if dice.random() < 0.8 else int(dice.integers(len(data)))
        try:
            load(_saved(bytes(data[:end]), tmp_path))
        except EdgecError as error:
            assert "\n" not in str(error)  # noqa: PT017  # most are read as something else
            refused += 1
    assert refused


def _saved(content: bytes, folder: Path) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path
