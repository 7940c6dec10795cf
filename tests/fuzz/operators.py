"""The table of operators that are drawn: per operator, how to draw its inputs, attributes and constants.

A row adds a node to a graph or raises ImpossibleError. What it draws is valid ONNX as far as that is easy to
say; what isn't is refused by shape inference, or by whoever computes it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.fuzz.graph import Graph, ImpossibleError, Value

Row = Callable[[Graph], Any]
Attributes = Callable[[Graph], dict[str, Any]]


def _none(graph: Graph) -> dict[str, Any]:
    del graph
    return {}


def _maybe(graph: Graph, **attributes: Any) -> dict[str, Any]:
    """Each attribute given or, as often, left at its default."""
    return {key: value for key, value in attributes.items() if graph.chance(0.5)}


# --- one value in, one out ---------------------------------------------------------------------------------


def unary(operator: str, attributes: Attributes = _none, domain: tuple[float, float] | None = None) -> Row:
    """A function of one element. Mostly kept to a `domain`, where it has one."""

    def draw(graph: Graph) -> None:
        value = graph.pick().name
        if domain is not None and graph.chance(0.75):
            low, high = (graph.constant(np.float32(limit)) for limit in domain)
            value = graph.node("Clip", [value, low, high])[0].name
        graph.node(operator, [value], **attributes(graph))

    return draw


def _clip(graph: Graph) -> None:
    low, high = sorted((graph.real(-2, 1), graph.real(-1, 6)))
    limits = [graph.constant(np.float32(limit)) if graph.chance(0.75) else "" for limit in (low, high)]
    while limits and not limits[-1]:
        limits.pop()
    graph.node("Clip", [graph.pick().name, *limits])


def _prelu(graph: Graph) -> None:
    value = graph.pick()
    narrower = tuple(1 if graph.chance(0.4) else extent for extent in value.shape)
    shape = graph.one([(), (1,) * min(1, value.rank), value.shape, narrower[graph.integer(0, value.rank) :]])
    graph.node("PRelu", [value.name, graph.constant(graph.numbers(shape, "float32"))])


UNARY: dict[str, Row] = {
    operator: unary(operator)
    for operator in (
        "Abs", "Asinh", "Atan", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Mish",
        "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Tan",
        "Tanh",
    )
} | {
    "Acos": unary("Acos", domain=(-1, 1)),
    "Acosh": unary("Acosh", domain=(1, 5)),
    "Asin": unary("Asin", domain=(-1, 1)),
    "Atanh": unary("Atanh", domain=(-0.9, 0.9)),
    "Celu": unary("Celu", lambda g: _maybe(g, alpha=g.real(0.3, 2))),
    "Clip": _clip,
    "Elu": unary("Elu", lambda g: _maybe(g, alpha=g.real(0.1, 2))),
    "Gelu": unary("Gelu", lambda g: _maybe(g, approximate=g.one(["none", "tanh"]))),
    "HardSigmoid": unary("HardSigmoid", lambda g: _maybe(g, alpha=g.real(0.1, 0.5), beta=g.real(0, 1))),
    "LeakyRelu": unary("LeakyRelu", lambda g: _maybe(g, alpha=g.real(-0.5, 1.5))),
    "Log": unary("Log", domain=(0.05, 9)),
    "PRelu": _prelu,
    "Selu": unary("Selu", lambda g: _maybe(g, alpha=g.real(1, 2), gamma=g.real(0.5, 1.5))),
    "Shrink": unary("Shrink", lambda g: _maybe(g, bias=g.real(0, 1), lambd=g.real(0, 1))),
    "Sqrt": unary("Sqrt", domain=(0, 9)),
    "Swish": unary("Swish", lambda g: _maybe(g, alpha=g.real(0.5, 2))),
    "ThresholdedRelu": unary("ThresholdedRelu", lambda g: _maybe(g, alpha=g.real(0.1, 1.5))),
}  # fmt: skip


# --- two values in -----------------------------------------------------------------------------------------


def binary(operator: str, *dtypes: str) -> Row:
    """Two values that broadcast, one of them perhaps constant, or the same twice, in any order."""

    def draw(graph: Graph) -> None:
        value = graph.pick(dtype=graph.one(dtypes or ("float32",)))
        pair = [value.name, graph.partner(value)]
        graph.node(operator, pair if graph.chance(0.7) else pair[::-1])

    return draw


def _pow(graph: Graph) -> None:
    exponent = graph.constant(np.float32(graph.one([0, 1, 2, 3, 0.5, -1, 1.5, graph.real(-2, 2)])))
    value = graph.pick().name
    if graph.chance(0.5):
        value = graph.node("Abs", [value])[0].name
    graph.node("Pow", [value, exponent])


def several(operator: str) -> Row:
    """From one to four values that broadcast."""

    def draw(graph: Graph) -> None:
        value = graph.pick()
        graph.node(operator, [value.name, *(graph.partner(value, 0.3) for _ in range(graph.integer(0, 3)))])

    return draw


BINARY: dict[str, Row] = {
    "Add": binary("Add"),
    "Div": binary("Div"),
    "Max": several("Max"),
    "Min": several("Min"),
    "Mul": binary("Mul"),
    "Pow": _pow,
    "Sub": binary("Sub"),
}


# --- products ----------------------------------------------------------------------------------------------


def _window(
    graph: Graph, extents: tuple[int, ...], dilated: bool = True, pools: bool = False
) -> dict[str, Any]:
    """kernel_shape, strides, pads or auto_pad, dilations of a window that fits the extents."""
    kernel, strides, dilations, begins, ends = [], [], [], [], []
    automatic = graph.one(["SAME_UPPER", "SAME_LOWER", "VALID"]) if graph.chance(0.15) else None
    for extent in extents:
        dilation = graph.integer(1, 3) if dilated and graph.chance(0.25) else 1
        size = graph.integer(1, 4)
        size = size if graph.chance(0.8) else extent
        begin, end = (graph.integer(0, min(size - 1, 3)) if graph.chance(0.5) else 0 for _ in range(2))
        if automatic == "VALID":
            begin = end = 0
        while (size - 1) * dilation + 1 > extent + begin + end:
            size = max(1, size - 1)
            dilation = 1 if size == 1 else dilation
        if pools:  # a window in nothing but padding has no maximum
            begin, end = min(begin, size - 1), min(end, size - 1)
        kernel.append(size)
        strides.append(graph.integer(1, 3) if graph.chance(0.5) else 1)
        dilations.append(dilation)
        begins.append(begin)
        ends.append(end)
    made: dict[str, Any] = {"kernel_shape": kernel}
    if set(strides) != {1} or graph.chance(0.3):
        made["strides"] = strides
    if set(dilations) != {1}:
        made["dilations"] = dilations
    # ONNX's reference crops what a stride wider than the window leaves out; ONNX Runtime takes no such model.
    # Both take the extent of a dilated pooling's window for that of one that isn't dilated.
    alike = not pools or set(dilations) == {1} or automatic == "VALID"
    if automatic and alike and all(s <= k for s, k in zip(strides, kernel, strict=True)):
        made["auto_pad"] = automatic
    elif any(begins + ends) or graph.chance(0.3):
        made["pads"] = begins + ends
    return made


def _image(graph: Graph, dimensions: tuple[int, ...] = (1, 2, 2, 2)) -> Value:
    return graph.pick(rank=graph.one(dimensions) + 2)


def _conv(graph: Graph) -> None:
    image = _image(graph)
    channels = image.shape[1]
    group = (
        channels if graph.chance(0.3) else graph.one([g for g in range(1, channels + 1) if channels % g == 0])
    )
    outputs = group * graph.integer(1, 3 if group > 1 else 8)
    window = _window(graph, image.shape[2:])
    names = [image.name, graph.weights(outputs, channels // group, *window["kernel_shape"])]
    if graph.chance(0.7):
        names.append(graph.weights(outputs))
    if graph.chance(0.3):
        del window["kernel_shape"]
    if group > 1 or graph.chance(0.2):
        window["group"] = group
    graph.node("Conv", names, **window)


def _gemm(graph: Graph) -> None:
    value = graph.pick(rank=2)
    turned = graph.chance(0.15)
    depth, rows = value.shape if turned else value.shape[::-1]
    columns, other = graph.integer(1, 8), graph.chance(0.5)
    names = [value.name, graph.weights(*((columns, depth) if other else (depth, columns)))]
    if graph.chance(0.7):
        shape = graph.one([(columns,), (columns,), (1,), (), (1, columns), (rows, 1), (rows, columns)])
        names.append(graph.constant(graph.numbers(shape, "float32")))
    given = _maybe(graph, alpha=graph.real(-1, 2), beta=graph.real(-1, 2)) if graph.chance(0.3) else {}
    graph.node("Gemm", names, transA=int(turned) or None, transB=int(other) or None, **given)


def _matmul(graph: Graph) -> None:
    value = graph.pick(rank=(1, 5))
    depth, columns = value.shape[-1], graph.integer(1, 8)
    if graph.chance(0.25):  # two values
        others = [v for v in graph.values if v.dtype == "float32" and v.rank > 1 and v.shape[-2] == depth]
        shape = (*value.shape[:-2], depth, columns)
        other = graph.one(others) if others else graph.input(shape if graph.chance(0.5) else shape[-2:])
        graph.node("MatMul", [value.name, other.name])
    elif graph.chance(0.12):  # constant by value
        if value.rank < 2:
            raise ImpossibleError("a vector's rows")
        graph.node("MatMul", [graph.weights(columns, value.shape[-2]), value.name])
    else:
        shape = graph.one([(depth, columns)] * 6 + [(depth,), (1, depth, columns)])
        graph.node("MatMul", [value.name, graph.weights(*shape)])


def _batch_norm(graph: Graph) -> None:
    value = graph.pick(rank=(2, 5))
    channels = value.shape[1]
    variance = np.abs(graph.numbers((channels,), "float32")) + np.float32(0.1)
    names = [
        graph.weights(channels),
        graph.weights(channels),
        graph.weights(channels),
        graph.constant(variance),
    ]
    graph.node("BatchNormalization", [value.name, *names], **_maybe(graph, epsilon=graph.real(1e-5, 1e-2)))


def _recurrent(operator: str, graph: Graph) -> None:
    value = graph.pick(rank=3)
    steps, batch, inputs = value.shape
    hidden, gates = graph.integer(1, 9), {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    direction = graph.one(["forward", "forward", "reverse", "bidirectional"])
    directions = 2 if direction == "bidirectional" else 1
    names = [value.name, graph.weights(directions, gates * hidden, inputs)]
    names.append(graph.weights(directions, gates * hidden, hidden))
    names.append(graph.weights(directions, 2 * gates * hidden) if graph.chance(0.7) else "")
    lengths = np.full(batch, graph.integer(1, steps), np.int32)
    names.append(graph.constant(lengths) if graph.chance(0.1) else "")
    for _ in range(2 if operator == "LSTM" else 1):
        names.append(graph.weights(directions, batch, hidden) if graph.chance(0.3) else "")
    given: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if operator == "GRU":
        given["linear_before_reset"] = graph.integer(0, 1)
    if operator == "RNN" and graph.chance(0.3):
        given["activations"] = ["Relu"] * directions
    graph.node(operator, names, graph.integer(1, 2), **given)


PRODUCTS: dict[str, Row] = {
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    **{operator: partial(_recurrent, operator) for operator in ("GRU", "LSTM", "RNN")},
}


# --- reductions and pooling --------------------------------------------------------------------------------


def _average_pool(graph: Graph) -> None:
    image = _image(graph)
    window = _window(graph, image.shape[2:], dilated=graph.opset >= 19 and graph.chance(0.2), pools=True)
    given = _maybe(graph, ceil_mode=graph.integer(0, 1), count_include_pad=graph.integer(0, 1))
    graph.node("AveragePool", [image.name], **window, **given)


def _max_pool(graph: Graph) -> None:
    image = _image(graph)
    window = _window(graph, image.shape[2:], dilated=graph.chance(0.3), pools=True)
    indices = graph.chance(0.1)
    given = _maybe(graph, ceil_mode=graph.integer(0, 1))
    if indices and graph.chance(0.3):
        given["storage_order"] = 1
    graph.node("MaxPool", [image.name], 2 if indices else 1, **window, **given)


def reduction(operator: str, axes_input: int, *dtypes: str) -> Row:
    """Over some axes or all; from opset `axes_input` on the axes are an input."""

    def draw(graph: Graph) -> None:
        value = graph.pick(dtype=graph.one(dtypes or ("float32",)))
        given = _maybe(graph, keepdims=graph.integer(0, 1))
        axes = graph.axes(value.rank) if graph.chance(0.8) else []
        if graph.opset < axes_input:
            graph.node(operator, [value.name], axes=axes or None, **given)
            return
        given |= _maybe(graph, noop_with_empty_axes=graph.integer(0, 1)) if graph.chance(0.3) else {}
        names = [graph.constant(np.array(axes, np.int64))] if axes or graph.chance(0.3) else []
        graph.node(operator, [value.name, *names], **given)

    return draw


def _softmax(operator: str) -> Row:
    def draw(graph: Graph) -> None:
        value = graph.pick(rank=(1, 6))
        graph.node(operator, [value.name], **_maybe(graph, axis=graph.axis(value.rank)))

    return draw


def _global(operator: str, attributes: Attributes = _none) -> Row:
    return lambda graph: graph.node(operator, [_image(graph, (1, 2, 2, 3)).name], **attributes(graph))


REDUCTIONS: dict[str, Row] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global("GlobalAveragePool"),
    "MaxPool": _max_pool,
    "ReduceMean": reduction("ReduceMean", 18),
    "Softmax": _softmax("Softmax"),
}


# --- normalizations ----------------------------------------------------------------------------------------


def _group_norm(graph: Graph) -> None:
    if graph.opset < 21:
        raise ImpossibleError("another form before opset 21")
    value = _image(graph)
    channels = value.shape[1]
    groups = graph.one([g for g in range(1, channels + 1) if channels % g == 0])
    graph.node(
        "GroupNormalization",
        [value.name, graph.weights(channels), graph.weights(channels)],
        num_groups=groups,
    )


def _instance_norm(graph: Graph) -> None:
    value = _image(graph)
    names = [value.name, graph.weights(value.shape[1]), graph.weights(value.shape[1])]
    graph.node("InstanceNormalization", names, **_maybe(graph, epsilon=graph.real(1e-4, 1e-2)))


def _layer_norm(operator: str, least: int) -> Row:
    def draw(graph: Graph) -> None:
        if graph.opset < least:
            raise ImpossibleError("a later operator set")
        value = graph.pick(rank=(1, 5))
        axis = graph.axis(value.rank) if graph.chance(0.4) else -1
        shape = value.shape[axis:]
        names = [value.name, graph.weights(*shape)]
        names += [graph.weights(*shape)] if operator == "LayerNormalization" and graph.chance(0.6) else []
        graph.node(
            operator,
            names,
            axis=axis if axis != -1 else None,
            **_maybe(graph, epsilon=graph.real(1e-4, 1e-2)),
        )

    return draw


def _lp_norm(graph: Graph) -> None:
    value = graph.pick(rank=(1, 5))
    axis = _maybe(graph, axis=graph.axis(value.rank))
    graph.node("LpNormalization", [value.name], **axis, **_maybe(graph, p=graph.integer(1, 2)))


NORMALIZATIONS: dict[str, Row] = {
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm("LayerNormalization", 17),
    "LpNormalization": _lp_norm,
    "RMSNormalization": _layer_norm("RMSNormalization", 23),
}


# --- movements ---------------------------------------------------------------------------------------------

ANY = ("float32",) * 8 + ("int64", "int32", "bool")
"""Types of what is only moved."""


def _concat(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY), rank=(1, 6))
    axis = graph.integer(0, value.rank - 1)

    def fits(other: Value) -> bool:
        return other.rank == value.rank and all(
            a == b or place == axis for place, (a, b) in enumerate(zip(other.shape, value.shape, strict=True))
        )

    found = [v for v in graph.values if v.dtype == value.dtype and fits(v)]
    names = [graph.one(found).name for _ in range(graph.integer(0, 3))]
    if len(names) == 0 and graph.chance(0.7):
        shape = list(value.shape)
        shape[axis] = graph.extent()
        names.append(graph.input(tuple(shape), value.dtype).name)
    if graph.chance(0.12):
        shape = list(value.shape)
        shape[axis] = graph.extent()
        names.append(graph.constant(graph.numbers(tuple(shape), value.dtype)))
    names.insert(graph.integer(0, len(names)), value.name)
    graph.node("Concat", names, axis=axis - value.rank if graph.chance(0.4) else axis)


def _depth_to_space(graph: Graph) -> None:
    value = graph.pick(lambda v: v.shape[1] % 4 == 0, rank=4)
    graph.node("DepthToSpace", [value.name], blocksize=2, **_maybe(graph, mode=graph.one(["DCR", "CRD"])))


def _space_to_depth(graph: Graph) -> None:
    def fits(value: Value) -> bool:
        return value.shape[2] % 2 == 0 and value.shape[3] % 2 == 0

    graph.node("SpaceToDepth", [graph.pick(fits, rank=4).name], blocksize=2)


def _flatten(graph: Graph) -> None:
    value = graph.pick()
    graph.node("Flatten", [value.name], **_maybe(graph, axis=graph.integer(-value.rank, value.rank)))


def _gather(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY), rank=(1, 5))
    axis = graph.axis(value.rank)
    extent = value.shape[axis]
    shape = () if graph.chance(0.6) else graph.shape(graph.integer(1, 2))
    indices = graph.dice.integers(-extent, extent, shape)
    named = graph.constant(indices, graph.one(["int64", "int64", "int32"]))
    graph.node("Gather", [value.name, named], axis=axis if axis or graph.chance(0.5) else None)


def _pad(graph: Graph) -> None:
    value = graph.pick(rank=(1, 5))
    mode = graph.one(["constant"] * 5 + ["reflect", "edge", "wrap"])
    if mode == "wrap" and graph.opset < 19:
        mode = "edge"
    chosen = graph.opset >= 18 and graph.chance(0.25)
    axes = graph.axes(value.rank, least=1) if chosen else list(range(value.rank))
    pads = []
    for axis in axes * 2:
        most = 3 if mode in ("constant", "edge") else min(3, value.shape[axis] - 1)
        least = -min(1, value.shape[axis] - 1) if graph.chance(0.06) else 0
        pads.append(graph.integer(least, most) if graph.chance(0.6) and most > 0 else 0)
    names = [value.name, graph.constant(np.array(pads, np.int64))]
    fill = mode == "constant" and graph.chance(0.5)
    if fill:
        names.append(graph.constant(np.float32(graph.one([0, 0, graph.real(-2, 2)]))))
    if chosen:
        names += [] if fill else [""]
        names.append(graph.constant(np.array(axes, np.int64)))
    graph.node("Pad", names, mode=mode if mode != "constant" or graph.chance(0.3) else None)


def _reshape(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY))
    left, shape = value.size, []
    while left > 1 and len(shape) < 5 and graph.chance(0.8):
        shape.append(graph.one([d for d in range(1, left + 1) if left % d == 0]))
        left //= shape[-1]
    shape += [left] if left > 1 or graph.chance(0.4) else []
    if graph.chance(0.5):
        shape.insert(graph.integer(0, len(shape)), 1)
    if shape and graph.chance(0.3):
        shape[graph.integer(0, len(shape) - 1)] = -1
    for place, extent in enumerate(shape):
        if place < value.rank and extent == value.shape[place] and graph.chance(0.3):
            shape[place] = 0
    graph.node("Reshape", [value.name, graph.constant(np.array(shape[:6], np.int64))])


def _resize(graph: Graph) -> None:
    value = graph.pick(rank=graph.one([3, 4, 4, 4, 4, 5]))
    spatial = value.rank - 2
    mode = graph.one(["nearest"] * 4 + ["linear", "linear", "cubic"])
    if mode == "cubic" and value.rank != 4:
        mode = "linear"
    whole = graph.chance(0.5)
    names, given = [value.name, ""], {"mode": mode}
    if graph.chance(0.7):
        factors = [graph.integer(1, 3) if whole else graph.real(0.5, 2.6) for _ in range(spatial)]
        names.append(graph.constant(np.array([1, 1, *factors], np.float32)))
    else:
        sizes = [extent * graph.integer(1, 3) if whole else graph.integer(1, 9) for extent in value.shape[2:]]
        names += ["", graph.constant(np.array([*value.shape[:2], *sizes], np.int64))]
    modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    modes += ["half_pixel_symmetric"] if graph.opset >= 19 else []
    given |= _maybe(graph, coordinate_transformation_mode=graph.one(modes))
    if mode == "nearest":
        roundings = ["round_prefer_floor", "floor", "ceil", "round_prefer_ceil"]
        given |= _maybe(graph, nearest_mode=graph.one(roundings))
        if graph.chance(0.4):
            given |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif graph.opset >= 18 and graph.chance(0.1):
        given["antialias"] = 1
    elif mode == "cubic":
        given |= _maybe(graph, cubic_coeff_a=graph.real(-1, 0), exclude_outside=graph.integer(0, 1))
    graph.node("Resize", names, **given)


def _slice(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY), rank=(1, 6))
    axes = graph.axes(value.rank, least=1)
    plain = graph.chance(0.3)
    if plain:  # neither axes nor steps
        axes = list(range(len(axes)))
    starts, ends, steps = [], [], []
    for axis in axes:
        extent = value.shape[axis]
        step = 1 if plain or graph.chance(0.6) else graph.one([2, 3, -1, -1, -2])
        first, last = sorted((graph.integer(0, extent - 1), graph.integer(0, extent - 1)))
        start, end = (first, last + 1) if step > 0 else (last, first - 1)
        if start and graph.chance(0.3):
            start -= extent
        if step > 0 and end == extent:
            end = graph.one([extent, extent + 5, 2**63 - 1])
        elif end < 0:
            end = graph.one([-extent - 1, -(2**62)])
        elif graph.chance(0.3):
            end -= extent
        starts.append(start)
        ends.append(end)
        steps.append(step)
    given = [starts, ends] if plain else [starts, ends, axes]
    given += [steps] if not plain and set(steps) != {1} else []
    dtype = "int64" if max(map(abs, ends)) > 2**31 else graph.one(["int64", "int32"])
    graph.node("Slice", [value.name, *(graph.constant(np.array(part), dtype) for part in given)])


def _split(graph: Graph) -> None:
    value = graph.pick(lambda v: max(v.shape) > 1, dtype=graph.one(ANY), rank=(1, 6))
    axis = graph.one([a for a, extent in enumerate(value.shape) if extent > 1])
    extent, parts = value.shape[axis], []
    while extent:
        parts.append(graph.integer(1, extent))
        extent -= parts[-1]
    given = {"axis": axis - value.rank if graph.chance(0.4) else axis}
    names = [value.name, graph.constant(np.array(parts, np.int64))]
    if len(set(parts)) == 1 and graph.chance(0.5):
        names.pop()
        if graph.opset >= 18:
            given["num_outputs"] = len(parts)
    graph.node("Split", names, len(parts), **given)


def _squeeze(graph: Graph) -> None:
    value = graph.pick(lambda v: 1 in v.shape, dtype=graph.one(ANY), rank=(1, 6))
    ones = graph.some([a for a, extent in enumerate(value.shape) if extent == 1], least=1)
    axes = [axis - value.rank if graph.chance(0.4) else axis for axis in ones]
    names = [] if graph.chance(0.2) else [graph.constant(np.array(axes, np.int64))]
    graph.node("Squeeze", [value.name, *names])


def _unsqueeze(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY), rank=(0, 4))
    rank = value.rank + graph.integer(1, 2)
    places = graph.some(range(rank), least=rank - value.rank)[: rank - value.rank]
    axes = [axis - rank if graph.chance(0.4) else axis for axis in places]
    graph.node("Unsqueeze", [value.name, graph.constant(np.array(axes, np.int64))])


def _transpose(graph: Graph) -> None:
    value = graph.pick(dtype=graph.one(ANY))
    order = [int(axis) for axis in graph.dice.permutation(value.rank)]
    graph.node("Transpose", [value.name], perm=order if order and graph.chance(0.85) else None)


MOVEMENTS: dict[str, Row] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

INTEGER: dict[str, Row] = UNARY | BINARY | PRODUCTS | REDUCTIONS | NORMALIZATIONS | MOVEMENTS
"""Operators with an integer form, of docs/operators.md; a test compares the two."""
