"""Malformed ONNX files end in one line that names the model and what is wrong with it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.frontend.load import load
from edgec.errors import ModelError
from tests.compiler.onnx_models import model

MODEL = "(float[1,4,9,9] x) => (float[1,6,7,7] y) { c = Conv(x, w) y = Relu(c) }"
Mutation = Callable[[onnx.ModelProto], object]


def good(opset: int = 17) -> onnx.ModelProto:
    return model(MODEL, {"w": np.ones((6, 4, 3, 3), np.float32)}, opset)


def append(text: str, constants: dict[str, np.ndarray] | None = None) -> Mutation:
    """Put the nodes of another graph in front; its output `z` is an output of the model."""

    def mutate(proto: onnx.ModelProto) -> None:
        other = model(f"(float[1,4,9,9] x) => (float z) {{ {text} }}", constants)
        proto.graph.node.extend(other.graph.node)
        proto.graph.initializer.extend(other.graph.initializer)

    return mutate


def by_reference(proto: onnx.ModelProto) -> None:
    branch = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH, ref_attr_name="body")
    proto.graph.node.append(onnx.NodeProto(op_type="If", input=["x"], output=["z"], attribute=[branch]))


def constant(**fields: object) -> Mutation:
    def mutate(proto: onnx.ModelProto) -> None:
        tensor = onnx.TensorProto(name="k", **fields)  # type: ignore[arg-type]
        proto.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor))

    return mutate


def weights(**fields: object) -> Mutation:
    def mutate(proto: onnx.ModelProto) -> None:
        for name, value in fields.items():
            if name == "dims":
                del proto.graph.initializer[0].dims[:]
                proto.graph.initializer[0].dims.extend(value)  # type: ignore[arg-type]
            else:
                setattr(proto.graph.initializer[0], name, value)

    return mutate


def fewer_channels(proto: onnx.ModelProto) -> None:
    weights(dims=[6, 12, 1, 3])(proto)
    del proto.graph.value_info[:]
    for extent in proto.graph.output[0].type.tensor_type.shape.dim[2:]:
        extent.Clear()


def output_of_the_input(proto: onnx.ModelProto) -> None:
    proto.graph.output.add().CopyFrom(proto.graph.input[0])
    proto.graph.output[1].type.tensor_type.shape.dim.pop()


MALFORMED: dict[str, tuple[Mutation, str]] = {
    "an input that is an output of another shape": (output_of_the_input, "'x' is an input, and an output of"),
    "an output listed twice": (
        lambda proto: proto.graph.output.add().CopyFrom(proto.graph.output[0]),
        "output 'y' is listed more than once",
    ),
    "an unknown type": (weights(data_type=99), r"tensor 'w' is of type 99"),
    "a negative type": (weights(data_type=-1), r"tensor 'w' is of type -1"),
    "more data than shape": (weights(dims=[]), r"tensor 'w', float a scalar, holds 864 bytes, not 4"),
    "data cut off": (weights(raw_data=b"123"), "w"),
    "eight-bit floats": (weights(data_type=19), r"tensor 'w', float8e5m2 .* holds 864 bytes, not 216"),
    "a constant of too few numbers": (
        constant(data_type=TensorProto.FLOAT, dims=[3], float_data=[1.0]),
        "k",
    ),
    "a negative dimension": (weights(dims=[-6, 4, 3, 3]), "Negative dimension"),
    "a branch that is a reference": (by_reference, "not a valid ONNX model"),
    "a cast to nothing": (
        lambda p: p.graph.node.append(helper.make_node("Cast", ["x"], ["z"], to=0)),
        "Invalid tensor data type 0",
    ),
    "an unknown opset": (lambda p: setattr(p.opset_import[0], "version", 999), "opset"),
    "no opset": (lambda p: p.ClearField("opset_import"), "opset"),
    "no such operator": (
        lambda p: p.graph.node.append(helper.make_node("Nope", ["x"], ["z"])),
        "not a valid ONNX model: .*Nope",
    ),
    "weights of other channels, not said": (
        fewer_channels, r"node 'conv_0' \(Conv\) has weights \[6, 12, 1, 3\] in 1 groups for 4 channels"
    ),
    "a bias in the weights' place": (
        append("z = Conv<kernel_shape=[3,3]>(x, b)", {"b": np.ones(4, np.float32)}),
        r"node 'conv_0_0' \(Conv\) has weights \[4\] and a kernel \[3, 3\] for an input \[1, 4, 9, 9\]",
    ),
    "a kernel that isn't the weights'": (
        append("z = Conv<kernel_shape=[2,3]>(x, k)", {"k": np.ones((4, 4, 3, 3), np.float32)}),
        r"has weights \[4, 4, 3, 3\] and a kernel \[2, 3\]",
    ),
    "a window far larger than its image": (
        append("z = AveragePool<kernel_shape=[4,4611686018427387904], strides=[3,3]>(x)"),
        r"node 'averagepool_0' \(AveragePool\) has a window larger than its input",
    ),
    "a window larger than its image": (
        append("z = AveragePool<kernel_shape=[3,10], strides=[3,3]>(x)"),
        r"node 'averagepool_0' \(AveragePool\) has a window larger than its input",
    ),
    "a slope of higher rank": (
        append("z = PRelu(x, s)", {"s": np.ones((1, 1, 1, 1, 1), np.float32)}),
        r"has \[1, 1, 1, 1, 1\] for an input \[1, 4, 9, 9\], which it can't be broadcast to",
    ),
    "a scale of another extent": (
        append("z = LayerNormalization<axis=3>(x, s)", {"s": np.ones(3, np.float32)}),
        r"has \[3\] for an input \[1, 4, 9, 9\]",
    ),
    "no outputs": (lambda p: p.graph.ClearField("output"), "the model has no outputs"),
    "weights of other channels": (weights(dims=[6, 3, 4, 3]), "shapes don't fit together"),
    "a reshape to another size": (
        append("z = Reshape(x, s)", {"s": np.array([5, 5])}), "shapes don't fit together"
    ),
    "a cycle": (
        lambda p: p.graph.node.extend(
            [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
        ),
        "not a valid ONNX model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_model_is_one_line(name: str, tmp_path: Path) -> None:
    mutate, message = MALFORMED[name]
    proto = good()
    mutate(proto)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=rf"^m\.onnx: [^\n]*{message}[^\n]*$"):
        load(tmp_path / "m.onnx")


def test_names_in_messages_stay_on_one_line() -> None:
    assert str(ModelError("tensor 'a\nb' is large")) == r"tensor 'a\nb' is large"
    assert str(ModelError(f"tensor {'a' * 5000} is large")) == f"tensor {'a' * 300}... is large"


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    data = good().SerializeToString().replace(b"Relu", b"Re\xff\xfe")
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"^m\.onnx: [^\n]*$"):
        load(tmp_path / "m.onnx")


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path / "net") + b"\xff.onnx")
    Path(path).write_bytes(good().SerializeToString())
    with pytest.raises(ModelError, match="rename the file"):
        load(Path(path))


def test_an_operator_that_no_later_opset_has_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("LSTM", ["a", "w", "r"], ["y"], hidden_size=2, name="memory"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 1, 4])]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 1, 1, 2])
    held = [numpy_helper.from_array(np.ones((1, 8, n), np.float32), name) for name, n in (("w", 4), ("r", 2))]
    graph = helper.make_graph(nodes, "g", inputs, [result], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=7)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    message = (
        r"^m\.onnx: node 'memory' \(LSTM\): opset 6 can't be converted to 13 \(No Adapter[^\n]*\); export the"
    )
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("place", ["output", "value_info"])
def test_a_negative_extent_is_one_that_the_exporter_did_not_know(place: str, tmp_path: Path) -> None:
    proto = onnx.shape_inference.infer_shapes(good())
    (value,) = getattr(proto.graph, place)
    value.type.tensor_type.shape.dim[0].dim_value = -1
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    made = load(tmp_path / "m.onnx").ir.graph
    assert [list(node.outputs[0].shape or ()) for node in made] == [[1, 6, 7, 7]] * 2
