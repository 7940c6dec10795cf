"""Operators that shape, repeat, cut and place tensors, also where an input says how.

A result's shape is declared: where an input that is no constant can't mean anything else than that shape
(Reshape, Expand, the k of TopK), it isn't even read.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import onnx
from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.te import Tensor

from edgec.arrays import Array
from edgec.compiler.lower.islands.converters.given import Converter, Given, Result, array, dtype_of, shape_of


def _reshape(given: Given) -> Expr:
    return relax.op.reshape(given.data, given.shape)


def _expand(given: Given) -> Expr:
    return relax.op.broadcast_to(given.data, given.shape)


def _tile(given: Given) -> Expr:
    source = shape_of(given.data)

    def tile(x: Tensor) -> Expr:
        return te.compute(given.shape, lambda *at: x(*(i % n for i, n in zip(at, source, strict=True))))

    return given.compute(tile, given.data)


def _shape(given: Given) -> Expr:
    start, end = given.attributes.get("start", 0), given.attributes.get("end", None)
    return array(shape_of(given.data)[start:end], "int64")


def _size(given: Given) -> Expr:
    return array(math.prod(shape_of(given.data)), "int64")


def _constant_of_shape(given: Given) -> Expr:
    value = given.attributes.get("value")
    return array(np.full(given.shape, 0 if value is None else _number(value)), given.dtype)


def _number(tensor: onnx.TensorProto) -> Array:
    return onnx.numpy_helper.to_array(tensor).reshape(())


def _eye_like(given: Given) -> Expr:
    rows, columns = given.shape
    return array(np.eye(rows, columns, int(given.attributes.get("k", 0))), given.dtype)


def _split(given: Given) -> Result:
    axis, sizes = given.axis(), [shape[given.axis()] for shape, _ in given.results]
    if len(sizes) == 1:
        return given.data
    parts = given.emit(relax.op.split(given.data, [int(i) for i in np.cumsum(sizes)[:-1]], axis))
    return [given.emit(relax.TupleGetItem(parts, i)) for i in range(len(sizes))]


def _slice(given: Given) -> Result:
    """Read starts, axes and steps when it runs: where it ends, the declared shape says."""
    if all(given.input(i) is None or given.constant(i) is not None for i in range(1, 5)):
        return None
    source, result, starts = shape_of(given.data), given.shape, given.inputs[1]
    count = shape_of(starts)[0]
    axes = given.input(3) or array(range(count), "int64")
    steps = given.input(4) or array([1] * count, "int64")

    def cut(x: Tensor, starts: Tensor, axes: Tensor, steps: Tensor) -> Expr:
        def place(axis: int, entry: int, position: Expr) -> Expr:
            extent, step, start = source[axis], _wide(steps(entry)), _wide(starts(entry))
            start = tirx.Select(start < 0, start + extent, start)
            start = tirx.max(tirx.min(start, tirx.Select(step < 0, extent - 1, extent)), 0)
            return tirx.max(tirx.min(start + position * step, extent - 1), 0)

        def at(*position: Expr) -> Expr:
            index = [_wide(i) for i in position]
            for axis, entry in itertools.product(range(len(source)), range(count)):
                here = tirx.any(axes(entry) == axis, axes(entry) == axis - len(source))
                index[axis] = tirx.Select(here, place(axis, entry, _wide(position[axis])), index[axis])
            return x(*index)

        return te.compute(result, at)

    return given.compute(cut, given.data, starts, axes, steps)


def _wide(index: Expr) -> Expr:
    return index.astype("int64")


def _gather(given: Given) -> Expr:
    # "wrap" is right for negative indices too; TVM's default reads outside the tensor.
    return relax.op.take(given.data, given.inputs[1], given.axis(), mode="wrap")


def _pad(given: Given) -> Result:
    """Read pads that are no constants when it runs: the result's declared shape says what is after."""
    mode = given.attributes.get("mode", "constant")
    source, result = shape_of(given.data), given.shape
    pads, value, axes = given.inputs[1], given.input(2), given.constant(3)
    if given.opset < 11 or (given.input(3) is not None and axes is None):
        return None
    listed = [int(a) % len(source) for a in (range(len(source)) if axes is None else axes)]
    known = given.constant(1)
    if known is not None and axes is None and mode == "constant" and value is None:
        return None

    def pad(x: Tensor, *parts: Tensor) -> Expr:
        before, filling = parts[0], parts[-1]

        def at(*position: Expr) -> Expr:
            index, inside = [], []
            for axis, (place, extent) in enumerate(zip(position, source, strict=True)):
                if axis not in listed:
                    index.append(place)
                    continue
                entry = listed.index(axis)
                first = int(known[entry]) if known is not None else _wide(before(entry))
                moved = _wide(place) - first
                inside += [moved >= 0, moved < extent]
                index.append(_PLACES[mode](moved, extent))
            if mode == "constant":
                return tirx.if_then_else(tirx.all(*inside), x(*index), filling())
            return x(*index)

        return te.compute(result, at)

    filling = array(0, dtype_of(given.data)) if value is None else given.emit(relax.op.reshape(value, ()))
    return given.compute(pad, given.data, *([pads] if known is None else []), filling)


def _reflected(place: Expr, extent: int) -> Expr:
    if extent == 1:
        return tirx.const(0, "int64")
    period = 2 * (extent - 1)
    turned = tirx.floormod(place, period)
    return tirx.min(turned, period - turned)


_PLACES: dict[str, Callable[[Expr, int], Expr]] = {
    "constant": lambda place, extent: tirx.max(tirx.min(place, extent - 1), 0),
    "edge": lambda place, extent: tirx.max(tirx.min(place, extent - 1), 0),
    "reflect": _reflected,
    "wrap": tirx.floormod,
}
"""By mode of Pad: which element of a dimension lies at a place outside of it."""


def _one_hot(given: Given) -> Expr:
    rank = len(given.shape)
    axis = int(given.attributes.get("axis", -1)) % rank
    depth = given.shape[axis]

    def hot(indices: Tensor, values: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            index = indices(*position[:axis], *position[axis + 1 :]).astype("int64")
            index = tirx.Select(index < 0, index + depth, index)
            return tirx.Select(index == _wide(position[axis]), values(1), values(0))

        return te.compute(given.shape, at)

    return given.compute(hot, given.data, given.inputs[2])


def _range(given: Given) -> Expr:
    start, _, delta = given.inputs
    kind = given.dtype

    def run(first: Tensor, step: Tensor) -> Expr:
        return te.compute(given.shape, lambda i: first() + i.astype(kind) * step())

    return given.compute(run, start, delta)


def _trilu(given: Given) -> Expr:
    upper = bool(given.attributes.get("upper", 1))
    k = given.input(1)
    k = array(0, "int64") if k is None else given.emit(relax.op.reshape(k, ()))
    zero = tirx.const(0, dtype_of(given.data))

    def triangle(x: Tensor, diagonal: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            off = position[-1].astype("int64") - position[-2].astype("int64")
            kept = off >= diagonal() if upper else off <= diagonal()
            return tirx.Select(kept, x(*position), zero)

        return te.compute(given.shape, at)

    return given.compute(triangle, given.data, k)


def _space_to_depth(given: Given) -> Expr:
    """Blocks to channels: [n, c, h/b, b, w/b, b], the two b before c or behind it."""
    n, c, h, w = shape_of(given.data)
    b = int(given.attributes["blocksize"])
    blocks = given.emit(relax.op.reshape(given.data, (n, c, h // b, b, w // b, b)))
    order = [0, 3, 5, 1, 2, 4] if given.attributes.get("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    return relax.op.reshape(given.emit(relax.op.permute_dims(blocks, order)), given.shape)


def _reverse_sequence(given: Given) -> Expr:
    batch, time = int(given.attributes.get("batch_axis", 1)), int(given.attributes.get("time_axis", 0))

    def reverse(x: Tensor, lengths: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            length, place = lengths(position[batch]), position[time].astype("int64")
            index: list[Expr] = list(position)
            index[time] = tirx.Select(place < length, length - 1 - place, place)
            return x(*index)

        return te.compute(given.shape, at)

    return given.compute(reverse, given.data, given.inputs[1])


SHAPES: dict[str, Converter] = {
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Gather": _gather,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Trilu": _trilu,
    "Unsqueeze": _reshape,
}
