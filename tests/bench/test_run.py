from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgec.bench.bundle import Bundle
from edgec.bench.devices.device import Execution
from edgec.bench.run import pack, read_arrays, stack, unpack
from edgec.compiler.emit.manifest import Output
from edgec.errors import DataError, DeviceError

X = np.array([[-1.5, -0.25, 0, 0.25, 0.5, 1, 1.5, 2]], np.float32)
Y = np.square(np.maximum(X, 0)) * np.float32(1.000001)


@pytest.mark.parametrize("bundle", ["local_bundle", "a76_bundle"])
def test_one_sample_in_one_sample_out(bundle: str, request: pytest.FixtureRequest) -> None:
    opened: Bundle = request.getfixturevalue(bundle)
    outputs = opened.run({"x": X})
    assert outputs.keys() == {"y"}
    assert outputs["y"].shape == (1, 8)
    np.testing.assert_array_equal(outputs["y"], Y)


def test_many_samples_are_run_in_their_order(local_bundle: Bundle) -> None:
    many = np.stack([X, X * 0, X[:, ::-1]])
    outputs = local_bundle.run({"x": many})
    np.testing.assert_array_equal(outputs["y"], np.stack([Y, Y * 0, Y[:, ::-1]]))


def test_run_samples_has_the_sample_axis_in_any_case(local_bundle: Bundle) -> None:
    assert local_bundle.run_samples({"x": X})["y"].shape == (1, 1, 8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "input 'x' is missing: give float32 1x8"),
        ({"x": X, "z": X}, "no input 'z': its inputs are 'x'"),
        ({"x": X.astype(np.float64)}, "input 'x' is float64 and the model takes float32"),
        ({"x": X[0]}, "input 'x' has shape 8 and the model takes 1x8, or Sx1x8"),
        ({"x": X.reshape(1, 1, 1, 8)}, "shape 1x1x1x8"),
        ({"x": np.zeros((0, 1, 8), np.float32)}, "there are no samples"),
    ],
)
def test_wrong_inputs_are_one_line(local_bundle: Bundle, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        local_bundle.run(arrays)
    assert "\n" not in str(caught.value)


TWO = [Output("a", "float32", (2,), 8), Output("b", "int8", (3, 1), 3)]


def test_the_file_format_is_sample_by_sample_and_comes_back() -> None:
    a = np.arange(4, dtype=np.float32).reshape(2, 2)
    b = np.arange(6, dtype=np.int8).reshape(2, 3, 1)
    content = pack(TWO, {"b": b, "a": a})
    assert content == a[0].tobytes() + b[0].tobytes() + a[1].tobytes() + b[1].tobytes()
    back = unpack(TWO, said(content), "output.bin", 2)
    np.testing.assert_array_equal(back["a"], a)
    np.testing.assert_array_equal(back["b"], b)
    assert back["b"].dtype == np.int8


def said(content: bytes) -> Execution:
    return Execution("local", 0, "", "", {"output.bin": content})


def test_a_cut_off_file_is_noticed() -> None:
    with pytest.raises(DeviceError, match=r"wrote 10 bytes to output\.bin in place of 11"):
        unpack(TWO, said(bytes(10)), "output.bin", 1)


def test_inputs_must_have_as_many_samples_as_each_other(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, SimpleNamespace(inputs=TWO))
    with pytest.raises(DataError, match="'a' 2, 'b' 1"):
        stack(bundle, {"a": np.zeros((2, 2), np.float32), "b": np.zeros((3, 1), np.int8)})


def test_files_that_hold_no_arrays_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays")
    np.save(tmp_path / "one.npy", X)
    np.savez(tmp_path / "cut.npz", x=X)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:100])
    (tmp_path / "empty.npz").touch()
    np.savez(tmp_path / "object.npz", x=np.array([{}]))
    for name, message in {
        "missing.npz": "no such file",
        "text.npz": "not an .npz file",
        "cut.npz": "a damaged .npz file",
        "empty.npz": "not an .npz file",
        "one.npy": "holds one unnamed array",
        "object.npz": "holds Python objects",
    }.items():
        with pytest.raises(DataError, match=message):
            read_arrays(tmp_path / name)
