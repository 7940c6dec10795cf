"""More rows of the table of operators: those that only float islands take."""

from typing import Any

import numpy as np

from tests.fuzz.graph import Graph
from tests.fuzz.operators import (
    ANY,
    INTEGER,
    Row,
    _image,
    _maybe,
    _softmax,
    _window,
    binary,
    reduction,
    several,
    unary,
)

_REAL = ("float32", "float32", "int32", "int64")
_INTEGERS = ("int32", "int64")


def _argument(operator: str) -> Row:
    def draw(graph: Graph) -> None:
        value = graph.pick(rank=(1, 6))
        given = _maybe(graph, axis=graph.axis(value.rank), keepdims=graph.integer(0, 1))
        given |= _maybe(graph, select_last_index=graph.integer(0, 1)) if graph.chance(0.3) else {}
        graph.node(operator, [value.name], **given)

    return draw


def _shift(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(["uint8", "uint32"]))
    amount = graph.constant(graph.dice.integers(0, 8, value.shape), value.dtype)
    graph.node("BitShift", [value.name, amount], direction=graph.one(["LEFT", "RIGHT"]))


def _cast(graph: Graph) -> None:
    from onnx import TensorProto

    value = graph.pick(dtype=graph.one(["float32", "int64", "int32", "bool"]))
    kinds = [TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL]
    graph.node("Cast", [value.name], to=graph.one(kinds))


def _conv_transpose(graph: Graph) -> None:
    image = _image(graph)
    channels = image.shape[1]
    group = graph.one([g for g in range(1, channels + 1) if channels % g == 0]) if graph.chance(0.3) else 1
    outputs, spatial = graph.integer(1, 4), image.rank - 2
    kernel = [graph.integer(1, 4) for _ in range(spatial)]
    strides = [graph.integer(1, 3) for _ in range(spatial)]
    given: dict[str, Any] = _maybe(graph, strides=strides)
    strides = given.get("strides", [1] * spatial)
    if graph.chance(0.4):
        given["output_padding"] = [graph.integer(0, s - 1) for s in strides]
    if graph.chance(0.4):
        given["pads"] = [graph.integer(0, (k - 1) // 2) for k in kernel * 2]
    elif graph.chance(0.2):
        given["auto_pad"] = graph.one(["SAME_UPPER", "SAME_LOWER", "VALID"])
    elif graph.chance(0.2):
        given["output_shape"] = [
            (e - 1) * s + k + graph.integer(-1, 0)
            for e, s, k in zip(image.shape[2:], strides, kernel, strict=True)
        ]
        given.pop("output_padding", None)
    if graph.chance(0.15):
        given["dilations"] = [graph.integer(1, 2) for _ in range(spatial)]
    names = [image.name, graph.weights(channels, outputs, *kernel)]
    names += [graph.weights(outputs * group)] if graph.chance(0.5) else []
    graph.node("ConvTranspose", names, group=group if group > 1 else None, **given)


def _cumsum(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(_REAL), rank=(1, 5))
    axis = graph.constant(np.array(graph.axis(value.rank), np.int64))
    given = _maybe(graph, exclusive=graph.integer(0, 1), reverse=graph.integer(0, 1))
    graph.node("CumSum", [value.name, axis], **given)


def _einsum(graph: Graph) -> None:
    value = graph.pick(rank=graph.one([2, 3]))
    extents = value.shape
    if value.rank == 2:
        equation = graph.one(["ij->ji", "ij->i", "ij->", "ij,jk->ik", "ij,kj->ik", "ij,ij->ij"])
        other = {"ij,jk->ik": (extents[1], graph.extent()), "ij,kj->ik": (graph.extent(), extents[1])}
    else:
        equation = graph.one(["bij->bji", "bij,bjk->bik", "bij,jk->bik"])
        shape = (extents[2], graph.extent())
        other = {"bij,bjk->bik": (extents[0], *shape), "bij,jk->bik": shape}
    names = [value.name]
    if "," in equation:
        names.append(graph.weights(*other.get(equation, extents)))
    graph.node("Einsum", names, equation=equation)


def _expand(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY))
    shape = [graph.extent() if extent == 1 else graph.one([extent, 1]) for extent in value.shape]
    shape = [graph.extent() for _ in range(graph.integer(0, 1))] + shape
    graph.node("Expand", [value.name, graph.constant(np.array(shape, np.int64))])


def _gather_elements(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY), rank=(1, 4))
    axis = graph.axis(value.rank)
    shape = [graph.integer(1, extent) for extent in value.shape]
    indices = graph.dice.integers(-value.shape[axis], value.shape[axis], shape)
    graph.node("GatherElements", [value.name, graph.constant(indices, "int64")], axis=axis)


def _gather_nd(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY), rank=(1, 4))
    depth = graph.integer(1, value.rank)
    rows = graph.shape(graph.integer(0, 1))
    indices = np.stack([graph.dice.integers(-e, e, rows) for e in value.shape[:depth]], axis=-1)
    graph.node("GatherND", [value.name, graph.constant(indices, "int64")])


def _scatter_elements(graph: Graph) -> None:
    value = graph.pick(rank=(1, 4))
    axis = graph.axis(value.rank)
    shape = [graph.integer(1, extent) for extent in value.shape]
    indices = np.argsort(graph.dice.random(value.shape), axis=axis)[tuple(slice(e) for e in shape)]
    names = [value.name, graph.constant(indices, "int64"), graph.weights(*shape)]
    reductions = ["none", "add", "mul"] + (["max", "min"] if graph.opset >= 18 else [])
    given = _maybe(graph, reduction=graph.one(reductions)) if graph.opset >= 16 else {}
    graph.node("ScatterElements", names, axis=axis, **given)


def _scatter_nd(graph: Graph) -> None:
    value = graph.pick(rank=(1, 4))
    depth = graph.integer(1, value.rank)
    every = np.stack(np.meshgrid(*(np.arange(e) for e in value.shape[:depth]), indexing="ij"), axis=-1)
    rows = graph.dice.permutation(every.reshape(-1, depth))[: graph.integer(1, 4)]
    updates = graph.weights(len(rows), *value.shape[depth:])
    reductions = ["none", "add", "mul"] + (["max", "min"] if graph.opset >= 18 else [])
    given = _maybe(graph, reduction=graph.one(reductions)) if graph.opset >= 16 else {}
    graph.node("ScatterND", [value.name, graph.constant(rows, "int64"), updates], **given)


def _grid_sample(graph: Graph) -> None:
    value = graph.pick(rank=4)
    grid = graph.weights(value.shape[0], graph.extent(4), graph.extent(4), 2)
    modes = ["linear", "nearest", "cubic"] if graph.opset >= 20 else ["bilinear", "nearest", "bicubic"]
    given = _maybe(graph, mode=graph.one(modes), align_corners=graph.integer(0, 1))
    given |= _maybe(graph, padding_mode=graph.one(["zeros", "border", "reflection"]))
    graph.node("GridSample", [value.name, grid], **given)


def _is_infinite(graph: Graph) -> None:
    given = _maybe(graph, detect_negative=graph.integer(0, 1), detect_positive=graph.integer(0, 1))
    graph.node("IsInf", [graph.pick().name], **given)


def _lp_pool(graph: Graph) -> None:
    image = _image(graph, (2,))
    window = _window(graph, image.shape[2:], dilated=False, pools=True)
    graph.node("LpPool", [image.name], **window, **_maybe(graph, p=graph.integer(1, 3)))


def _lrn(graph: Graph) -> None:
    given = _maybe(graph, alpha=graph.real(0.0001, 0.1), beta=graph.real(0.5, 1), bias=graph.real(0.5, 2))
    graph.node("LRN", [graph.pick(rank=4).name], size=graph.one([1, 2, 3, 5]), **given)


def _modulo(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(_REAL))
    if value.dtype == "float32":
        graph.node("Mod", [value.name, graph.constant(np.float32(graph.one([2, 0.7, -1.5])))], fmod=1)
    else:
        divisor = graph.constant(np.array(graph.one([2, 3, -3])), value.dtype)
        graph.node("Mod", [value.name, divisor], **_maybe(graph, fmod=graph.integer(0, 1)))


def _one_hot(graph: Graph) -> None:
    value = graph.pick(dtype="int64", rank=(0, 3))
    depth = graph.constant(np.array(graph.integer(1, 5), np.int64))
    values = graph.constant(np.array([graph.real(-1, 0), graph.real(0, 2)], np.float32))
    graph.node(
        "OneHot",
        [value.name, depth, values],
        **_maybe(graph, axis=graph.integer(-value.rank - 1, value.rank)),
    )


def _shape_of(graph: Graph) -> None:
    value = graph.pick(rank=(1, 5))
    given = _maybe(graph, start=graph.integer(-2, 1), end=graph.integer(1, 4)) if graph.opset >= 15 else {}
    graph.node("Shape", [value.name], **given)


def _tile(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY), rank=(1, 5))
    repeats = [graph.integer(1, 3) if graph.chance(0.5) else 1 for _ in value.shape]
    graph.node("Tile", [value.name, graph.constant(np.array(repeats, np.int64))])


def _top_k(graph: Graph) -> None:
    value = graph.pick(rank=(1, 4))
    axis = graph.axis(value.rank)
    count = graph.constant(np.array([graph.integer(1, value.shape[axis])], np.int64))
    given = _maybe(graph, largest=graph.integer(0, 1))
    graph.node("TopK", [value.name, count], 2, axis=axis, **given)


def _trilu(graph: Graph) -> None:
    value = graph.pick(rank=(2, 4))
    diagonal = [graph.constant(np.array(graph.integer(-2, 2), np.int64))] if graph.chance(0.5) else []
    graph.node("Trilu", [value.name, *diagonal], **_maybe(graph, upper=graph.integer(0, 1)))


def _where(graph: Graph) -> None:
    value = graph.pick()
    if graph.chance(0.4):
        condition = graph.constant(graph.numbers(graph.broadcast(value.shape), "bool"))
    else:
        condition = graph.node(graph.one(["Greater", "Less"]), [value.name, graph.partner(value)])[0].name
    graph.node("Where", [condition, value.name, graph.partner(value)])


FLOAT: dict[str, Row] = {
    **{
        operator: binary(operator, *_REAL)
        for operator in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    },
    **{operator: binary(operator, "bool") for operator in ("And", "Or", "Xor")},
    **{operator: binary(operator, *_INTEGERS) for operator in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    **{
        operator: reduction(operator, 18)
        for operator in (
            "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "ReduceSumSquare",
        )
    },
    "ArgMax": _argument("ArgMax"),
    "ArgMin": _argument("ArgMin"),
    "BitShift": _shift,
    "BitwiseNot": lambda g: g.node("BitwiseNot", [g.pick(dtype=g.one(_INTEGERS)).name]),
    "Cast": _cast,
    "ConvTranspose": _conv_transpose,
    "CumSum": _cumsum,
    "Dropout": unary("Dropout"),
    "Einsum": _einsum,
    "Expand": _expand,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "GlobalLpPool": lambda g: g.node("GlobalLpPool", [_image(g).name], **_maybe(g, p=g.integer(1, 3))),
    "GlobalMaxPool": lambda g: g.node("GlobalMaxPool", [_image(g).name]),
    "GridSample": _grid_sample,
    "Hardmax": _softmax("Hardmax"),
    "IntegerAdd": binary("Add", *_INTEGERS),
    "IntegerMul": binary("Mul", *_INTEGERS),
    "IntegerSub": binary("Sub", *_INTEGERS),
    "IntegerMax": binary("Max", *_INTEGERS),
    "IntegerMin": binary("Min", *_INTEGERS),
    "IsInf": _is_infinite,
    "IsNaN": unary("IsNaN"),
    "LRN": _lrn,
    "LogSoftmax": _softmax("LogSoftmax"),
    "LpPool": _lp_pool,
    "Mean": several("Mean"),
    "MeanVarianceNormalization": lambda g: g.node("MeanVarianceNormalization", [g.pick(rank=4).name]),
    "Mod": _modulo,
    "Not": lambda g: g.node("Not", [g.pick(dtype="bool").name]),
    "OneHot": _one_hot,
    "ReduceMax": reduction("ReduceMax", 18, *_REAL),
    "ReduceMin": reduction("ReduceMin", 18, *_REAL),
    "ReduceSum": reduction("ReduceSum", 13, *_REAL),
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape_of,
    "Size": lambda g: g.node("Size", [g.pick().name]),
    "Sum": several("Sum"),
    "Tile": _tile,
    "TopK": _top_k,
    "Trilu": _trilu,
    "Where": _where,
}  # fmt: skip
"""Operators without an integer form; names that no operator has are forms of one on integers."""

EVERY: dict[str, Row] = INTEGER | FLOAT
