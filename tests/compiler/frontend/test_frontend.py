"""Reading models: every pass keeps what the model computes, and mistakes are one line that helps."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.compress.rewrite_arithmetic import rewrite_arithmetic
from edgec.compiler.frontend.convert_opset import convert_opset
from edgec.compiler.frontend.decompose_batch_norm import decompose_batch_norm
from edgec.compiler.frontend.explicit_pads import explicit_pads
from edgec.compiler.frontend.fold.fold_affine import fold_affine
from edgec.compiler.frontend.fold.fold_constants import fold_constants
from edgec.compiler.frontend.fold.fold_pad import fold_pad
from edgec.compiler.frontend.infer_shapes import infer_shapes
from edgec.compiler.frontend.load import PASSES, load
from edgec.compiler.frontend.name_nodes import name_nodes
from edgec.compiler.frontend.normalize_gemm import normalize_gemm
from edgec.compiler.graph import shape_of
from edgec.compiler.model import is_qdq, serialize
from edgec.errors import ModelError
from edgec.kernels.reference import oracle
from tests.compiler.onnx_models import model as parsed

EXAMPLES = Path(__file__).parents[3] / "examples"
SHARED = Path(__file__).parents[3] / "../shared/models"
REAL_MODELS = (
    "anomaly_autoencoder",
    "efficientnet_lite0",
    "fastestdet_coco",
    "fmnist_dscnn",
    "fmnist_lstm",
    "mlperf_ic_resnet8",
    "mlperf_kws_dscnn",
    "ppocrv4_rec",
    "vww_mobilenetv1",
)
SHAPES = {"ppocrv4_rec": {"x": (1, 3, 48, 320)}}
NO_SHAPES: dict[str, tuple[int, ...]] = {}
random = np.random.default_rng(7)


def proto(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str] = (1, 4, 9, 9),
    constants: dict[str, Any] | None = None,
    opset: int = 13,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model from input `x` to output `y`."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(made.domain, 1) for made in functions)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)
    return onnx.shape_inference.infer_shapes(model)


def normal(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def outputs(
    model: onnx.ModelProto | bytes, shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES
) -> list[np.ndarray]:
    serialized = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    feed = {
        value.name: generator.normal(size=shapes.get(value.name, value.shape)).astype(np.float32)
        for value in session.get_inputs()
    }
    return session.run(None, feed)


def check(before: onnx.ModelProto, after: onnx_ir.Model) -> list[str]:
    """Assert that a pass kept the outputs and made a valid model; return the operators left."""
    made = onnx_ir.to_proto(after)
    onnx.checker.check_model(made, full_check=True)
    for expected, actual in zip(outputs(before), outputs(made), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    return [node.op_type for node in after.graph]


def inferred(model: onnx.ModelProto) -> onnx_ir.Model:
    return infer_shapes(name_nodes(onnx_ir.from_proto(model)))


def batch_norm(source: str, result: str, channels: int) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    names = [f"{result}_{role}" for role in ("scale", "bias", "mean", "variance")]
    arrays = [normal(channels), normal(channels), normal(channels), np.abs(normal(channels)) + 0.1]
    node = helper.make_node("BatchNormalization", [source, *names], [result], epsilon=1e-3)
    return node, dict(zip(names, arrays, strict=True))


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_folds_into_the_convolution(operator: str, groups: int, bias: bool) -> None:
    shape = (6, 4 // groups, 3, 3) if operator == "Conv" else (4, 6 // groups, 3, 3)
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    norm, constants = batch_norm("c", "y", 6)
    model = proto(
        [helper.make_node(operator, inputs, ["c"], group=groups), norm],
        constants=constants | {"w": normal(*shape)} | ({"b": normal(6)} if bias else {}),
    )
    assert check(model, fold_affine(decompose_batch_norm(inferred(model)))) == [operator]


def test_batch_norm_after_a_shared_result_stays_as_arithmetic() -> None:
    norm, constants = batch_norm("c", "n", 6)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), norm, helper.make_node("Add", ["c", "n"], ["y"])]
    model = proto(nodes, constants=constants | {"w": normal(6, 4, 3, 3)})
    assert check(model, fold_affine(decompose_batch_norm(inferred(model)))) == ["Conv", "Mul", "Add", "Add"]


def test_a_negative_variance_is_named() -> None:
    norm, constants = batch_norm("x", "y", 4)
    constants = {
        name: -np.abs(array) if name == norm.input[4] else array for name, array in constants.items()
    }
    with pytest.raises(
        ModelError, match=r"^node 'BatchNormalization_0' \(BatchNormalization\): a variance is negative$"
    ):
        decompose_batch_norm(inferred(proto([norm], constants=constants)))


@pytest.mark.parametrize(
    ("change", "nodes"),
    [
        (decompose_batch_norm, "y = BatchNormalization(x, big, c, c, tiny)"),
        (decompose_batch_norm, "y = BatchNormalization(x, big, big, minus, half)"),
        (fold_affine, "a = Conv(x, w) y = Mul(a, big3)"),
        (fold_affine, "a = Conv(x, w, big) y = Add(a, big3)"),
        (fold_affine, "a = ConvTranspose(x, w) y = Div(a, small3)"),
        (fold_affine, "a = Conv(x, w) y = Sub(infinite3, a)"),
        (rewrite_arithmetic, "y = Div(x, small3)"),
    ],
)
def test_what_overflows_is_not_folded(change: Callable[[onnx_ir.Model], onnx_ir.Model], nodes: str) -> None:
    channels = {"c": 0.1, "big": 3e38, "minus": -1e38, "half": 0.5, "tiny": 0.0, "small": 1e-45}
    constants = {name: np.full(4, value, np.float32) for name, value in channels.items()}
    constants |= {f"{name}3": constants[name].reshape(4, 1, 1) for name in ("big", "small")}
    constants |= {"infinite3": np.full((4, 1, 1), np.inf, np.float32)}
    constants |= {"w": np.full((4, 4, 1, 1), 2, np.float32)}
    model = inferred(parsed(f"(float[1,4,3,3] x) => (float[1,4,3,3] y) {{ {nodes} }}", constants))
    before = [node.op_type for node in model.graph]
    assert [node.op_type for node in change(model).graph] == before


@pytest.mark.parametrize("text", ["Gemm<alpha=2.0>(x, big)", "Gemm<beta=2.0>(x, w, big)"])
def test_products_that_overflow_keep_their_factors(text: str) -> None:
    constants = {name: np.full((4, 4), value, np.float32) for name, value in (("big", 3e38), ("w", 2))}
    constants["big"] = constants["big"][:1] if "beta" in text else constants["big"]
    model = inferred(parsed(f"(float[3,4] x) => (float[3,4] y) {{ y = {text} }}", constants))
    (gemm,) = normalize_gemm(model).graph
    assert {2.0} == {gemm.attributes[name].value for name in ("alpha", "beta") if name in gemm.attributes}


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "Gemm"])
@pytest.mark.parametrize(
    ("arithmetic", "expected"),
    [
        ("y = Div(c, f)", []),
        ("y = Sub(c, f)", []),
        ("y = Sub(f, c)", []),
        ("s = Sub(c, g) d = Div(s, f) m = Mul(d, g) y = Add(f, m)", []),
        ("y = Div(f, c)", ["Div"]),
        ("y = Div(c, zero)", ["Div"]),
    ],
)
def test_every_arithmetic_with_constants_folds(operator: str, arithmetic: str, expected: list[str]) -> None:
    made = "c = Gemm<transB=1>(x, w)" if operator == "Gemm" else f"c = {operator}(x, w, b)"
    extents, channels = ("3,4", (6,)) if operator == "Gemm" else ("1,4,9,9", (6, 1, 1))
    weights = {"Gemm": (6, 4), "Conv": (6, 4, 3, 3), "ConvTranspose": (4, 6, 3, 3)}[operator]
    zero = np.zeros(channels, np.float32)
    constants = {"w": normal(*weights), "b": normal(6), "f": normal(*channels), "g": normal(*channels)}
    model = parsed(f"(float[{extents}] x) => (float y) {{ {made} {arithmetic} }}", constants | {"zero": zero})
    assert check(model, fold_affine(inferred(model))) == [operator, *expected]


def test_factors_that_are_not_per_channel_do_not_fold() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Mul", ["c", "f"], ["y"])]
    model = proto(nodes, constants={"w": normal(6, 4, 3, 3), "f": normal(7)})
    assert check(model, fold_affine(inferred(model))) == ["Conv", "Mul"]


@pytest.mark.parametrize(
    ("shape", "nodes", "constants", "expected"),
    [
        ((3, 4), [("MatMul", ["x", "w"], {})], {"w": (4, 5)}, ["Gemm"]),
        ((2, 3, 4), [("MatMul", ["x", "w"], {})], {"w": (4, 5)}, ["Reshape", "Gemm", "Reshape"]),
        (
            (2, 3, 4),
            [("MatMul", ["x", "w"], {}), ("Add", ["b", "$"], {})],
            {"w": (4, 5), "b": (5,)},
            ["Reshape", "Gemm", "Reshape"],
        ),
        (
            (3, 4),
            [("Gemm", ["x", "w", "b"], {"alpha": 0.5, "beta": 2.0})],
            {"w": (4, 5), "b": (1, 5)},
            ["Gemm"],
        ),
        ((3, 4), [("Gemm", ["x", "w", "b"], {"transB": 1})], {"w": (5, 4), "b": ()}, ["Gemm"]),
        ((3, 4), [("Gemm", ["x", "w"], {"alpha": 3.0})], {"w": (4, 5)}, ["Gemm"]),
    ],
)
def test_products_by_constants_become_one_form(
    shape: tuple[int, ...],
    nodes: list[tuple[str, list[str], dict[str, Any]]],
    constants: dict[str, tuple[int, ...]],
    expected: list[str],
) -> None:
    made = [
        helper.make_node(
            operator,
            [f"t{index - 1}" if name == "$" else name for name in inputs],
            ["y" if index == len(nodes) - 1 else f"t{index}"],
            **attributes,
        )
        for index, (operator, inputs, attributes) in enumerate(nodes)
    ]
    model = proto(made, shape, {name: normal(*extents) for name, extents in constants.items()})
    result = normalize_gemm(inferred(model))
    assert check(model, result) == expected
    (gemm,) = (node for node in result.graph if node.op_type == "Gemm")
    assert {name: value.value for name, value in gemm.attributes.items()} == {"transB": 1}
    assert shape_of(gemm.inputs[1]) == (5, 4)  # type: ignore[arg-type]
    assert len(gemm.inputs) == 2 or shape_of(gemm.inputs[2]) == (5,)  # type: ignore[arg-type]


@pytest.mark.parametrize(("fill", "expected"), [(0.0, ["Conv"]), (1.0, ["Pad", "Conv"])])
def test_only_zero_padding_folds(fill: float, expected: list[str]) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "p", "v"], ["t"]),
        helper.make_node("Conv", ["t", "w"], ["y"], pads=[1, 0, 0, 1]),
    ]
    constants = {"p": np.array([0, 0, 1, 2, 0, 0, 0, 3]), "v": np.float32(fill), "w": normal(6, 4, 3, 3)}
    model = proto(nodes, constants=constants)
    assert check(model, fold_pad(inferred(model))) == expected


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("operator", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_auto_pad_becomes_numbers(mode: str, operator: str, stride: int) -> None:
    inputs = ["x", "w"] if operator == "Conv" else ["x"]
    attributes = {"auto_pad": mode, "kernel_shape": [3, 4], "strides": [stride, stride]}
    model = proto(
        [helper.make_node(operator, inputs, ["y"], **attributes)], constants={"w": normal(6, 4, 3, 4)}
    )
    result = explicit_pads(inferred(model))
    check(model, result)
    assert "auto_pad" not in result.graph[0].attributes


def test_pads_that_are_explicit_already_need_no_auto_pad() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="NOTSET", pads=[1, 1, 1, 1])
    model = proto([node], constants={"w": normal(6, 4, 3, 3)})
    result = explicit_pads(inferred(model))
    check(model, result)
    assert "auto_pad" not in result.graph[0].attributes


def test_shape_arithmetic_and_identities_fold() -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Shape", ["i"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["n", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["i", "shape"], ["r"]),
        helper.make_node("Dropout", ["r"], ["d"]),
        helper.make_node("Identity", ["d"], ["y"]),
    ]
    model = proto(nodes, constants={"zero": np.array([0])})
    result = fold_constants(inferred(model))
    assert check(model, result) == ["Reshape"]
    assert result.graph.outputs[0].name == "y"


@pytest.mark.parametrize("operator", ["MatMul", "Exp", "Softmax", "ReduceL2", "Tanh", "Pow"])
def test_folded_floats_are_those_of_float64_rounded_once(operator: str) -> None:
    """So that they are the same on every CPU."""
    a, b = normal(64, 64), np.abs(normal(64, 64))
    wide, other = a.astype(np.float64), b.astype(np.float64)
    read, expected = {
        "MatMul": (["a", "b"], wide @ other),
        "Exp": (["a"], np.exp(wide)),
        "Softmax": (["a"], np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)),
        "ReduceL2": (["a"], np.sqrt(np.square(wide).sum(keepdims=True))),
        "Tanh": (["a"], np.tanh(wide)),
        "Pow": (["b", "a"], np.power(other, wide)),
    }[operator]
    nodes = [helper.make_node(operator, read, ["t"]), helper.make_node("Add", ["x", "t"], ["y"])]
    result = fold_constants(inferred(proto(nodes, (1, 4, 64, 64), {"a": a, "b": b})))
    assert [node.op_type for node in result.graph] == ["Add"]
    (folded,) = (value.const_value.numpy() for value in result.graph.initializers.values())
    assert folded.dtype == np.float32
    # Of 4096 numbers, one may lie so close to the middle of two that the last bit of float64 decides.
    assert np.sum(folded != expected.astype(np.float32)) <= 1


def test_quantized_weights_survive_folding() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Conv", ["x", "d"], ["y"]),
    ]
    model = proto(nodes, constants={"w": normal(6, 4, 3, 3), "s": np.float32(0.02), "z": np.int8(0)})
    result = fold_constants(inferred(model))
    assert check(model, result) == ["DequantizeLinear", "Conv"]
    assert result.graph.initializers["q"].dtype == onnx_ir.DataType.INT8


def test_old_opsets_are_converted() -> None:
    nodes = [
        helper.make_node("Squeeze", ["x"], ["t"], axes=[0]),
        helper.make_node("Softmax", ["t"], ["y"], axis=1),
    ]
    model = proto(nodes, opset=11)
    result = convert_opset(onnx_ir.from_proto(model))
    check(model, infer_shapes(result))
    assert result.opset_imports[""] == 13


@pytest.mark.parametrize("opset", [7, 9, 11])
def test_files_of_version_3_list_weights_among_the_inputs(tmp_path: Path, opset: int) -> None:
    weights = normal(2, 4, 3, 3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Softmax", ["c"], ["y"])]
    before = proto(nodes, constants={"w": weights}, opset=opset)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    after.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, weights.shape))
    after.ir_version = 3
    model = load(written(tmp_path, after))
    assert [value.name for value in model.ir.graph.inputs] == ["x"]
    check(before, model.ir)


def test_functions_are_inlined() -> None:
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    twice = helper.make_function("local", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    model = proto([helper.make_node("Twice", ["x"], ["y"], domain="local")], functions=[twice])
    assert check(model, infer_shapes(fold_constants(convert_opset(onnx_ir.from_proto(model))))) == ["Add"]


def test_names_are_unique_and_stable() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], name="Relu_0"),
        helper.make_node("Relu", ["b"], ["c"], name="act"),
        helper.make_node("Relu", ["c"], ["y"], name="act"),
    ]
    named = name_nodes(onnx_ir.from_proto(proto(nodes)))
    assert [node.name for node in named.graph] == ["Relu_1", "Relu_0", "act", "act_0"]
    assert [node.name for node in name_nodes(named).graph] == ["Relu_1", "Relu_0", "act", "act_0"]


def written(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def relu(shape: Sequence[int | str] = (1, 4, 9, 9)) -> onnx.ModelProto:
    return proto([helper.make_node("Relu", ["x"], ["y"])], shape)


def test_passes_leave_their_input_alone(tmp_path: Path) -> None:
    norm, constants = batch_norm("c", "y", 6)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], auto_pad="SAME_UPPER"), norm]
    model = inferred(proto(nodes, constants=constants | {"w": normal(6, 4, 3, 3)}))
    for step in PASSES:
        before = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
        changed = step.rewrite(model)
        assert onnx_ir.to_proto(model).SerializeToString(deterministic=True) == before, step.name
        model = changed


def test_dynamic_inputs_take_their_shape_from_the_user(tmp_path: Path) -> None:
    path = written(tmp_path, relu(("N", 3, "H", "W")))
    model = load(path, {"x": (2, 3, 8, 9)})
    assert shape_of(model.ir.graph.outputs[0]) == (2, 3, 8, 9)
    assert (model.name, model.source_name, model.source_nodes, model.opset) == ("net", "net.onnx", 1, 13)
    assert not is_qdq(model)


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        (
            ("N", 3, "H", None),
            {},
            "dynamic dimensions: 'x' [N, 3, H, ?]; fix them, for example with --shape x=1x3xHxW",
        ),
        (("N", 3), {"z": (1, 3)}, "--shape z: the model has no such input; it has x"),
        (("N", 3), {"x": (1, 3, 3)}, "--shape x=1x3x3: input 'x' has 2 dimensions [N, 3]"),
        (("N", 3), {"x": (0, 3)}, "--shape x=0x3: every dimension must be at least 1"),
    ],
)
def test_shape_mistakes(
    tmp_path: Path, shape: tuple[Any, ...], given: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ModelError) as raised:
        load(written(tmp_path, relu(shape)), given)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_negative_dimension_is_a_dynamic_one(tmp_path: Path) -> None:
    path = tmp_path / "negative.onnx"
    onnx.save(proto([helper.make_node("Relu", ["x"], ["y"])], (-1, 3, -1)), path)
    wanted = r"dynamic dimensions: 'x' \[-1, 3, -1\]; fix them, for example with --shape x=1x3xH"
    with pytest.raises(ModelError, match=wanted):
        load(path)
    assert shape_of(load(path, {"x": (2, 3, 4)}).ir.graph.outputs[0]) == (2, 3, 4)


def test_a_shape_that_the_graph_contradicts(tmp_path: Path) -> None:
    model = proto([helper.make_node("Conv", ["x", "w"], ["y"])], (1, "C", 9, 9), {"w": normal(6, 4, 3, 3)})
    path = written(tmp_path, model)
    assert load(path, {"x": (1, 4, 9, 9)}).ir.graph[0].op_type == "Conv"
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    path = written(tmp_path, proto(nodes, (1, "C"), {"w": normal(1, 5)}))
    with pytest.raises(ModelError, match=r"^net\.onnx: shapes don't fit together: [^\n]*$"):
        load(path, {"x": (1, 4)})


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "missing.onnx", {})
    with pytest.raises(ModelError, match="not a file"):
        load(tmp_path, {})
    whole = written(tmp_path, relu()).read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2], whole[:-3]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=r"^bad\.onnx: [^\n]*$"):
            load(tmp_path / "bad.onnx", {})


def test_external_data_is_loaded_or_missed(tmp_path: Path) -> None:
    weights = normal(6, 4, 3, 3)
    model = proto([helper.make_node("Conv", ["x", "w"], ["y"])], constants={"w": weights})
    expected = outputs(model)
    path = tmp_path / "net.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    loaded = load(path, {})
    (tmp_path / "net.data").unlink()
    np.testing.assert_allclose(outputs(serialize(loaded))[0], expected[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match=r"^net\.onnx: [^\n]*net\.data"):
        load(path, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_MODELS)
def test_real_models(name: str) -> None:
    path = next((path for folder in (EXAMPLES, SHARED) if (path := folder / f"{name}.onnx").exists()), None)
    if path is None:
        pytest.skip("no shared models")
    shapes = SHAPES.get(name, {})
    model = load(path, shapes)
    serialized = serialize(model)
    onnx.checker.check_model(serialized, full_check=True)
    for expected, actual in zip(outputs(path.read_bytes(), shapes), outputs(serialized, shapes), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-2, atol=1e-4 * np.abs(expected).max())
    names = [node.name for node in model.ir.graph]
    assert all(names)
    assert len(set(names)) == len(names)
    left = Counter(node.op_type for node in model.ir.graph)
    assert not left.keys() & {"Constant", "Identity", "BatchNormalization", "Shape", "Dropout"}
    assert all(shape_of(output) is not None for node in model.ir.graph for output in node.outputs)
    assert serialize(load(path, shapes)) == serialized


def test_float16_is_computed_in_float32(tmp_path: Path) -> None:
    before = parsed(
        """(float16[1,4,9,9] x, float16[2] s)
            => (float16[1,2,7,7] y, float16[2] t, float16[2,4,3,3] w, float16[3] c, float[1,2,7,7] v) {
            a = Conv(x, w) b = ConstantOfShape<value=float16[1] {15000}>(shape) y = Add(a, b)
            t = Identity(s) c = Cast<to=10>(f) v = Cast<to=1>(a)
        }""",
        {
            "w": normal(2, 4, 3, 3).astype(np.float16),
            "shape": np.array([1, 2, 7, 7]),
            "f": normal(3),
        },
    )
    model = load(written(tmp_path, before))
    assert model.widened
    feed = {"x": normal(1, 4, 9, 9).astype(np.float16), "s": normal(2).astype(np.float16)}
    expected = oracle.evaluate(before.SerializeToString(), feed)
    for name, computed in oracle.evaluate(serialize(model), feed).items():
        assert computed.dtype == expected[name].dtype
        np.testing.assert_allclose(computed, expected[name], rtol=2e-3, atol=1e-3)
    halves = [v for node in model.ir.graph for v in node.outputs if v.dtype == onnx_ir.DataType.FLOAT16]
    assert all(value.is_graph_output() for value in halves)
    (tmp_path / "again.onnx").write_bytes(serialize(model))
    again = load(tmp_path / "again.onnx")
    assert [(n.name, n.op_type) for n in again.ir.graph] == [(n.name, n.op_type) for n in model.ir.graph]


def test_values_without_elements_are_constants(tmp_path: Path) -> None:
    before = parsed(
        """(float[2,3] x, int64[0] axes, float[0,3] e) => (float[1,1] y, float[2,3] z, float[1,3] r) {
            y = ReduceSum(x, axes) z = Concat<axis=0>(x, e) r = ReduceSum(e, first)
        }""",
        {"first": np.array([0])},
    )
    model = load(written(tmp_path, before))
    assert [value.name for value in model.ir.graph.inputs] == ["x", "axes", "e"]
    assert not any(value.uses() for value in model.ir.graph.inputs[1:])
    feed = {"x": normal(2, 3), "axes": np.zeros(0, np.int64), "e": np.zeros((0, 3), np.float32)}
    expected = oracle.evaluate(before.SerializeToString(), feed)
    for name, computed in oracle.evaluate(serialize(model), feed).items():
        np.testing.assert_allclose(computed, expected[name], rtol=1e-6)


@pytest.mark.parametrize("nodes", ["s = ConstantOfShape(k)", "a = ConstantOfShape(k) s = Add(a, a)"])
def test_a_few_numbers_may_not_ask_for_all_memory(tmp_path: Path, nodes: str) -> None:
    before = parsed(f"(float[1] x) => (float s) {{ {nodes} }}", {"k": np.array([100000, 100000])})
    model = load(written(tmp_path, before))
    assert not any(
        value.const_value and value.const_value.size > 9 for value in model.ir.graph.initializers.values()
    )


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(
    ("kernel", "stride", "more", "dilation"),
    [(3, 2, 1, 1), (2, 3, 2, 1), (1, 3, 1, 1), (2, 3, 2, 2), (4, 2, 0, 1)],
)
def test_a_transposed_convolution_that_pads_itself_has_the_shape_that_it_computes(
    auto_pad: str, kernel: int, stride: int, more: int, dilation: int
) -> None:
    attributes = {"strides": [stride], "output_padding": [more], "dilations": [dilation]}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["c"], auto_pad=auto_pad, **attributes),
        helper.make_node("Neg", ["c"], ["y"]),
    ]
    model = proto(nodes, [1, 2, 5], {"w": normal(2, 3, kernel)})
    loaded = inferred(model)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert shape_of(loaded.graph.outputs[0]) == outputs(model)[0].shape
    check(model, loaded)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("opset", [13, 22])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "extent"),
    [(1, 3, (0, 0), 3), (2, 2, (1, 1), 3), (2, 2, (1, 1), 5), (3, 2, (1, 1), 4), (2, 3, (0, 1), 4)],
)
@pytest.mark.parametrize("other", [4, 5])
def test_windows_that_begin_behind_the_image_dont_count(
    operator: str, opset: int, kernel: int, stride: int, pads: tuple[int, int], extent: int, other: int
) -> None:
    """Whatever the other axis does with its last window, and whatever shapes the file has."""
    attributes = {"kernel_shape": [kernel, 2], "strides": [stride, 2], "pads": [pads[0], 0, pads[1], 0]}
    nodes = [
        helper.make_node(operator, ["x"], ["pooled"], ceil_mode=1, **attributes),
        helper.make_node("Neg", ["pooled"], ["y"]),
    ]
    model = proto(nodes, [1, 2, extent, other], opset=opset)
    loaded = inferred(model)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert shape_of(loaded.graph.outputs[0]) == outputs(model)[0].shape
    check(model, loaded)
