"""What is emitted for one small model on each platform.

`pytest tests/golden --update-golden` accepts a change.

The model is a convolution, a mean and a dense layer. Golden files hold no machine code, nor what is measured
of it, nor versions: they are the same on every machine.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgec.bench.bundle import Bundle
from tests.compiler.building import build
from tests.golden import emitted

TARGETS = ("x86-64-v3-int8", "arm64-fp32", "cortex-m4-int8", "riscv32-int8")
"""Linux, several instruction sets, either precision; microcontrollers with an FPU and without."""

LINES = 200
"""Of a difference, that are shown."""


def numbers(*shape: int) -> np.ndarray:
    """Multiples of 1/64 between -1 and 1 in no order, the same with every version of numpy."""
    return ((np.arange(np.prod(shape)) * 37 + 11) % 128 / 64 - 1).astype(np.float32).reshape(shape)


def small() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "v", "d"], ["scores"], "dense", transB=1),
    ]
    weights = {"w": numbers(8, 3, 3, 3), "b": numbers(8), "v": numbers(4, 8), "d": numbers(4)}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def built(folder: Path, target: str) -> Bundle:
    path = folder / "small.onnx"
    onnx.save(small(), path)
    return build(path, folder, target, calibration={"image": numbers(8, 3, 8, 8)})


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_emitted_is_what_it_was(target: str, tmp_path: Path, update_golden: bool) -> None:
    found, folder = emitted.texts(built(tmp_path, target)), emitted.GOLDEN / target
    if update_golden:
        emitted.update(folder, found)
    lines = emitted.difference(folder, found).splitlines()
    more = [f"... and {len(lines) - LINES} lines more"] * (len(lines) > LINES)
    if lines:
        accept = "where that is wanted: pytest tests/golden --update-golden"
        pytest.fail("\n".join([*lines[:LINES], *more, accept]), pytrace=False)
    assert {"manifest.json", "include/small.h", "src/small.c", "CMakeLists.txt"} <= found.keys()


def test_a_change_is_shown_as_a_difference_and_accepted(tmp_path: Path) -> None:
    emitted.update(tmp_path, {"a.h": "one\ntwo\n", "b/c.h": "old\n"})
    assert emitted.difference(tmp_path, {"a.h": "one\ntwo\n", "b/c.h": "old\n"}) == ""
    changed = {"a.h": "one\nthree\n"}
    said = emitted.difference(tmp_path, changed).splitlines()
    assert {"-two", "+three", "-old"} <= set(said)
    emitted.update(tmp_path, changed)
    assert emitted.difference(tmp_path, changed) == ""
    assert [path.name for path in emitted.golden_files(tmp_path)] == ["a.h"]


def test_hashes_are_cut_and_symbols_numbered() -> None:
    text = f"f_{'a' * 12} f_{'b' * 12} f_{'a' * 12} {'0' * 64}"
    assert emitted.plain(text) == "f_key1 f_key2 f_key1 sha256"
