"""Make a model that fails as small as it gets while it fails in the same way."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto

_MOST_TRIES = 60
"""Of models as small as these; each takes as long as judging one."""
_TYPES = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
"""Of what may become an input."""


def shrink(model: onnx.ModelProto, fails: Callable[[onnx.ModelProto], bool]) -> onnx.ModelProto:
    """Return the smallest model found, by dropping one thing after another for which `fails` stays true."""
    tries, progress = 0, True
    while progress and tries < _MOST_TRIES:
        progress = False
        for smaller in _smaller(model):
            tries += 1
            if tries > _MOST_TRIES:
                break
            if _valid(smaller) and fails(smaller):
                model, progress = smaller, True
                break
    return model


def _smaller(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Yield models that lack one thing, those that lack most first."""
    outputs = len(model.graph.output)
    if outputs > 1:
        for index in range(outputs):
            yield _pruned(_without_outputs(model, [i for i in range(outputs) if i != index]))
        for index in range(outputs):
            yield _pruned(_without_outputs(model, [index]))
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
    for index in reversed(range(len(model.graph.node))):
        yield from _end_at(model, index, types)
    for index in range(len(model.graph.node)):
        yield from _begin_behind(model, index, types)
    for index, node in enumerate(model.graph.node):
        for place in range(len(node.attribute)):
            made = _copy(model)
            del made.graph.node[index].attribute[place]
            yield made
        if len(node.input) > 1:
            made = _copy(model)
            del made.graph.node[index].input[-1]
            yield _pruned(made)
    for index, value in enumerate(model.graph.input):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_value > 1:
                made = _copy(model)
                made.graph.input[index].type.tensor_type.shape.dim[axis].dim_value = 1
                yield _reshaped(made)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def _without_outputs(model: onnx.ModelProto, dropped: list[int]) -> onnx.ModelProto:
    made = _copy(model)
    for index in reversed(dropped):
        del made.graph.output[index]
    return made


def _end_at(
    model: onnx.ModelProto, index: int, types: dict[str, onnx.ValueInfoProto]
) -> Iterator[onnx.ModelProto]:
    """The node's inputs become outputs, the node goes."""
    made = _copy(model)
    node = made.graph.node[index]
    outputs = {value.name for value in made.graph.output}
    if not outputs.issuperset(name for name in node.output if name):
        return
    for place in reversed(range(len(made.graph.output))):
        if made.graph.output[place].name in node.output:
            del made.graph.output[place]
    sources = [types[name] for name in node.input if name in types and name not in outputs]
    made.graph.output.extend({value.name: value for value in sources}.values())
    del made.graph.node[index]
    if made.graph.output:
        yield _pruned(made)


def _begin_behind(
    model: onnx.ModelProto, index: int, types: dict[str, onnx.ValueInfoProto]
) -> Iterator[onnx.ModelProto]:
    """The node's outputs become inputs, the node goes."""
    made = _copy(model)
    node = made.graph.node[index]
    names = [name for name in node.output if name]
    outputs = {value.name for value in made.graph.output}
    if outputs.intersection(names) or any(name not in types for name in names):
        return
    if any(types[name].type.tensor_type.elem_type not in _TYPES for name in names):
        return
    made.graph.input.extend(types[name] for name in names)
    del made.graph.node[index]
    yield _pruned(made)


def _pruned(made: onnx.ModelProto) -> onnx.ModelProto:
    """Drop nodes, inputs and constants that no output needs."""
    needed = {value.name for value in made.graph.output}
    for index in reversed(range(len(made.graph.node))):
        node = made.graph.node[index]
        if needed.isdisjoint(name for name in node.output if name):
            del made.graph.node[index]
        else:
            needed.update(node.input)
    for kind in (made.graph.input, made.graph.initializer):
        for index in reversed(range(len(kind))):
            if kind[index].name not in needed:
                del kind[index]
    return made


def _reshaped(made: onnx.ModelProto) -> onnx.ModelProto:
    """Work out the shapes of the outputs anew."""
    for value in made.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(made)
    for value, known in zip(made.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(known)
    return made


def _valid(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:  # every kind, of which none matters here
        return False
    return bool(model.graph.input) and bool(model.graph.node)


def samples_for(model: onnx.ModelProto, count: int) -> dict[str, np.ndarray]:
    """Draw inputs for any model of this folder's types: floats, small integers, coins."""
    dice = np.random.default_rng(1)
    made = {}
    for value in model.graph.input:
        shape = (count, *(dimension.dim_value for dimension in value.type.tensor_type.shape.dim))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype == np.bool_:
            made[value.name] = dice.integers(0, 2, shape) > 0
        elif dtype.kind == "f":
            made[value.name] = dice.standard_normal(shape).astype(dtype)
        else:
            made[value.name] = dice.integers(0 if dtype.kind == "u" else -6, 7, shape).astype(dtype)
    return made
