"""Quantization after training: what is written, that it runs, and that calibration data are checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.bench.accuracy import TASKS, Task, evaluate, found, onnx_predictor, qdq_predictor
from edgec.compiler.compress.calibration import load_calibration, synthetic
from edgec.compiler.compress.observers import OBSERVERS, observe
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.compress.scales import quantization
from edgec.compiler.compress.weights import quantize_operand, quantize_weights
from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.integer import integer
from edgec.compiler.model import Model, is_qdq, serialize
from edgec.errors import CalibrationError, DataError, ModelError
from edgec.kernels.isa.x86 import AVX2BYTES

SHARED = Path(__file__).parents[3] / "../shared"
random = np.random.default_rng(11)
Node = tuple[str, list[str], str, dict[str, Any]]
Shape = tuple[int, ...]


def normal(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def made(
    folder: Path,
    nodes: Sequence[Node],
    constants: dict[str, Any] | None = None,
    inputs: dict[str, Shape] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 14,
) -> Model:
    """A normalized model made of (operator, inputs, output, attributes)."""
    inputs = inputs or {"x": (1, 4, 8, 8)}
    graph = helper.make_graph(
        [helper.make_node(op, read, result.split(), **attributes) for op, read, result, attributes in nodes],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "net.onnx"
    path.write_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
    return load(path, {})


_POOL = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def conv(source: str, result: str, weights: str = "w", **attributes: Any) -> Node:
    return ("Conv", [source, weights], result, {"pads": [1, 1, 1, 1]} | attributes)


def run(model: bytes, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def sqnr(model: Model, quantized: Model) -> float:
    """Signal to quantization noise of the first output, in dB, on a sample that calibration saw."""
    feed = synthetic(model).feed(0)
    expected, actual = run(serialize(model), feed)[0], run(serialize(quantized), feed)[0]
    noise = float(np.sum((expected - actual) ** 2))
    return np.inf if noise == 0 else 10 * np.log10(float(np.sum(expected**2)) / noise)


def verified(model: Model, dense_per_tensor: bool = False) -> Model:
    """Quantize on synthetic data and assert that the result is valid ONNX with the same interface."""
    quantized = quantize(model, synthetic(model), dense_per_tensor=dense_per_tensor)
    onnx.checker.check_model(serialize(quantized), full_check=True)
    for before, after in (
        (model.ir.graph.inputs, quantized.ir.graph.inputs),
        (model.ir.graph.outputs, quantized.ir.graph.outputs),
    ):
        assert [(v.name, v.dtype, v.shape) for v in before] == [(v.name, v.dtype, v.shape) for v in after]
    return quantized


def producer(value: onnx_ir.Value | None) -> str:
    return value.producer().op_type if value is not None and value.producer() is not None else ""


def in_int8(model: Model) -> list[str]:
    """Operators that read DequantizeLinear and whose result, after Relu and Clip, goes to QuantizeLinear."""
    found = []
    for node in model.ir.graph:
        if (
            node.op_type in ("QuantizeLinear", "DequantizeLinear")
            or producer(node.inputs[0]) != "DequantizeLinear"
        ):
            continue
        value = node.outputs[0]
        while len(value.consumers()) == 1 and value.consumers()[0].op_type in ("Relu", "Clip"):
            value = value.consumers()[0].outputs[0]
        if [consumer.op_type for consumer in value.consumers()] == ["QuantizeLinear"]:
            found.append(node.op_type)
    return found


def scale_of(model: Model, name: str) -> tuple[float, int]:
    """Scale and zero point of the tensor `name`."""
    (node,) = (
        n
        for n in model.ir.graph
        if n.op_type == "QuantizeLinear" and n.outputs[0].name == f"{name}_quantized"
    )
    scale, zero_point = (value.const_value.numpy() for value in node.inputs[1:])
    return float(scale), int(zero_point)


ONE: Shape = (1, 4, 8, 8)
OPERATORS: dict[str, tuple[list[Node], dict[str, Any]]] = {
    "conv": ([conv("x", "y")], {"w": normal(6, 4, 3, 3)}),
    "depthwise": ([conv("x", "y", group=4, strides=[2, 2])], {"w": normal(4, 1, 3, 3)}),
    "dilated": ([conv("x", "y", group=2, dilations=[2, 1])], {"w": normal(6, 2, 3, 3)}),
    "conv relu": ([conv("x", "t"), ("Relu", ["t"], "y", {})], {"w": normal(6, 4, 3, 3)}),
    "conv clip": ([conv("x", "t"), ("Clip", ["t", "a", "b"], "y", {})],
                  {"w": normal(6, 4, 3, 3), "a": np.float32(0), "b": np.float32(6)}),
    "gemm": ([("Flatten", ["x"], "f", {}), ("Gemm", ["f", "w", "b"], "y", {})],
             {"w": normal(256, 5), "b": normal(5)}),
    "matmul": ([("MatMul", ["x", "w"], "y", {})], {"w": normal(8, 5)}),
    "add": ([("AveragePool", ["x"], "t", _POOL), ("Add", ["x", "t"], "y", {})], {}),
    "add twice": ([("Add", ["x", "x"], "y", {})], {}),
    "add constant": ([("Add", ["c", "x"], "y", {})], {"c": normal(4, 1, 1)}),
    "sub": ([("Sub", ["x", "c"], "y", {})], {"c": normal(4, 1, 1)}),
    "div": ([("Div", ["x", "c"], "y", {})], {"c": np.float32(3)}),
    "mul": ([("AveragePool", ["x"], "t", _POOL), ("Mul", ["x", "t"], "y", {})], {}),
    "concat": ([("Relu", ["x"], "t", {}), ("Concat", ["x", "t"], "y", {"axis": 1})], {}),
    "layer norm": ([("Flatten", ["x"], "f", {}), ("ReduceMean", ["f"], "m", {"axes": [1]}),
                    ("Sub", ["f", "m"], "d", {}), ("Mul", ["d", "d"], "q", {}),
                    ("ReduceMean", ["q"], "v", {"axes": [1]}), ("Add", ["v", "e"], "w", {}),
                    ("Sqrt", ["w"], "r", {}), ("Div", ["d", "r"], "y", {})], {"e": np.float32(1e-5)}),
    "pad": ([("Relu", ["x"], "t", {}), ("Pad", ["t", "p", "v"], "y", {})],
            {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "v": np.float32(7)}),
    "max pool": ([("Relu", ["x"], "t", {}),
                  ("MaxPool", ["t"], "y", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})], {}),
    "average pool": ([("AveragePool", ["x"], "y", {"kernel_shape": [2, 2]})], {}),
    "global pool": ([("GlobalAveragePool", ["x"], "y", {})], {}),
    "mean": ([("ReduceMean", ["x"], "y", {"axes": [2, 3]})], {}),
    "softmax": ([("Softmax", ["x"], "y", {"axis": 1})], {}),
    "resize": ([("Relu", ["x"], "t", {}), ("Resize", ["t", "", "s"], "y", {})],
               {"s": np.array([1, 1, 2, 2], np.float32)}),
    "slice": ([("Relu", ["x"], "t", {}), ("Slice", ["t", "b", "e"], "y", {})],
              {"b": np.array([0, 1]), "e": np.array([1, 3])}),
    "gather": ([("Relu", ["x"], "t", {}), ("Gather", ["t", "i"], "y", {"axis": 1})], {"i": np.int64(2)}),
    "shuffle": ([("Relu", ["x"], "t", {}), ("Reshape", ["t", "s"], "r", {}),
                 ("Transpose", ["r"], "y", {"perm": [0, 2, 1, 3, 4]})], {"s": np.array([1, 2, 2, 8, 8])}),
    "depth to space": ([("Relu", ["x"], "t", {}), ("DepthToSpace", ["t"], "y", {"blocksize": 2})], {}),
    **{op: ([(op, ["x"], "y", {})], {}) for op in
       ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Erf", "Exp", "Softplus")},
}  # fmt: skip


@pytest.mark.parametrize("case", OPERATORS)
def test_operators_run_in_int8(case: str, tmp_path: Path) -> None:
    nodes, constants = OPERATORS[case]
    model = made(tmp_path, nodes, constants)
    quantized = verified(model)
    computing = [n for n in quantized.ir.graph if n.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    tails = [
        n for n in computing if n.op_type in ("Relu", "Clip") and producer(n.inputs[0]) in ("Conv", "Gemm")
    ]
    assert in_int8(quantized) == [n.op_type for n in computing if n not in tails]
    assert producer(quantized.ir.graph.outputs[0]) == "DequantizeLinear"
    assert is_qdq(quantized)
    assert sqnr(model, quantized) > 25


def test_weights_are_symmetric_per_channel_and_biases_int32(tmp_path: Path) -> None:
    weights, bias = normal(6, 4, 3, 3), normal(6)
    nodes: list[Node] = [("Conv", ["x", "w", "b"], "y", {})]
    quantized = verified(made(tmp_path, nodes, {"w": weights, "b": bias}))
    (node,) = (n for n in quantized.ir.graph if n.op_type == "Conv")
    source, weight, offset = (value.producer() for value in node.inputs)  # type: ignore[union-attr]
    integers, scales, zero_points = (value.const_value.numpy() for value in weight.inputs)
    assert (integers.dtype, scales.shape, weight.attributes["axis"].value) == (np.int8, (6,), 0)
    assert not zero_points.any()
    assert list(np.abs(integers.astype(int)).reshape(6, -1).max(axis=1)) == [127] * 6
    np.testing.assert_allclose(scales, np.abs(weights).reshape(6, -1).max(axis=1) / 127, rtol=1e-6)
    sums, units = (value.const_value.numpy() for value in offset.inputs)
    assert sums.dtype == np.int32
    input_scale = source.inputs[1].const_value.numpy()
    np.testing.assert_array_equal(units, (input_scale.astype(np.float64) * scales).astype(np.float32))
    np.testing.assert_allclose(sums * units, bias, atol=0.05)  # apart from bias correction


def test_dense_layers_have_one_scale_if_asked_for(tmp_path: Path) -> None:
    nodes: list[Node] = [
        conv("x", "a", "several"),
        ("Conv", ["a", "whole"], "b", {}),
        ("Conv", ["a", "grouped"], "c", {"group": 4}),
        ("Concat", ["b", "c"], "d", {"axis": 1}),
        ("Flatten", ["d"], "e", {}),
        ("Gemm", ["e", "gemm", "bias"], "f", {}),
        ("Reshape", ["f", "shape"], "g", {}),
        ("MatMul", ["g", "rows"], "y", {}),
    ]
    constants = {
        "several": normal(4, 4, 3, 3), "whole": normal(6, 4, 8, 8), "grouped": normal(4, 1, 8, 8),
        "gemm": normal(10, 12), "bias": normal(12), "shape": np.array([3, 4]), "rows": normal(4, 5),
    }  # fmt: skip
    model = made(tmp_path, nodes, constants)
    quantized = verified(model, dense_per_tensor=True)
    products = [node for node in quantized.ir.graph if node.op_type in ("Conv", "Gemm")]
    scales = {}
    for node, read in zip(products, ("several", "whole", "grouped", "gemm", "rows"), strict=True):
        parts = [value.producer().inputs for value in node.inputs[1:]]  # type: ignore[union-attr]
        scales[read] = [part.const_value.shape.rank() for inputs in parts for part in inputs[1:]]
    per_channel, per_tensor = [1, 1, 1], [0, 0, 0]  # weights' scale and zero point, bias's scale
    assert scales == {
        "several": per_channel, "whole": per_tensor, "grouped": per_channel, "gemm": per_tensor,
        "rows": per_channel,
    }  # fmt: skip
    assert sqnr(model, quantized) > 25


def test_what_moves_data_shares_scale_and_zero_point(tmp_path: Path) -> None:
    nodes: list[Node] = [
        conv("x", "t"),
        ("MaxPool", ["t"], "m", {"kernel_shape": [2, 2]}),
        ("Transpose", ["m"], "r", {"perm": [0, 2, 3, 1]}),
        ("Split", ["r"], "a b", {"axis": 3}),
        ("Mul", ["a", "b"], "y", {}),
    ]
    quantized = verified(made(tmp_path, nodes, {"w": normal(6, 4, 3, 3)}))
    assert len({scale_of(quantized, name) for name in ("t", "m", "r", "a", "b")}) == 1


def test_concatenated_results_share_a_scale_where_nothing_else_reads_them(tmp_path: Path) -> None:
    nodes: list[Node] = [
        conv("x", "small"),
        conv("x", "large", "w2"),
        conv("x", "shared", "w3"),
        ("Sigmoid", ["x"], "gate", {}),
        ("Concat", ["small", "large", "shared", "gate"], "y", {"axis": 1}),
        ("Tanh", ["shared"], "z", {}),
    ]
    constants = {name: normal(4, 4, 3, 3) * size for name, size in (("w", 0.1), ("w2", 1), ("w3", 0.1))}
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    quantized = verified(made(tmp_path, nodes, constants, outputs=("y", "z")))
    assert scale_of(quantized, "small") == scale_of(quantized, "large")
    assert scale_of(quantized, "shared") != scale_of(quantized, "large")
    assert scale_of(quantized, "gate") == (1 / 256, -128)


def test_known_ranges_need_no_samples(tmp_path: Path) -> None:
    quantized = verified(made(tmp_path, [("Softmax", ["x"], "t", {"axis": 1}), ("Relu", ["t"], "y", {})]))
    assert scale_of(quantized, "t") == (1 / 256, -128)


def test_a_softmax_of_long_rows_has_a_step_that_suits_them(tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("Reshape", ["x", "s"], "r", {}),
        ("Softmax", ["r"], "y", {}),
        ("Add", ["r", "minus"], "low", {}),
        ("Sigmoid", ["low"], "z", {}),
    ]
    constants = {"s": np.array([1, 256]), "minus": np.float32(-20)}
    model = made(tmp_path, nodes, constants, outputs=("y", "z"))
    quantized = verified(model)
    scale, zero_point = scale_of(quantized, "y")
    assert scale < 1 / 512
    assert zero_point == -128
    assert scale_of(quantized, "z") == (1 / 256, -128)  # what is rare may be all that matters
    assert sqnr(model, quantized) > 30


def test_a_clamp_that_others_read_around_keeps_the_result_of_the_convolution(tmp_path: Path) -> None:
    nodes: list[Node] = [
        conv("x", "t"), ("Relu", ["t"], "r", {}), ("AveragePool", ["t"], "p", _POOL),
        ("Add", ["p", "r"], "y", {}),
    ]  # fmt: skip
    quantized = verified(made(tmp_path, nodes, {"w": normal(4, 4, 3, 3)}))
    assert in_int8(quantized) == ["Conv", "Relu", "AveragePool", "Add"]
    assert scale_of(quantized, "t") != scale_of(quantized, "r")


FUNCTIONS: dict[str, list[Node]] = {
    "silu": [("Sigmoid", ["x"], "s", {}), ("Mul", ["x", "s"], "y", {})],
    "gelu": [
        ("Div", ["x", "root"], "a", {}), ("Erf", ["a"], "b", {}), ("Add", ["b", "one"], "c", {}),
        ("Mul", ["x", "c"], "d", {}), ("Mul", ["d", "half"], "y", {}),
    ],
    "mish": [("Softplus", ["x"], "a", {}), ("Tanh", ["a"], "b", {}), ("Mul", ["b", "x"], "y", {})],
    "hard swish": [
        ("Add", ["x", "three"], "a", {}), ("Clip", ["a", "zero", "six"], "b", {}),
        ("Mul", ["x", "b"], "c", {}), ("Div", ["c", "six"], "y", {}),
    ],
    "a square": [("Mul", ["x", "x"], "y", {})],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_one_value_is_one_table(name: str, tmp_path: Path) -> None:
    """However many nodes it is: nothing is rounded in between."""
    numbers = {"root": np.sqrt(2), "one": 1, "half": 0.5, "three": 3, "zero": 0, "six": 6}
    model = made(tmp_path, FUNCTIONS[name], {name: np.float32(number) for name, number in numbers.items()})
    quantized = verified(model)
    kinds = [type(operator.operation).__name__ for operator in integer(quantized).operators]
    assert kinds == ["Quantize", "Lookup", "Dequantize"]
    assert sqnr(model, quantized) > 35


def test_a_part_of_a_function_that_others_read_has_a_scale_of_its_own(tmp_path: Path) -> None:
    nodes: list[Node] = [("Sigmoid", ["x"], "s", {}), ("Mul", ["x", "s"], "m", {}), conv("s", "t")]
    nodes += [("Add", ["m", "t"], "y", {})]
    model = made(tmp_path, nodes, {"w": normal(4, 4, 3, 3)})
    quantized = verified(model)
    assert in_int8(quantized) == ["Sigmoid", "Mul", "Conv", "Add"]
    assert sqnr(model, quantized) > 25


def test_guards_against_nan_are_left_out(tmp_path: Path) -> None:
    """Codes are never NaN."""
    nodes: list[Node] = [
        ("Softmax", ["x"], "s", {"axis": 1}), ("IsNaN", ["s"], "n", {}),
        ("Where", ["n", "zero", "s"], "t", {}), conv("t", "y"),
    ]  # fmt: skip
    model = made(tmp_path, nodes, {"w": normal(4, 4, 3, 3), "zero": np.float32(0)})
    quantized = verified(model)
    assert not integer(quantized).floats
    assert sqnr(model, quantized) > 25


def test_other_operators_stay_in_float(tmp_path: Path) -> None:
    nodes: list[Node] = [
        conv("x", "t"),
        ("Sqrt", ["t"], "s", {}),
        ("Add", ["s", "c"], "a", {}),
        conv("a", "y", "w2"),
    ]
    constants = {"w": np.abs(normal(4, 4, 3, 3)), "w2": normal(6, 4, 3, 3), "c": normal(4, 1, 1)}
    model = made(tmp_path, [("Exp", ["x"], "e", {}), conv("e", "t"), *nodes[1:]], constants)
    quantized = verified(model)
    assert in_int8(quantized) == ["Exp", "Conv", "Conv"]
    assert sqnr(model, quantized) > 25


def test_data_movement_in_front_of_float_is_left_alone(tmp_path: Path) -> None:
    nodes: list[Node] = [("Transpose", ["x"], "t", {"perm": [0, 2, 3, 1]}), ("Sqrt", ["t"], "y", {})]
    model = made(tmp_path, nodes)
    assert not is_qdq(quantize(model, synthetic(model)))


@pytest.mark.parametrize("next_operator", ["Relu", "Gemm"])
def test_a_model_that_cannot_be_observed(next_operator: str, tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    foo = helper.make_node("Foo", ["x"], ["t"], domain="acme")
    follower = helper.make_node(next_operator, ["t"] if next_operator == "Relu" else ["t", "w"], ["y"])
    between = helper.make_tensor_value_info("t", TensorProto.FLOAT, [1, 3])
    weights = [numpy_helper.from_array(normal(3, 3), "w")]
    graph = helper.make_graph([foo, follower], "g", [value], [result], weights, value_info=[between])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("acme", 1)]
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    model = load(path, {})
    if next_operator == "Relu":  # nothing to quantize: what can't be compiled is for the lowering to say
        assert not is_qdq(quantize(model, synthetic(model)))
    else:
        with pytest.raises(ModelError, match=r"acme:Foo[^\n]*$"):
            quantize(model, synthetic(model))


def test_outputs_keep_their_names_wherever_they_are_read(tmp_path: Path) -> None:
    nodes: list[Node] = [conv("x", "y"), ("Relu", ["y"], "z", {})]
    quantized = verified(made(tmp_path, nodes, {"w": normal(4, 4, 3, 3)}, outputs=("y", "z")))
    assert in_int8(quantized) == ["Conv", "Relu"]


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    model = made(tmp_path, [conv("x", "y")], {"w": normal(6, 4, 3, 3)})
    before = serialize(model)
    assert serialize(quantize(model, synthetic(model))) == serialize(quantize(model, synthetic(model)))
    assert serialize(model) == before
    assert quantize(model, synthetic(model)).calibration == synthetic(model).provenance


@pytest.mark.parametrize("observer", OBSERVERS)
def test_observers_cover_what_they_say(observer: str, tmp_path: Path) -> None:
    model = made(tmp_path, [("Abs", ["x"], "y", {})], inputs={"x": (1, 100_000)})
    samples = np.linspace(-1, 1, 200_000, dtype=np.float32).reshape(2, 1, 100_000).copy()
    samples[0, 0, 0] = -1000
    ranges = observe(model.ir, ["x", "y"], [], load_calibration({"x": samples}, model), observer).ranges
    low, high = ranges["x"]
    assert low == (-1000 if observer == "min-max" else pytest.approx(-1, abs=0.5))
    assert high == pytest.approx(1, abs=0.5)
    assert ranges["y"][1] == (1000 if observer == "min-max" else pytest.approx(1, abs=0.5))


def test_what_a_front_end_takes_the_logarithm_of_stays_in_float(tmp_path: Path) -> None:
    """Powers differ a millionfold, and a logarithm of what an int8 step makes zero isn't finite."""
    quiet = np.float32(1e-6)
    nodes: list[Node] = [
        conv("x", "a"), ("Mul", ["a", "a"], "b", {}), ("Add", ["b", "quiet"], "c", {}),
        ("Log", ["c"], "d", {}), conv("d", "y", "v"),
    ]  # fmt: skip
    model = made(tmp_path, nodes, {"w": normal(6, 4, 3, 3), "v": normal(2, 6, 3, 3), "quiet": quiet})
    quantized = quantize(model, synthetic(model))
    assert weights_of(quantized) == ["Initializer", "DequantizeLinear"]
    assert sqnr(model, quantized) > 30


def test_a_logarithm_at_the_end_leaves_the_network_in_int8(tmp_path: Path) -> None:
    nodes: list[Node] = [conv("x", "a"), ("Softmax", ["a"], "b", {"axis": 1}), ("Log", ["b"], "y", {})]
    model = made(tmp_path, nodes, {"w": normal(6, 4, 3, 3)})
    assert weights_of(quantize(model, synthetic(model))) == ["DequantizeLinear"]


def weights_of(model: Model) -> list[str]:
    """What computes the weights of convolutions."""
    producers = [node.inputs[1].producer() for node in model.ir.graph if node.op_type == "Conv"]
    return ["Initializer" if producer is None else producer.op_type for producer in producers]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    weights = normal(6, 4, 3, 3)
    weights[1, 2, 0, 0] = value
    model = made(tmp_path, [conv("x", "y")], {"w": weights})
    with pytest.raises(ModelError, match=r"^node 'Conv_0' \(Conv\): 'w' holds NaN or infinity$"):
        quantize(model, synthetic(model))


@pytest.mark.parametrize("operator", ["Sqrt", "Mul"])  # NaN; finite in float64, too large for float32
def test_values_that_do_not_stay_finite_are_named(operator: str, tmp_path: Path) -> None:
    one = ("Sqrt", ["x"], "t", {}) if operator == "Sqrt" else ("Mul", ["x", "c"], "t", {})
    model = made(tmp_path, [one, conv("t", "y")], {"c": np.float32(1e38), "w": normal(6, 4, 3, 3)})
    with pytest.raises(CalibrationError, match=r"^value 't' is NaN or infinite on the calibration samples$"):
        quantize(model, load_calibration({"x": normal(3, *ONE) * 50}, model))


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
def test_quantizations_cover_their_range_and_zero(one: float, other: float) -> None:
    low, high = sorted((one, other))
    chosen = quantization(low, high)
    assert chosen.scale > 0
    assert -128 <= chosen.zero_point <= 127
    assert np.float32(chosen.scale) == chosen.scale
    for end in (low, high):
        q = np.clip(np.rint(end / chosen.scale) + chosen.zero_point, -128, 127)
        assert abs((q - chosen.zero_point) * chosen.scale - end) <= chosen.scale * 1.001


@given(st.data())
def test_a_reduced_range_fits_pairs_of_byte_products_and_no_more_than_that(data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    window = data.draw(st.sampled_from(((), (1, 1), (3, 3), (2, 5))))
    shape = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9)), *window
    weights = generator.normal(size=shape) * np.where(generator.random(shape) < 0.5, 1, 1e3)
    if data.draw(st.booleans()):  # ties, and channels of zeros
        weights = generator.integers(-8, 9, shape) / 4
    bias, means = np.zeros(shape[0], np.float32), np.zeros(shape[1])
    whole, reduced = (
        quantize_weights(weights.astype(np.float32), bias, 0.1, means, reduce_range=chosen)
        for chosen in (False, True)
    )
    pixels = np.moveaxis(reduced.weights.reshape(*shape[:2], *(window or (1, 1))), 1, -1)
    assert AVX2BYTES.accepts(np.ascontiguousarray(pixels))
    grown = reduced.weight_scales / whole.weight_scales
    assert np.all(grown >= 1)
    assert np.all(grown <= np.float32(2.0))
    for rows, scale in zip(pixels.astype(int), grown, strict=True):
        flat = rows.reshape(len(rows), -1), rows.reshape(-1, rows.shape[-1])
        padded = [np.pad(runs, ((0, 0), (0, runs.shape[1] % 2))).reshape(-1, 2) for runs in flat]
        largest = max(np.abs(pairs.clip(*limits).sum(axis=1)).max() for pairs in padded
                      for limits in ((0, None), (None, 0)))  # fmt: skip
        if rows.any():  # a channel of zeros has a share of the layer's largest scale
            assert scale == 1 or largest >= 127  # rounded down twice


def test_a_reduced_range_leaves_depthwise_weights_as_they_are() -> None:
    weights, bias = np.full((4, 1, 3, 3), 0.5, np.float32), np.zeros(4, np.float32)
    whole, reduced = (
        quantize_weights(weights, bias, 0.1, np.zeros(4), 4, reduce_range=chosen) for chosen in (False, True)
    )
    assert np.array_equal(whole.weights, reduced.weights)


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e3), st.floats(0, 1e6), st.booleans())
def test_biases_fit_int32_whatever_the_weights(
    seed: int, input_scale: float, size: float, per_tensor: bool
) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(5, 3)) * 10.0 ** generator.integers(-12, 3, (5, 1))
    weights[2] = 0
    bias = (generator.normal(size=5) * size).astype(np.float32)
    weights, means = weights.astype(np.float32), np.zeros(3)
    result = quantize_weights(weights, bias, input_scale, means, per_tensor=per_tensor)
    assert result.weight_scales.shape == result.bias_scales.shape == (() if per_tensor else (5,))
    assert np.all(np.abs(result.weights.astype(int)) <= 127)
    assert np.all(result.weight_scales > 0)
    restored = result.bias * result.bias_scales.astype(np.float64)
    np.testing.assert_allclose(restored, bias, rtol=1e-6, atol=float(result.bias_scales.max()) * 0.51)


@given(st.integers(-45, 0), st.integers(-19, 0), st.floats(0, 1), st.booleans())
def test_weights_that_float32_hardly_holds_have_scales(
    power: int, input_power: int, size: float, per_tensor: bool
) -> None:
    weights = np.array([[10.0**power, -(10.0**power)], [0, 0]], np.float32)
    bias = np.array([size * 10.0**power, size], np.float32)
    result = quantize_weights(weights, bias, 10.0**input_power, np.zeros(2), per_tensor=per_tensor)
    for scales in (result.weight_scales, result.bias_scales):
        assert np.all(scales >= np.finfo(np.float32).tiny)
    restored = result.weights * result.weight_scales[..., np.newaxis].astype(np.float64)
    coarse = result.weight_scales[..., np.newaxis] * 0.51
    assert np.all(np.abs(restored - weights) <= coarse)
    assert np.all(np.abs(result.weights.astype(int)).sum(axis=1) * 255 + np.abs(result.bias) < 2**31)


@pytest.mark.parametrize("per_tensor", [False, True])
def test_bias_correction_takes_back_the_mean_error(per_tensor: bool) -> None:
    weights, inputs, bias = normal(6, 8), np.abs(normal(500, 8)) + 2, np.zeros(6, np.float32)
    means = inputs.mean(axis=0, dtype=np.float64)
    result = quantize_weights(weights, bias, 1e-4, means, per_tensor=per_tensor)
    rounded = result.weights * result.weight_scales[..., np.newaxis].astype(np.float64)
    corrected = inputs @ rounded.T + result.bias * result.bias_scales.astype(np.float64)
    error, uncorrected = corrected - inputs @ weights.T, inputs @ rounded.T - inputs @ weights.T
    assert np.all(np.abs(error.mean(axis=0)) < 1e-4)
    assert np.abs(uncorrected.mean(axis=0)).max() > 1e-3


def test_operands_round_to_the_nearest() -> None:
    array = normal(4, 1, 1)
    integers, chosen = quantize_operand(array)
    restored = (integers.astype(float) - chosen.zero_point) * chosen.scale
    np.testing.assert_allclose(restored, array, atol=chosen.scale / 2 * 1.01)


@pytest.mark.parametrize(
    ("shape", "given", "samples"),
    [
        ((1, 4, 8, 8), (1, 4, 8, 8), 1),
        ((1, 4, 8, 8), (5, 1, 4, 8, 8), 5),
        ((1, 4, 8, 8), (5, 4, 8, 8), 5),
        ((2, 4), (2, 4), 1),
        ((2, 4), (3, 2, 4), 3),
    ],
)
def test_calibration_shapes(shape: Shape, given: Shape, samples: int, tmp_path: Path) -> None:
    model = made(tmp_path, [("Relu", ["x"], "y", {})], inputs={"x": shape})
    path = tmp_path / "data.npz"
    np.savez(path, x=normal(*given).astype(np.float64))
    calibration = load_calibration(path, model)
    assert calibration.samples["x"].shape == (samples, *shape)
    assert calibration.samples["x"].dtype == np.float32
    assert (calibration.provenance.kind, calibration.provenance.samples) == ("data", samples)
    assert calibration.provenance == load_calibration(dict(np.load(path)), model).provenance


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": normal(1, 4)}, "has arrays 'z'; the model's inputs are 'x', 'w'"),
        ({"x": normal(1, 4)}, "has arrays 'x'; the model's inputs are 'x', 'w'"),
        ({"x": normal(5, 5), "w": normal(5, 4)}, "'x' has shape [5, 5], expected [1, 4] or [samples, 1, 4]"),
        ({"x": normal(5, 4), "w": normal(3, 4)}, "numbers of samples differ between inputs: 'x' 5, 'w' 3"),
        ({"x": normal(0, 4), "w": normal(0, 4)}, "'x' holds no samples"),
        ({"x": normal(5, 4) * np.nan, "w": normal(5, 4)}, "'x' holds NaN or infinity"),
        ({"x": normal(5, 4).astype(complex), "w": normal(5, 4)}, "'x' is complex128, expected float32"),
        ({"x": np.array(["a"]), "w": normal(5, 4)}, "'x' is <U1, expected float32"),
    ],
)
def test_calibration_mistakes(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    model = made(tmp_path, [("Add", ["x", "w"], "y", {})], inputs={"x": (1, 4), "w": (1, 4)})
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as allow_pickle's bool
    with pytest.raises(CalibrationError) as raised:
        load_calibration(path, model)
    assert message in str(raised.value)
    assert str(raised.value).startswith("data.npz: ")


def test_unreadable_calibration(tmp_path: Path) -> None:
    model = made(tmp_path, [("Relu", ["x"], "y", {})])
    with pytest.raises(CalibrationError, match="no such file"):
        load_calibration(tmp_path / "missing.npz", model)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(CalibrationError, match=r"text\.npz: not an \.npz file"):
        load_calibration(tmp_path / "text.npz", model)
    np.save(tmp_path / "one.npy", normal(1, 4, 8, 8))
    with pytest.raises(CalibrationError, match=r"one\.npy: holds one unnamed array"):
        load_calibration(tmp_path / "one.npy", model)


def test_synthetic_samples_are_reproducible(tmp_path: Path) -> None:
    model = made(tmp_path, [("Relu", ["x"], "y", {})])
    one, same, other = synthetic(model), synthetic(model), synthetic(model, seed=1)
    assert one.provenance == same.provenance
    assert (one.provenance.kind, one.provenance.seed) == ("synthetic", 0)
    assert one.provenance.sha256 != other.provenance.sha256


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS[:-1], ids=lambda task: task.model)
def test_accuracy_of_real_models(task: Task) -> None:
    try:
        data, path = task.read(SHARED), found(task.model, SHARED)
    except DataError:
        pytest.skip("needs the development data")
    model = load(path, {})
    int8 = qdq_predictor(model, {str(model.ir.graph.inputs[0].name): data.calibration}, "min-max")
    result = evaluate(task, data, onnx_predictor(path.read_bytes(), optimize=True), int8)
    assert result.passed, result
