"""Normalizations that a model has written out, as the one operator that each is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgec.compiler.frontend.convert_opset import at_opset
from edgec.compiler.graph import (
    add_initializer,
    add_node,
    attribute,
    constant,
    only_consumer,
    replace_value,
    shape_of,
)

_VANISHES = 1e-6
"""Least norms up to it are there to keep zeros from being divided by zero; LpNormalization does without."""

_OPSETS = {"LayerNormalization": 17, "RMSNormalization": 23, "LpNormalization": 13}
"""The first with each operator, of those that edgec reads."""


@dataclass(frozen=True, eq=False)
class _Written:
    """Nodes that are a normalization together."""

    operator: str
    source: onnx_ir.Value
    axes: tuple[int, ...]
    epsilon: float
    last: onnx_ir.Node
    """What computes the result."""
    scale: NDArray[np.float64] | None = None
    """In the form of the source, with extents of 1 for the axes that aren't normalized."""
    bias: NDArray[np.float64] | None = None


def recognize_normalization(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with normalizations over constant axes as operators, at an opset that has them.

    d = x - ReduceMean(x); d / Sqrt(ReduceMean(d * d) + e) * s + b --> LayerNormalization(x, s, b)
    x / Sqrt(ReduceMean(x * x) + e) * s                            --> RMSNormalization(x, s)
    x / Max(ReduceL2(x), e)                                        --> LpNormalization(x)

    Roots, squares and quotients may be Pow, Mul, Reciprocal; axes that aren't the last are transposed. A
    model that can't be brought to the opset stays as it is.
    """
    model = model.clone()
    matches = [found for node in model.graph if (found := _normalization(node)) is not None]
    opset = max((_OPSETS[found.operator] for found in matches), default=0)
    newer = model if opset <= model.opset_imports.get("", 0) else at_opset(model, opset)
    if newer is None:
        return model
    for node in list(newer.graph):
        if (found := _normalization(node)) is not None:
            _rewrite(newer.graph, found)
    RemoveUnusedNodesPass()(newer)
    return newer


def _rewrite(graph: onnx_ir.Graph, found: _Written) -> None:
    """Put one operator in the place of the nodes, between transposes where its axes aren't the last."""
    source, last, name = found.source, found.last, str(found.last.name)
    shape = shape_of(source) or ()
    if found.operator == "LpNormalization":
        axis = {"axis": found.axes[0], "p": 2}
        result = add_node(last, "LpNormalization", [source], axis, f"{name}_norm", shape, source.dtype)
        replace_value(last.outputs[0], result)
        return
    rank = len(shape)
    order = (*(axis for axis in range(rank) if axis not in found.axes), *found.axes)
    transposed = order != tuple(range(rank))
    lies = tuple(shape[axis] for axis in order)
    if transposed:
        perm = {"perm": list(order)}
        source = add_node(last, "Transpose", [source], perm, f"{name}_inwards", lies, source.dtype)
    extents = lies[rank - len(found.axes) :]
    inputs: list[onnx_ir.Value | None] = [source]
    for role, array in (("scale", found.scale), ("bias", found.bias)):
        if array is None and role == "bias":
            continue
        whole = np.ones(extents) if array is None else _spread(array, shape, found.axes)
        inputs.append(add_initializer(graph, f"{name}_{role}", whole.astype(np.float32)))
    form = {"axis": -len(found.axes), "epsilon": found.epsilon}
    result = add_node(last, found.operator, inputs, form, f"{name}_norm", lies, source.dtype)
    if transposed:
        back = {"perm": [int(axis) for axis in np.argsort(order)]}
        result = add_node(last, "Transpose", [result], back, f"{name}_outwards", shape, source.dtype)
    replace_value(last.outputs[0], result)


def _spread(array: NDArray[np.float64], shape: tuple[int, ...], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the numbers of a constant for each element along `axes`."""
    extents = [extent if axis in axes else 1 for axis, extent in enumerate(shape)]
    return np.broadcast_to(array, extents).reshape([shape[axis] for axis in axes])


# --- matching -----------------------------------------------------------------------------------------------


def _normalization(node: onnx_ir.Node) -> _Written | None:
    """Return the normalization whose quotient a node is, with the scale and bias behind it."""
    for numerator, denominator in _quotients(node):
        for match in (_by_mean_square, _by_norm):
            found = match(node, numerator, denominator)
            if found is not None:
                return _with_affine(found)
    return None


_Denominator = tuple[onnx_ir.Value, Callable[[onnx_ir.Value], "onnx_ir.Value | None"]]
"""What is divided by, and what its square is, if that is a value of the model's."""


def _quotients(node: onnx_ir.Node) -> list[tuple[onnx_ir.Value, _Denominator]]:
    """Return as what quotients a node can be read: a / b, a * Reciprocal(b), a * Pow(b * b, -0.5)."""
    one, two = (*node.inputs[:2], None, None)[:2]
    if one is None or two is None or not _is(node, "Div", "Mul") or one.dtype != onnx_ir.DataType.FLOAT:
        return []
    if node.op_type == "Div":
        return [(one, (two, _square_of_root))] if _read_once(two) else []
    found: list[tuple[onnx_ir.Value, _Denominator]] = []
    for numerator, factor in ((one, two), (two, one)):
        producer = factor.producer()
        if producer is None or not _read_once(factor):
            continue
        inverted = producer.inputs[0]
        if _is(producer, "Reciprocal") and inverted is not None and _read_once(inverted):
            found.append((numerator, (inverted, _square_of_root)))
        elif _is(producer, "Div") and _number(inverted) == 1 and producer.inputs[1] is not None:
            found.append((numerator, (producer.inputs[1], _square_of_root)))
        elif _is(producer, "Pow") and _number(producer.inputs[1]) == -0.5:
            found.append((numerator, (factor, lambda value: _first_input(value.producer()))))
    return found


def _by_mean_square(
    node: onnx_ir.Node, numerator: onnx_ir.Value, denominator: _Denominator
) -> _Written | None:
    """Match a quotient by Sqrt(ReduceMean(squares of the numerator) + epsilon)."""
    value, square_of = denominator
    square = square_of(value)
    added = None if square is None else _added_number(square)
    if added is None or not 0 <= added[1] < 1:
        return None
    mean, epsilon = added
    reduced = _reduced(mean, "ReduceMean")
    if reduced is None or not _same(_squared(reduced[0]), numerator):
        return None
    centred = _deviation(numerator)
    if centred is not None and centred[1] == reduced[1]:
        return _Written("LayerNormalization", centred[0], reduced[1], epsilon, node)
    return _Written("RMSNormalization", numerator, reduced[1], epsilon, node)


def _by_norm(node: onnx_ir.Node, numerator: onnx_ir.Value, denominator: _Denominator) -> _Written | None:
    """Match a quotient by the root of the sum of the numerator's squares, which may have a least value."""
    value, square_of = denominator
    producer = value.producer()
    if producer is not None and _is(producer, "Expand") and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    if producer is not None and _is(producer, "Clip", "Max"):
        least = _number(producer.inputs[1]) if len(producer.inputs) > 1 else None
        unlimited = len(producer.inputs) == 2 or producer.inputs[2] is None
        if least is None or not 0 <= least <= _VANISHES or not unlimited or producer.inputs[0] is None:
            return None
        value = producer.inputs[0]
    reduced = _reduced(value, "ReduceL2")
    if reduced is None and (square := square_of(value)) is not None:
        reduced = _reduced(square, "ReduceSumSquare") or _squares(_reduced(square, "ReduceSum"))
    if reduced is None or len(reduced[1]) > 1 or not _same(reduced[0], numerator):
        return None
    return _Written("LpNormalization", numerator, reduced[1], 0.0, node)


_Reduced = tuple[onnx_ir.Value, tuple[int, ...]]


def _squares(reduced: _Reduced | None) -> _Reduced | None:
    square = None if reduced is None else _squared(reduced[0])
    return None if square is None or reduced is None else (square, reduced[1])


def _with_affine(found: _Written) -> _Written:
    """Return the normalization with the scale, and then the bias, that are all that reads its result."""
    if found.operator == "LpNormalization":
        return found
    scaled = _constant_operand(found, "Mul")
    if scaled is not None:
        found = replace(found, last=scaled[0], scale=scaled[1])
    if found.operator == "LayerNormalization" and (shifted := _constant_operand(found, "Add")) is not None:
        found = replace(found, last=shifted[0], bias=shifted[1])
    return found


def _constant_operand(found: _Written, operator: str) -> tuple[onnx_ir.Node, NDArray[np.float64]] | None:
    """Return the one reader of a result, if it is this operator with a constant along the axes alone."""
    result, shape = found.last.outputs[0], shape_of(found.source) or ()
    reader = only_consumer(result)
    if reader is None or not _is(reader, operator) or shape_of(reader.outputs[0]) != shape:
        return None
    array = constant(reader.inputs[1 if reader.inputs[0] is result else 0])
    if array is None or array.ndim > len(shape):
        return None
    extents = (1,) * (len(shape) - array.ndim) + array.shape
    if any(extent != 1 for axis, extent in enumerate(extents) if axis not in found.axes):
        return None
    return reader, array.astype(np.float64).reshape(extents)


# --- what single values are ---------------------------------------------------------------------------------


def _is(node: onnx_ir.Node | None, *operators: str) -> bool:
    return node is not None and not node.domain and node.op_type in operators


def _same(one: onnx_ir.Value | None, other: onnx_ir.Value) -> bool:
    """Whether two values are one, or two differences of the same two."""
    if one is None or one is other:
        return one is other
    first, second = one.producer(), other.producer()
    if first is None or second is None or not (_is(first, "Sub") and _is(second, "Sub")):
        return False
    left, right = _deviation(one), _deviation(other)
    return left is not None and right is not None and left[0] is right[0] and left[1] == right[1]


def _read_once(value: onnx_ir.Value) -> bool:
    return only_consumer(value) is not None


def _first_input(node: onnx_ir.Node | None) -> onnx_ir.Value | None:
    return None if node is None else node.inputs[0]


def _number(value: onnx_ir.Value | None) -> float | None:
    """Return the one number that a constant holds."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _squared(value: onnx_ir.Value) -> onnx_ir.Value | None:
    """Return what a value is the square of."""
    node = value.producer()
    if node is not None and _is(node, "Pow") and _number(node.inputs[1]) == 2:
        return node.inputs[0]
    if node is not None and _is(node, "Mul") and node.inputs[0] is not None and node.inputs[1] is not None:
        return node.inputs[0] if _same(node.inputs[0], node.inputs[1]) else None
    return None


def _square_of_root(value: onnx_ir.Value) -> onnx_ir.Value | None:
    """Return what a value is the root of."""
    node = value.producer()
    power = node is not None and _is(node, "Pow") and _number(node.inputs[1]) == 0.5
    return node.inputs[0] if node is not None and (power or _is(node, "Sqrt")) else None


def _added_number(value: onnx_ir.Value) -> tuple[onnx_ir.Value, float] | None:
    """Return what one number is added to, and the number."""
    node = value.producer()
    if node is None or not _is(node, "Add"):
        return None
    for one, other in ((0, 1), (1, 0)):
        number, source = _number(node.inputs[other]), node.inputs[one]
        if number is not None and source is not None and shape_of(source) == shape_of(value):
            return source, number
    return None


def _reduced(value: onnx_ir.Value, operator: str) -> _Reduced | None:
    """Return what a value reduces over which axes, which are constant and stay as 1."""
    node = value.producer()
    source = _first_input(node)
    shape = shape_of(source) if source is not None else None
    if node is None or not _is(node, operator) or source is None or not shape:
        return None
    axes = attribute(node, "axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant(node.inputs[1])
        axes = None if array is None else array.tolist()
    if not axes or not attribute(node, "keepdims", 1) or math.prod(shape) == 0:
        return None
    return source, tuple(sorted(axis % len(shape) for axis in axes))


def _deviation(value: onnx_ir.Value) -> _Reduced | None:
    """Return what a value is the deviation of, from its mean over which axes."""
    node = value.producer()
    if node is None or not _is(node, "Sub") or node.inputs[1] is None:
        return None
    mean = _reduced(node.inputs[1], "ReduceMean")
    return mean if mean is not None and mean[0] is node.inputs[0] else None
