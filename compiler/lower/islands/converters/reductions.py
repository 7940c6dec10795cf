"""Operators that reduce dimensions, run along one, or normalize along some."""

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.te import Tensor

from edgec.compiler.lower.islands.converters.axes import fitting_axes, reduced
from edgec.compiler.lower.islands.converters.given import (
    Converter,
    Given,
    Result,
    array,
    dtype_of,
    is_float,
    shape_of,
)

Reduction = Callable[[Given, Expr, list[int], bool], Expr]
"""Returns what a tensor is reduced to along axes, which are kept (True) or not."""


def _choices(given: Given) -> list[list[int]]:
    """Return what a Reduce may reduce: one choice, or those that its declared shape leaves open.

    Where axes are no constant, shapes tell them but for dimensions of one extent.
    """
    source = shape_of(given.data)
    axes = given.attributes.get("axes") or given.constant(1)
    if axes is None and given.input(1) is not None and (count := shape_of(given.inputs[1])[0]):
        return fitting_axes(source, given.shape, count, bool(given.attributes.get("keepdims", 1)))
    if axes is None or len(axes) == 0:
        return [[] if given.attributes.get("noop_with_empty_axes", 0) else list(range(len(source)))]
    return [sorted({int(axis) % len(source) for axis in axes})]


def _reduce(
    reduction: Callable[[Given, Any, list[int], bool], Any],
    before: Callable[[Given, Expr], Expr] = lambda given, x: x,
    after: Callable[[Given, Expr], Expr] = lambda given, x: x,
) -> Converter:
    """Reduce before(x), and apply after() to that: these two even where there are no axes to reduce."""

    def convert(given: Given) -> Expr:
        x, keep = before(given, given.data), bool(given.attributes.get("keepdims", 1))
        choices = _choices(given)
        results = [given.emit(reduction(given, x, axes, keep)) if axes else x for axes in choices]
        return after(given, _chosen(given, choices, results))

    return convert


def _chosen(given: Given, choices: list[list[int]], results: list[Expr]) -> Expr:
    """Return the result of those axes that the node's second input lists when it runs."""
    rank = len(shape_of(given.data))
    if len(results) == 1:
        return results[0]

    def choose(listed: Tensor, *tensors: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            value = tensors[0](*position)
            for axes, tensor in zip(choices[1:], tensors[1:], strict=True):
                entries = range(int(listed.shape[0]))
                here = [tirx.any(*(listed(e) == a - r for a in axes for r in (0, rank))) for e in entries]
                value = tirx.Select(tirx.all(*here), tensor(*position), value)
            return value

        return te.compute(tensors[0].shape, at)

    return given.compute(choose, given.inputs[1], *results)


def _extreme(operation: Callable[[Expr, Expr], Expr], sign: int) -> Reduction:
    """Return a maximum or minimum; TVM's own start from the largest finite number."""

    def reduce(given: Given, x: Expr, axes: list[int], keep: bool) -> Expr:
        kind = dtype_of(x)
        if kind == "bool":
            x, kind = given.emit(relax.op.astype(x, "uint8")), "uint8"
        if is_float(kind):
            start = tirx.const(-sign * np.inf, kind)
        else:
            limits = np.iinfo(kind)
            start = tirx.const(int(limits.min if sign > 0 else limits.max), kind)
        source = shape_of(x)
        reducer = te.comm_reducer(lambda a, b: operation(a, b), lambda _: start)  # it counts parameters

        def compute(t: Tensor) -> Expr:
            along = {axis: te.reduce_axis((0, source[axis]), f"k{axis}") for axis in axes}

            def at(*position: Expr) -> Expr:
                rest = list(position)
                index: list[Any] = [along.get(axis) for axis in range(len(source))]
                for axis in range(len(source)):
                    if axis in along:
                        if keep:
                            rest.pop(0)
                    else:
                        index[axis] = rest.pop(0)
                return reducer(t(*index), axis=list(along.values()))

            return te.compute(reduced(source, axes, keep), at)

        result = given.compute(compute, x)
        return relax.op.astype(result, given.dtype) if dtype_of(given.data) == "bool" else result

    return reduce


def _relax(operation: Callable[..., Expr]) -> Reduction:
    return lambda given, x, axes, keep: operation(x, axes, keepdims=keep)


def _applied(operation: Callable[[Expr], Expr]) -> Callable[[Given, Expr], Expr]:
    return lambda given, x: given.emit(operation(x))


def _squared(given: Given, x: Expr) -> Expr:
    return given.emit(relax.op.multiply(x, x))


def _root(given: Given, x: Expr) -> Expr:
    if is_float(dtype_of(x)):
        return given.emit(relax.op.sqrt(x))
    wide = given.emit(relax.op.astype(x, "float64"))
    return given.emit(relax.op.astype(given.emit(relax.op.sqrt(wide)), given.dtype))


def _log_sum_exp(given: Given, x: Expr, axes: list[int], keep: bool) -> Expr:
    """Return log(sum(exp(x))), relative to the largest element, that nothing overflows."""
    largest = given.emit(_extreme(tirx.max, 1)(given, x, axes, True))
    finite = given.emit(relax.op.less(given.emit(relax.op.abs(largest)), array(np.inf, given.dtype)))
    largest = given.emit(relax.op.where(finite, largest, array(0, given.dtype)))
    raised = given.emit(relax.op.exp(given.emit(relax.op.subtract(x, largest))))
    total = given.emit(relax.op.log(given.emit(relax.op.sum(raised, axes, keepdims=True))))
    total = given.emit(relax.op.add(total, largest))
    return relax.op.reshape(total, reduced(shape_of(x), axes, keep))


def _arg(operation: Callable[..., Expr], nan: int) -> Converter:
    """Find the first of equal elements, or the last; NaN is `nan` (1: the largest, -1: the smallest)."""

    def convert(given: Given) -> Expr:
        axis, keep = given.axis(), bool(given.attributes.get("keepdims", 1))
        data = given.data
        if is_float(dtype_of(data)):
            data = given.compute(lambda x: _ordered(x, nan), data)
        if not given.attributes.get("select_last_index", 0):
            return relax.op.astype(given.emit(operation(data, axis, keep)), "int64")
        last = shape_of(given.data)[axis] - 1

        def turn(x: Tensor) -> Expr:
            return te.compute(x.shape, lambda *i: x(*i[:axis], last - i[axis], *i[axis + 1 :]))

        turned = given.compute(turn, data)
        found = given.emit(relax.op.astype(given.emit(operation(turned, axis, keep)), "int64"))
        return relax.op.subtract(array(last, "int64"), found)

    return convert


def _hardmax(given: Given) -> Expr:
    """Mark the first of the largest elements."""
    axis = given.axis(-1)
    keys = given.compute(_ordered, given.data) if is_float(given.dtype) else given.data
    largest = given.emit(relax.op.argmax(keys, axis, True))

    def mark(place: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            index = [*position]
            index[axis] = tirx.const(0, "int64")
            here = place(*index) == position[axis].astype(str(place.dtype))
            return tirx.Select(here, tirx.const(1, given.dtype), tirx.const(0, given.dtype))

        return te.compute(given.shape, at)

    return given.compute(mark, largest)


def _cumulative(times: bool) -> Converter:
    """Sum or multiply up to an element; along which axis may be read when it runs."""

    def convert(given: Given) -> Expr:
        source, kind = shape_of(given.data), given.dtype
        exclusive, reverse = (bool(given.attributes.get(name, 0)) for name in ("exclusive", "reverse"))
        operation = (lambda a, b: a * b) if times else (lambda a, b: a + b)
        start = tirx.const(1 if times else 0, kind)
        reducer = te.comm_reducer(operation, lambda _: start)
        known = given.constant(1)

        def along(x: Tensor, axis: int) -> Expr:
            k = te.reduce_axis((0, source[axis]), "k")

            def at(*position: Expr) -> Expr:
                index = list(position)
                index[axis] = k
                a, b = (position[axis], k) if reverse else (k, position[axis])
                counted = a < b if exclusive else a <= b
                return reducer(tirx.Select(counted, x(*index), start), axis=[k])

            return te.compute(source, at)

        if known is not None:
            return given.compute(lambda x: along(x, int(known.reshape(())) % len(source)), given.data)
        choices = [given.compute(lambda x, a=axis: along(x, a), given.data) for axis in range(len(source))]
        wanted = given.emit(relax.op.reshape(given.inputs[1], ()))

        def chosen(axis: Tensor, *results: Tensor) -> Expr:
            def at(*position: Expr) -> Expr:
                value = results[0](*position)
                for number in range(1, len(source)):
                    here = tirx.any(axis() == number, axis() == number - len(source))
                    value = tirx.Select(here, results[number](*position), value)
                return value

            return te.compute(source, at)

        return given.compute(chosen, wanted, *choices)

    return convert


def _top_k(given: Given) -> Result:
    """Sorted by rank: how many elements come before one, of equal ones those in front of it.

    Floats are compared as integers of the same order, in which NaN is the largest: places would lie outside
    of the tensor if an element were neither before nor behind another.
    """
    source, axis = shape_of(given.data), given.axis(-1)
    largest = bool(given.attributes.get("largest", 1))
    count, length = given.shape[axis], source[axis]

    def ranks(x: Tensor) -> Expr:
        k = te.reduce_axis((0, length), "k")

        def at(*position: Expr) -> Expr:
            other = [*position[:axis], k, *position[axis + 1 :]]
            mine, its = x(*position), x(*other)
            before = its > mine if largest else its < mine
            tied = tirx.all(its == mine, k < position[axis])
            return te.sum(tirx.any(before, tied).astype("int32"), axis=[k])

        return te.compute(source, at)

    def places(rank: Tensor) -> Expr:
        k = te.reduce_axis((0, length), "k")

        def at(*position: Expr) -> Expr:
            other = [*position[:axis], k, *position[axis + 1 :]]
            here = rank(*other) == position[axis].astype("int32")
            return te.sum(tirx.Select(here, k, 0).astype("int64"), axis=[k])

        return te.compute((*source[:axis], count, *source[axis + 1 :]), at)

    keys = given.compute(_ordered, given.data) if is_float(given.dtype) else given.data
    indices = given.compute(places, given.compute(ranks, keys))

    def taken(x: Tensor, index: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            return x(*position[:axis], index(*position), *position[axis + 1 :])

        return te.compute((*source[:axis], count, *source[axis + 1 :]), at)

    return [given.compute(taken, given.data, indices), indices]


def _ordered(x: Tensor, nan: int = 1) -> Expr:
    """Integers in the order of floats, equal for the two zeros; NaN is the largest (1) or smallest (-1)."""
    bits = 64 if str(x.dtype) == "float64" else 32
    integer = f"int{bits}"

    def key(*position: Expr) -> Expr:
        value = x(*position).astype(f"float{bits}")
        same_bits = tirx.reinterpret(integer, value)
        below = tirx.const(-(2 ** (bits - 1)), integer) - same_bits
        signed = tirx.Select(same_bits < tirx.const(0, integer), below, same_bits)
        return tirx.Select(tirx.isnan(value), tirx.const(nan * (2 ** (bits - 1) - 1), integer), signed)

    return te.compute(x.shape, key)


def _layer_normalization(given: Given) -> Result:
    """Over the dimensions from the axis on; mean and inverse deviation are results, too."""
    if len(given.results) == 1 and given.dtype == "float32":
        return None
    source = shape_of(given.data)
    axes = list(range(given.axis(-1), len(source)))
    epsilon = array(given.attributes.get("epsilon", 1e-5), "float32")
    x = given.data if given.dtype == "float32" else given.emit(relax.op.astype(given.data, "float32"))
    mean = given.emit(relax.op.mean(x, axes, keepdims=True))
    centred = given.emit(relax.op.subtract(x, mean))
    variance = given.emit(relax.op.mean(_squared(given, centred), axes, keepdims=True))
    inverse = given.emit(relax.op.rsqrt(given.emit(relax.op.add(variance, epsilon))))
    result = _scaled(given, given.emit(relax.op.multiply(centred, inverse)))
    others = [relax.op.astype(v, t) for v, (_, t) in zip((mean, inverse), given.results[1:], strict=False)]
    return [result, *map(given.emit, others)] if others else result


def _lp_normalization(given: Given) -> Expr:
    """Divide by the length of a row; one of zeros stays."""
    axes, x = [given.axis(-1)], given.data
    if given.attributes.get("p", 2) == 1:
        length = given.emit(relax.op.sum(given.emit(relax.op.abs(x)), axes, keepdims=True))
    else:
        length = given.emit(relax.op.sqrt(given.emit(relax.op.sum(_squared(given, x), axes, keepdims=True))))
    zero, one = (array(value, given.dtype) for value in (0, 1))
    is_zero = given.emit(relax.op.equal(length, zero))
    return relax.op.divide(x, given.emit(relax.op.where(is_zero, one, length)))


def _scaled(given: Given, normal: Expr) -> Expr:
    if given.dtype != "float32":
        normal = given.emit(relax.op.astype(normal, given.dtype))
    result = given.emit(relax.op.multiply(normal, given.inputs[1]))
    bias = given.input(2)
    return result if bias is None else given.emit(relax.op.add(result, bias))


def _in_float32(operation: Callable[[Expr, Given], Expr]) -> Converter:
    """Half precision is summed in single precision, as ONNX Runtime does."""

    def convert(given: Given) -> Result:
        if given.dtype != "float16":
            return None
        wide = given.emit(relax.op.astype(given.data, "float32"))
        return relax.op.astype(given.emit(operation(wide, given)), "float16")

    return convert


def _product(given: Given) -> Result:
    if given.dtype != "float16" or len(shape_of(given.data)) < 2 or len(shape_of(given.inputs[1])) < 2:
        return None
    wide = given.emit(relax.op.matmul(given.data, given.inputs[1], out_dtype="float32"))
    return relax.op.astype(wide, "float16")


REDUCTIONS: dict[str, Converter] = {
    "ArgMax": _arg(relax.op.argmax, 1),
    "ArgMin": _arg(relax.op.argmin, -1),
    "CumProd": _cumulative(times=True),
    "CumSum": _cumulative(times=False),
    "Hardmax": _hardmax,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _in_float32(lambda x, given: relax.op.nn.log_softmax(x, given.axis(-1))),
    "LpNormalization": _lp_normalization,
    "MatMul": _product,
    "ReduceL1": _reduce(_relax(relax.op.sum), before=_applied(relax.op.abs)),
    "ReduceL2": _reduce(_relax(relax.op.sum), before=_squared, after=_root),
    "ReduceLogSum": _reduce(_relax(relax.op.sum), after=_applied(relax.op.log)),
    "ReduceLogSumExp": _reduce(_log_sum_exp),
    "ReduceMax": _reduce(_extreme(tirx.max, 1)),
    "ReduceMean": _reduce(_relax(relax.op.mean)),
    "ReduceMin": _reduce(_extreme(tirx.min, -1)),
    "ReduceProd": _reduce(_relax(relax.op.prod)),
    "ReduceSum": _reduce(_relax(relax.op.sum)),
    "ReduceSumSquare": _reduce(_relax(relax.op.sum), before=_squared),
    "Softmax": _in_float32(lambda x, given: relax.op.nn.softmax(x, given.axis(-1))),
    "TopK": _top_k,
}
