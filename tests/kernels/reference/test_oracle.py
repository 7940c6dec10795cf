"""The oracle says what ONNX says, where ONNX Runtime can't, or would die, too; else why, in one line."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.errors import UnsupportedError
from edgec.kernels.reference import isolation, oracle
from edgec.kernels.reference.isolation import Died, isolated


def model(kind: str, dtype: int, opset: int = 17, domain: str = "") -> bytes:
    """y = kind(x, z) on vectors of four."""
    x, y, z = (helper.make_tensor_value_info(name, dtype, [4]) for name in "xyz")
    graph = helper.make_graph([helper.make_node(kind, ["x", "z"], ["y"], domain=domain)], "g", [x, z], [y])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.acme", 1)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return made


def test_division_of_integers_by_zero_does_not_take_the_process_along() -> None:
    inputs = {"x": np.arange(4, dtype=np.int32), "z": np.array([0, 1, 2, 0], np.int32)}
    result = oracle.evaluate(model("Div", TensorProto.INT32), inputs)["y"]
    assert result.dtype == np.int32
    assert result.tolist() == [0, 1, 1, 0]


def test_what_onnx_runtime_lacks_the_reference_computes() -> None:
    inputs = {name: np.array([1, 2, 3, 4], np.uint16) for name in "xz"}
    assert oracle.evaluate(model("Max", TensorProto.UINT16), inputs)["y"].tolist() == [1, 2, 3, 4]


def test_what_nobody_can_run_is_one_line() -> None:
    inputs = {name: np.zeros(4, np.float32) for name in "xz"}
    with pytest.raises(UnsupportedError, match="no outputs to compare with") as error:
        oracle.evaluate(model("Frobnicate", onnx.TensorProto.FLOAT, domain="com.acme"), inputs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. "
            "Name:'r' Status Message: /onnxruntime_src/onnxruntime/core/reshape_helper.h:91 "
            "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) "
            "input_shape_size == size was false. The input tensor cannot be reshaped",
            "node 'r' (Reshape): The input tensor cannot be reshaped",
        ),
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : /a/b.cc:7 void onnxruntime::Node(int) const "
            "[with T = float] Node is lost",
            "Node is lost",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Node (a) Op (Add) [ShapeInferenceError] Incompatible dimensions",
            "Node (a) Op (Add) Incompatible dimensions",
        ),
        (
            "No registered implementation for operator 'GlobalLpPool' and domain ''. You may either add "
            "one or skip the test in 'backend_reference_test.py'. Available implementations: Abs",
            "it has no operator 'GlobalLpPool'",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : slice.h:9 FillVectorsFromInput Starts and steps shape mismatch",
            "Starts and steps shape mismatch",
        ),
        (
            "/src/clip.cc:88 void onnxruntime::Clip::Run<T>::operator()(const onnxruntime::Tensor*) "
            "const [with T = float] min->Shape().IsScalar() was false. min should be a scalar.",
            "min should be a scalar.",
        ),
        ("Python int too large to convert to C int", "an integer too large to convert to C int"),
        ("axes (1, 2) are\nnone of /dev/null", "axes (1, 2) are none of /dev/null"),
    ],
)
def test_the_insides_of_a_library_are_left_away(said: str, read: str) -> None:
    assert oracle.line(ValueError(said)) == read


def test_a_run_that_fails_is_told_in_onnx_s_words() -> None:
    shape = helper.make_tensor_value_info("s", TensorProto.INT64, [1])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "s"], ["y"], name="r")], "g", [x, shape], [y]
    )
    opsets = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    with pytest.raises(UnsupportedError) as error:
        oracle.evaluate(proto.SerializeToString(), {"x": np.zeros(4, np.float32), "s": np.array([5])})
    assert "node 'r' (Reshape): The input tensor cannot be reshaped to the requested shape" in str(
        error.value
    )
    assert "onnxruntime" not in str(error.value)


def test_what_onnx_runtime_complains_of_when_it_is_imported_is_not_heard(tmp_path: Path) -> None:
    """A stand-in for it writes what its C++ does on a machine without /sys: past Python, to descriptor 2."""
    (tmp_path / "onnxruntime.py").write_text("import os\nos.write(2, b'Error in cpuinfo')\n")
    code = (
        "import os; from edgec.kernels.reference import oracle; oracle.runtime(); os.write(2, b'heard again')"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert run.stderr == b"heard again"


def test_calls_that_die_or_hang_are_told_apart_from_results() -> None:
    def die() -> int:
        os.kill(os.getpid(), signal.SIGSEGV)
        return 0

    def hang() -> int:
        time.sleep(60)
        return 0

    large = np.arange(1 << 20)
    results = isolated([lambda: 1, die, hang, lambda: large, die], seconds=1.0)
    assert results[:3] == [1, Died("SIGSEGV"), Died("timeout")]
    assert np.array_equal(np.asarray(results[3]), large)
    assert results[4] == Died("SIGSEGV")


def test_so_they_are_where_a_process_cant_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "COPIES", False)
    monkeypatch.delattr(os, "fork")
    die, hang = partial(signal.raise_signal, signal.SIGSEGV), partial(time.sleep, 60)
    results = isolated([partial(pow, 2, 3), die, hang, partial(os.urandom, 1 << 20), die], seconds=5.0)
    assert results[:3] == [8, Died("SIGSEGV"), Died("timeout")]
    assert len(results[3]) == 1 << 20
    assert results[4] == Died("SIGSEGV")


def test_a_division_of_integers_is_evaluated_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By zero it takes the process with it that ONNX Runtime runs in."""
    monkeypatch.setattr(isolation, "COPIES", False)
    text = "g (int32[2] x, int32[2] y) => (int32[2] z) { z = Div(x, y) }"
    made = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text}')
    x, zero = np.array([6, 7], np.int32), np.zeros(2, np.int32)
    found = oracle.evaluate(made.SerializeToString(), {"x": x, "y": np.array([2, 2], np.int32)})
    assert found["z"].tolist() == [3, 3]
    with np.errstate(all="ignore"):
        oracle.evaluate(made.SerializeToString(), {"x": x, "y": zero})  # by the reference: this process lives


@pytest.mark.parametrize("opset", [13, 17])
def test_the_reference_normalizes_batches_as_at_inference(opset: int) -> None:
    """Beside an operator that ONNX Runtime doesn't take: a normalization over an even number of channels."""
    given = "(float[2,3,4,1] x, float[3] s, float[3] b, float[3] m, float[3] v)"
    text = f"{given} => (float[2,3,4,1] y, float[2,3,4,1] z)"
    body = "{ y = BatchNormalization<epsilon=0.01>(x, s, b, m, v) z = LRN<size=2>(y) }"
    made = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> g {text} {body}')
    generator = np.random.default_rng(0)
    inputs = {name: generator.random(3, np.float32) for name in "sbmv"}
    inputs["x"] = generator.standard_normal((2, 3, 4, 1)).astype(np.float32)
    s, b, m, v = (inputs[name].reshape(3, 1, 1) for name in "sbmv")
    found = oracle.evaluate(made.SerializeToString(), inputs)["y"]
    np.testing.assert_allclose(found, s * (inputs["x"] - m) / np.sqrt(v + 0.01) + b, rtol=1e-4)
