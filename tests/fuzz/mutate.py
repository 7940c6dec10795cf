"""Damage to a model's file: its bytes, or what they say."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dice = np.random.Generator
Mutation = Callable[[Dice, onnx.ModelProto], None]

_NAMES = ("", "x", "\n", "a" * 5000, "ü/../ü", "\x00", "%s{}", "con")
_NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, -(2**63), 2**63 - 1)
_REALS = (0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e-45, 3e38, 1e30)
_FILES = ("missing.bin", "/etc/passwd", "../../etc/passwd", "/dev/zero", ".", "", "a" * 300)

_IMPOSSIBLE = (IndexError, ValueError, TypeError, OverflowError, onnx.checker.ValidationError)
"""There is no such thing, protobuf doesn't take it, or a constant lies in a file that there isn't."""


def mutated(model: onnx.ModelProto, dice: Dice) -> bytes:
    """Return the file of a model with one to three things wrong with it."""
    if dice.random() < 0.2:
        return _damaged(model.SerializeToString(), dice)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for _ in range(int(dice.integers(1, 4))):
        try:
            _one(dice, MUTATIONS)(dice, made)
        except _IMPOSSIBLE:
            continue
    return bytes(made.SerializeToString())


def _damaged(data: bytes, dice: Dice) -> bytes:
    """Bits flipped, ends cut off, pieces moved; a file's structure is in its first bytes and its last."""
    damaged = bytearray(data)
    for _ in range(int(dice.integers(1, 9))):
        if not damaged:
            break
        at = (
            int(dice.integers(len(damaged)))
            if dice.random() < 0.7
            else int(dice.integers(min(400, len(damaged))))
        )
        length = int(dice.integers(1, 40))
        kind = int(dice.integers(6))
        if kind == 0:
            damaged[at] ^= 1 << int(dice.integers(8))
        elif kind == 1:
            damaged[at] = _one(dice, (0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del damaged[at : at + length]
        elif kind == 3:
            damaged[at:at] = damaged[at : at + length]
        elif kind == 4:
            damaged[at:at] = dice.bytes(length)
        elif dice.random() < 0.3:
            del damaged[at:]
    return bytes(damaged)


def _one(dice: Dice, choices: Sequence[Any]) -> Any:
    return choices[int(dice.integers(len(choices)))]


def _node(dice: Dice, model: onnx.ModelProto) -> onnx.NodeProto:
    return _one(dice, model.graph.node)


def _any_name(dice: Dice, model: onnx.ModelProto) -> str:
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    names += [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    return str(_one(dice, names) if dice.random() < 0.85 else _one(dice, _NAMES))


def _shape(dice: Dice, value: onnx.ValueInfoProto) -> None:
    dimension = _one(dice, value.type.tensor_type.shape.dim)
    if dice.random() < 0.2:
        dimension.dim_param = str(_one(dice, ("n", "", "a" * 300)))
    else:
        dimension.dim_value = _one(dice, _NUMBERS)


def _values(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output, *model.graph.value_info]


# --- nodes -------------------------------------------------------------------------------------------------


def _drop_node(dice: Dice, model: onnx.ModelProto) -> None:
    del model.graph.node[int(dice.integers(len(model.graph.node)))]


def _repeat_node(dice: Dice, model: onnx.ModelProto) -> None:
    copied = onnx.NodeProto()
    copied.CopyFrom(_node(dice, model))
    if dice.random() < 0.5:
        for index in range(len(copied.output)):
            copied.output[index] += "_again"
    model.graph.node.insert(int(dice.integers(len(model.graph.node) + 1)), copied)


def _reorder_nodes(dice: Dice, model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[i] for i in dice.permutation(len(nodes)))


def _retarget_input(dice: Dice, model: onnx.ModelProto) -> None:
    node = _node(dice, model)
    node.input[int(dice.integers(len(node.input)))] = _any_name(dice, model)


def _retarget_output(dice: Dice, model: onnx.ModelProto) -> None:
    node = _node(dice, model)
    node.output[int(dice.integers(len(node.output)))] = _any_name(dice, model)


def _drop_input(dice: Dice, model: onnx.ModelProto) -> None:
    node = _node(dice, model)
    del node.input[int(dice.integers(len(node.input)))]


def _drop_output(dice: Dice, model: onnx.ModelProto) -> None:
    node = _node(dice, model)
    del node.output[int(dice.integers(len(node.output)))]


def _add_input(dice: Dice, model: onnx.ModelProto) -> None:
    _node(dice, model).input.append(_any_name(dice, model))


def _swap_inputs(dice: Dice, model: onnx.ModelProto) -> None:
    node = _node(dice, model)
    inputs = [node.input[i] for i in dice.permutation(len(node.input))]
    del node.input[:]
    node.input.extend(inputs)


def _other_operator(dice: Dice, model: onnx.ModelProto) -> None:
    others = [schema.name for schema in onnx.defs.get_all_schemas()]
    _node(dice, model).op_type = str(_one(dice, others) if dice.random() < 0.85 else _one(dice, _NAMES))


def _other_domain(dice: Dice, model: onnx.ModelProto) -> None:
    _node(dice, model).domain = _one(dice, ("com.acme", "ai.onnx", "ai.onnx.ml", "com.microsoft", "\n"))


def _rename_node(dice: Dice, model: onnx.ModelProto) -> None:
    _node(dice, model).name = _one(dice, (*_NAMES, *(node.name for node in model.graph.node)))


# --- attributes --------------------------------------------------------------------------------------------


def _attribute(dice: Dice, model: onnx.ModelProto) -> onnx.AttributeProto:
    return _one(dice, [one for node in model.graph.node for one in node.attribute])


def _drop_attribute(dice: Dice, model: onnx.ModelProto) -> None:
    node = _one(dice, [node for node in model.graph.node if node.attribute])
    del node.attribute[int(dice.integers(len(node.attribute)))]


def _other_value(dice: Dice, model: onnx.ModelProto) -> None:
    one = _attribute(dice, model)
    if one.type == onnx.AttributeProto.INT:
        one.i = _one(dice, _NUMBERS)
    elif one.type == onnx.AttributeProto.FLOAT:
        one.f = _one(dice, _REALS)
    elif one.type == onnx.AttributeProto.INTS:
        one.ints[int(dice.integers(len(one.ints)))] = _one(dice, _NUMBERS)
    elif one.type == onnx.AttributeProto.STRING:
        one.s = _one(dice, (b"", b"SAME_UPPER", b"\xff\xfe", b"nearest", b"linear", b"NOTSET", b"\n"))


def _other_length(dice: Dice, model: onnx.ModelProto) -> None:
    one = _one(dice, [a for node in model.graph.node for a in node.attribute if a.ints])
    if dice.random() < 0.5:
        del one.ints[int(dice.integers(len(one.ints))) :]
    else:
        one.ints.extend([1, _one(dice, _NUMBERS)])


def _other_type(dice: Dice, model: onnx.ModelProto) -> None:
    _attribute(dice, model).type = _one(dice, range(15))


def _other_attribute_name(dice: Dice, model: onnx.ModelProto) -> None:
    _attribute(dice, model).name = _one(
        dice, ("axis", "pads", "kernel_shape", "value", "", "to", "ceil_mode")
    )


def _add_attribute(dice: Dice, model: onnx.ModelProto) -> None:
    values = (1, 0, -7, 0.5, "SAME_LOWER", [1, 1], [2, 2, 2, 2], [])
    names = (
        "axis",
        "axes",
        "auto_pad",
        "pads",
        "strides",
        "dilations",
        "group",
        "ceil_mode",
        "keepdims",
        "transA",
    )
    value, name = values[int(dice.integers(len(values)))], _one(dice, names)
    made = helper.make_attribute(name, value, attr_type=onnx.AttributeProto.INTS if value == [] else None)
    _node(dice, model).attribute.append(made)


# --- values and constants ----------------------------------------------------------------------------------


def _constant(dice: Dice, model: onnx.ModelProto) -> onnx.TensorProto:
    return _one(dice, model.graph.initializer)


def _other_shape(dice: Dice, model: onnx.ModelProto) -> None:
    _shape(dice, _one(dice, _values(model)))


def _other_rank(dice: Dice, model: onnx.ModelProto) -> None:
    dimensions = _one(dice, _values(model)).type.tensor_type.shape.dim
    if dice.random() < 0.5:
        del dimensions[-1]
    else:
        dimensions.add().dim_value = _one(dice, (1, 2, 0, -1))


def _no_shape(dice: Dice, model: onnx.ModelProto) -> None:
    _one(dice, _values(model)).type.tensor_type.ClearField("shape")


def _other_kind(dice: Dice, model: onnx.ModelProto) -> None:
    _one(dice, _values(model)).type.tensor_type.elem_type = _one(dice, range(25))


def _no_type(dice: Dice, model: onnx.ModelProto) -> None:
    value = _one(dice, _values(model))
    kind = _one(dice, ("none", "sequence", "optional", "map"))
    value.ClearField("type")
    if kind == "sequence":
        value.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    elif kind == "optional":
        value.type.optional_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    elif kind == "map":
        value.type.map_type.key_type = TensorProto.INT64


def _rename_value(dice: Dice, model: onnx.ModelProto) -> None:
    _one(dice, _values(model)).name = _any_name(dice, model)


def _rename_everywhere(dice: Dice, model: onnx.ModelProto) -> None:
    """A strange name that the model agrees on."""
    old, new = _any_name(dice, model), _one(dice, _NAMES)
    for value in (*_values(model), *model.graph.initializer):
        if value.name == old:
            value.name = new
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def _output_of_anything(dice: Dice, model: onnx.ModelProto) -> None:
    value = model.graph.output.add()
    value.CopyFrom(_one(dice, _values(model)))
    if dice.random() < 0.5:
        value.name = _any_name(dice, model)


def _drop_interface(dice: Dice, model: onnx.ModelProto) -> None:
    values = model.graph.input if dice.random() < 0.5 else model.graph.output
    del values[int(dice.integers(len(values)))]


def _constant_shape(dice: Dice, model: onnx.ModelProto) -> None:
    dims = _constant(dice, model).dims
    if not dims or dice.random() < 0.3:
        dims.append(_one(dice, (1, 2, 0, -1, 2**40)))
    elif dice.random() < 0.3:
        del dims[-1]
    else:
        dims[int(dice.integers(len(dims)))] = _one(dice, _NUMBERS)


def _constant_kind(dice: Dice, model: onnx.ModelProto) -> None:
    _constant(dice, model).data_type = _one(dice, range(25))


def _constant_bytes(dice: Dice, model: onnx.ModelProto) -> None:
    tensor = _constant(dice, model)
    tensor.raw_data = tensor.raw_data[: int(dice.integers(len(tensor.raw_data) + 1))]


def _constant_values(dice: Dice, model: onnx.ModelProto) -> None:
    tensor = _constant(dice, model)
    array = numpy_helper.to_array(tensor).copy()
    flat = array.reshape(-1)
    value = _one(dice, _REALS) if array.dtype.kind == "f" else _one(dice, _NUMBERS)
    with np.errstate(all="ignore"):
        flat[slice(None) if dice.random() < 0.3 else int(dice.integers(flat.size))] = np.asarray(
            value
        ).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _constant_elsewhere(dice: Dice, model: onnx.ModelProto) -> None:
    tensor = _constant(dice, model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    keys = {
        "location": _one(dice, _FILES),
        "offset": str(_one(dice, _NUMBERS)),
        "length": str(_one(dice, _NUMBERS)),
    }
    for key, value in keys.items():
        if dice.random() < 0.8:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value


def _drop_constant(dice: Dice, model: onnx.ModelProto) -> None:
    del model.graph.initializer[int(dice.integers(len(model.graph.initializer)))]


def _repeat_constant(dice: Dice, model: onnx.ModelProto) -> None:
    model.graph.initializer.add().CopyFrom(_constant(dice, model))


def _constant_as_input(dice: Dice, model: onnx.ModelProto) -> None:
    tensor = _constant(dice, model)
    model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def _input_as_constant(dice: Dice, model: onnx.ModelProto) -> None:
    value = _one(dice, model.graph.input)
    shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    if math.prod(shape) > 1 << 20:
        raise ValueError("another change made it too large to be written out")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), value.name))
    model.graph.input.remove(value)


# --- the whole ---------------------------------------------------------------------------------------------


def _opset(dice: Dice, model: onnx.ModelProto) -> None:
    kind = int(dice.integers(4))
    if kind == 0:
        del model.opset_import[:]
    elif kind == 1:
        model.opset_import.append(
            helper.make_opsetid(_one(dice, ("", "ai.onnx", "x")), _one(dice, (1, 7, 17, 30)))
        )
    else:
        versions = (0, -1, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 18, 20, 22, 24, 26, 99, 2**40)
        model.opset_import[0].version = _one(dice, versions)


def _file_version(dice: Dice, model: onnx.ModelProto) -> None:
    model.ir_version = _one(dice, (0, -1, 1, 2, 3, 4, 7, 10, 12, 99, 2**62))


def _branch(dice: Dice, model: onnx.ModelProto) -> None:
    """The node in a branch of an If, perhaps nested as deep as nobody would."""
    index = int(dice.integers(len(model.graph.node)))
    inner = onnx.NodeProto()
    inner.CopyFrom(model.graph.node[index])
    values = [onnx.ValueInfoProto(name=name) for name in inner.output]
    plain = helper.make_graph([inner], "then", [], values)
    for depth in range(int(_one(dice, (1, 1, 2, 12)))):
        nested = helper.make_graph([inner], f"else{depth}", [], values)
        inner = helper.make_node(
            "If", ["condition"], [v.name for v in values], then_branch=plain, else_branch=nested
        )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node[index].CopyFrom(inner)


def _function(dice: Dice, model: onnx.ModelProto) -> None:
    """The node in a function of the model's own, which may call itself."""
    index = int(dice.integers(len(model.graph.node)))
    node = model.graph.node[index]
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    if dice.random() < 0.3:
        inner.op_type, inner.domain = "Own", "own"
    made = helper.make_function(
        "own", "Own", list(dict.fromkeys(node.input)), list(node.output), [inner], list(model.opset_import)
    )
    model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("own", 1))
    del node.attribute[:]
    node.op_type, node.domain = "Own", "own"


def _sparse(dice: Dice, model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.array([1.0], np.float32), _any_name(dice, model))
    indices = numpy_helper.from_array(np.array([_one(dice, (0, 1, -1, 2**40))], np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def _empty(dice: Dice, model: onnx.ModelProto) -> None:
    field = _one(dice, ("node", "input", "output", "initializer", "name"))
    model.graph.ClearField(field)


MUTATIONS: tuple[Mutation, ...] = (
    _drop_node,
    _repeat_node,
    _reorder_nodes,
    _retarget_input,
    _retarget_output,
    _drop_input,
    _drop_output,
    _add_input,
    _swap_inputs,
    _other_operator,
    _other_domain,
    _rename_node,
    _drop_attribute,
    _other_value,
    _other_length,
    _other_type,
    _other_attribute_name,
    _add_attribute,
    _other_shape,
    _other_rank,
    _no_shape,
    _other_kind,
    _no_type,
    _rename_value,
    _rename_everywhere,
    _output_of_anything,
    _drop_interface,
    _constant_shape,
    _constant_kind,
    _constant_bytes,
    _constant_values,
    _constant_elsewhere,
    _drop_constant,
    _repeat_constant,
    _constant_as_input,
    _input_as_constant,
    _opset,
    _file_version,
    _branch,
    _function,
    _sparse,
    _empty,
)
"""What may be wrong with a model; one that finds nothing to change raises an exception of Python's."""
