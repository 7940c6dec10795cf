"""Inputs on which a node is tried: ordinary numbers, then those at which readings of an operator differ."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.arrays import Array
from edgec.compiler.lower.islands.converters.axes import fitting_axes

Shape = tuple[int, ...]

_TIES = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.0, -2.0, 2.5, -2.5, 3.0, -3.0, 3.5)
_LARGE = (0.0, 1.0, -1.0, 20.0, -20.0, 100.0, -100.0, 1000.0, -1000.0)
_INFINITE = (0.0, 1.0, -1.0, 2.5, -2.5, np.inf, -np.inf)
_UNDEFINED = (*_INFINITE, np.nan)

_TAKES_INFINITY = {
    "Abs", "Cast", "Concat", "Equal", "Exp", "Expand", "Floor", "Ceil", "Gather", "Greater",
    "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Max", "Min", "Mod", "Neg", "Pad", "ReduceMax",
    "ReduceMin", "Relu", "Reshape", "Round", "Sigmoid", "Sign", "Tanh", "Tile", "Transpose", "Where",
}  # fmt: skip
"""Operators that ONNX defines for infinities, and that models give them."""
_TAKES_NAN = {"IsInf", "IsNaN"}


@dataclass(frozen=True, eq=False)
class _Node:
    """What decides which inputs a node may have."""

    kind: str
    inputs: tuple[str, ...]
    shapes: dict[str, Shape]
    """Shapes of inputs, constants and outputs, by name."""
    dtypes: dict[str, np.dtype[Any]]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def shape(self, index: int) -> Shape:
        return self.shapes[self.inputs[index]]

    @property
    def result(self) -> Shape:
        return self.shapes[self.outputs[0]]

    def axis(self, default: int = 0) -> int:
        return int(self.attributes.get("axis", default)) % max(1, len(self.shape(0)))


def feeds(single: onnx.ModelProto) -> Iterator[dict[str, Array]]:
    """Yield inputs of a model of one node, by name: valid for its operator, the same for the same model."""
    node = _described(single)
    generator = np.random.default_rng(0)
    rounds: list[Callable[[Shape], Array]] = [
        lambda shape: 2 * generator.standard_normal(shape),
        lambda shape: generator.choice(_TIES, shape),
        lambda shape: generator.choice(_LARGE, shape),
    ]
    if node.kind in _TAKES_INFINITY:
        values = _UNDEFINED if node.kind in _TAKES_NAN else _INFINITE
        rounds.append(lambda shape: generator.choice(values, shape))
    for number, floats in enumerate(rounds):
        made = {}
        for name in (value.name for value in single.graph.input):
            shape, dtype, index = node.shapes[name], node.dtypes[name], node.inputs.index(name)
            rule = _VALID.get(node.kind, {}).get(index)
            if rule is not None:
                array = rule(node, shape, generator)
            elif dtype.kind in "iu":
                array = _integers(node, index, dtype, shape, number, generator)
            elif dtype.kind == "b":
                array = generator.integers(0, 2, shape)
            else:
                array = floats(shape)
            made[name] = np.asarray(array).astype(dtype).reshape(shape)
        yield made


def _described(single: onnx.ModelProto) -> _Node:
    (node,) = single.graph.node
    values = (*single.graph.input, *single.graph.output)
    kinds = {value.name: value.type.tensor_type for value in values}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in single.graph.initializer}
    shapes = {name: tuple(d.dim_value for d in kind.shape.dim) for name, kind in kinds.items()}
    dtypes = {name: helper.tensor_dtype_to_np_dtype(kind.elem_type) for name, kind in kinds.items()}
    return _Node(
        node.op_type,
        tuple(node.input),
        shapes | {name: array.shape for name, array in constants.items()},
        dtypes | {name: array.dtype for name, array in constants.items()},
        tuple(node.output),
        {a.name: helper.get_attribute_value(a) for a in node.attribute},
    )


def _integers(
    node: _Node, index: int, dtype: np.dtype[Any], shape: Shape, number: int, generator: np.random.Generator
) -> Array:
    """Return small ones, then larger ones; divisors and exponents are such that ONNX defines the result."""
    limits = np.iinfo(dtype)
    reach = (4, 100, 20, 4)[number]
    low, high = max(limits.min, -reach), min(limits.max, reach)
    if node.kind == "Pow" and index == 1:
        return generator.integers(0, 4, shape)
    if node.kind == "BitShift" and index == 1:
        return generator.integers(0, dtype.itemsize * 8, shape)
    array = generator.integers(low, high, shape, endpoint=True)
    if node.kind in ("Div", "Mod") and index == 1:
        return np.where(array == 0, 1, array)
    return array


Rule = Callable[[_Node, Shape, np.random.Generator], Any]


def _positions(extent: Callable[[_Node], int]) -> Rule:
    """Return indices along one dimension, from the front and from the back."""

    def rule(node: _Node, shape: Shape, generator: np.random.Generator) -> Array:
        count = extent(node)
        return generator.integers(-count, count, shape)

    return rule


def _below(extent: Callable[[_Node], int]) -> Rule:
    """Return classes, or indices from the front."""
    return lambda node, shape, generator: generator.integers(0, extent(node), shape)


def _distinct_positions(node: _Node, shape: Shape, generator: np.random.Generator) -> Array:
    """Return indices along the axis, none twice in a row: what is written twice has no defined value."""
    axis, count = node.axis(), node.shape(0)[node.axis()]
    if shape[axis] > count:
        return generator.integers(-count, count, shape)
    order = generator.permuted(np.broadcast_to(np.arange(count), (*shape, count)), axis=-1)
    rows = np.moveaxis(order, axis, -2)  # ..., positions along the axis, permutation
    taken = rows[..., :1, : shape[axis]].swapaxes(-1, -2)[..., 0]
    signs = generator.integers(0, 2, taken.shape)
    return np.moveaxis(taken - signs * count, -1, axis)


def _coordinates(node: _Node, shape: Shape, generator: np.random.Generator) -> Array:
    """Return coordinates of GatherND and ScatterND, none twice where there are enough."""
    batch = int(node.attributes.get("batch_dims", 0))
    extents = node.shape(0)[batch : batch + shape[-1]]
    count, wanted = math.prod(extents), math.prod(shape[:-1])
    flat = generator.permutation(count)[:wanted] if wanted <= count else generator.integers(0, count, wanted)
    axes = np.stack(np.unravel_index(flat, extents), -1) if extents else np.zeros((wanted, 0), np.int64)
    return np.asarray(axes.reshape(shape))


def _of_result(values: Callable[[_Node], Any]) -> Rule:
    """Return what the declared shapes say it must be."""
    return lambda node, shape, _generator: np.asarray(values(node)).reshape(shape)


def _positive(node: _Node, shape: Shape, generator: np.random.Generator) -> Array:
    """Return scales."""
    return generator.uniform(0.01, 0.1, shape)


def _steps(node: _Node, shape: Shape, generator: np.random.Generator) -> Array:
    return generator.integers(-3, 4, shape)


def _reduced(node: _Node, shape: Shape, generator: np.random.Generator) -> Array:
    """Return axes that make one shape the other, of several in turn."""
    keep = bool(node.attributes.get("keepdims", 1))
    choices = fitting_axes(node.shape(0), node.result, shape[0], keep) if shape[0] else [[]]
    if not choices:
        return np.arange(shape[0])
    rank = len(node.shape(0))
    return np.array(choices[generator.integers(len(choices))]) - rank * generator.integers(0, 2, shape)


def _around(node: _Node, shape: Shape, generator: np.random.Generator) -> Array:
    """Return pads of all dimensions, what a result has more shared out before and after."""
    more = np.subtract(node.result, node.shape(0))
    before = more // 2
    return np.concatenate([before, more - before]) if shape[0] == 2 * len(more) else np.zeros(shape)


def _depth(node: _Node) -> int:
    return node.result[int(node.attributes.get("axis", -1))]


def _resized(node: _Node) -> list[int]:
    return [axis % len(node.result) for axis in node.attributes.get("axes", range(len(node.result)))]


def _scales(node: _Node) -> list[float]:
    return [node.result[axis] / node.shape(0)[axis] for axis in _resized(node)]


_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


_VALID: dict[str, dict[int, Rule]] = {
    **{name: {1: _reduced} for name in _REDUCTIONS},
    "ConstantOfShape": {0: _of_result(lambda node: node.result)},
    "CumProd": {1: _positions(lambda node: len(node.shape(0)))},
    "CumSum": {1: _positions(lambda node: len(node.shape(0)))},
    "Expand": {1: _of_result(lambda node: node.result[-node.shape(1)[0] :])},
    "Gather": {1: _positions(lambda node: node.shape(0)[node.axis()])},
    "GatherElements": {1: _positions(lambda node: node.shape(0)[node.axis()])},
    "GatherND": {1: _coordinates},
    "BlackmanWindow": {0: _of_result(lambda node: node.result[0])},
    "HammingWindow": {0: _of_result(lambda node: node.result[0])},
    "HannWindow": {0: _of_result(lambda node: node.result[0])},
    "NegativeLogLikelihoodLoss": {1: _below(lambda node: node.shape(0)[1])},
    "OneHot": {0: _positions(lambda node: _depth(node) + 1), 1: _of_result(_depth)},
    "Pad": {1: _around},
    "QLinearConv": {index: _positive for index in (1, 4, 6)},
    "QLinearMatMul": {index: _positive for index in (1, 4, 6)},
    "Range": {
        0: _of_result(lambda _: 1),
        1: _of_result(lambda node: 1 + 2 * node.result[0]),
        2: _of_result(lambda _: 2),
    },
    "Reshape": {1: _of_result(lambda node: node.result)},
    "Resize": {
        1: _of_result(lambda node: _scales(node)),
        2: _of_result(lambda node: _scales(node)),
        3: _of_result(lambda node: [node.result[axis] for axis in _resized(node)]),
    },
    "RoiAlign": {2: _of_result(lambda node: np.zeros(node.shape(2)))},
    "RotaryEmbedding": {3: _below(lambda node: node.shape(1)[0])},
    "Scatter": {1: _distinct_positions},
    "ScatterElements": {1: _distinct_positions},
    "ScatterND": {1: _coordinates},
    "Slice": {
        1: _of_result(lambda node: np.zeros(node.shape(1))),
        2: _of_result(lambda node: node.result[: node.shape(2)[0]]),
        3: _of_result(lambda node: np.arange(node.shape(3)[0])),
        4: _of_result(lambda node: np.ones(node.shape(4))),
    },
    "SoftmaxCrossEntropyLoss": {1: _below(lambda node: node.shape(0)[1])},
    "Split": {1: _of_result(lambda node: [node.shapes[name][node.axis()] for name in node.outputs])},
    "Squeeze": {1: _of_result(lambda node: _added(node.result, node.shape(0)))},
    "Tile": {1: _of_result(lambda node: [a // b for a, b in zip(node.result, node.shape(0), strict=True)])},
    "TopK": {1: _of_result(_depth)},
    "Trilu": {1: _steps},
    "Upsample": {1: _of_result(lambda node: _scales(node))},
    "Unsqueeze": {1: _of_result(lambda node: _added(node.shape(0), node.result))},
}
"""By operator and input: values that have to fit the node's other inputs, or the shapes it declares."""


def _added(few: Shape, many: Shape) -> list[int]:
    """Return axes of extent 1 without which the longer shape is the shorter one."""
    wanted = len(many) - len(few)
    for axes in itertools.combinations([axis for axis, extent in enumerate(many) if extent == 1], wanted):
        if tuple(extent for axis, extent in enumerate(many) if axis not in axes) == few:
            return list(axes)
    return list(range(wanted))
