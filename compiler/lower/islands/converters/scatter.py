"""Operators that read or write at indices: as what every element of the result is, so that tiles are free.

An element of the result looks through the updates for the last that is written to it, or adds all that are.
"""

import math
from collections.abc import Callable, Sequence

from tvm import te, tirx
from tvm.ir import Expr
from tvm.te import Tensor

from edgec.compiler.lower.islands.converters.given import Converter, Given, dtype_of, shape_of

Hit = tuple[Expr, Callable[[Tensor], Expr]]
"""Whether a candidate is written to an element, and how its value is read from the updates."""

_COMBINED: dict[str, Callable[[Expr, Expr], Expr]] = {
    "none": lambda a, b: b,
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "max": tirx.max,
    "min": tirx.min,
}


def _combined(given: Given, count: int, hit: Callable[[Tensor, Sequence[Expr], Expr], Hit]) -> Expr:
    """Return the tensor with `count` candidates for every element combined into it.

    `hit` gets the indices' tensor, an element's position and a candidate's number, and returns whether that
    is written there, and how its value is read from the updates.
    """
    reduction = given.attributes.get("reduction", "none")
    combine, kind = _COMBINED[reduction], dtype_of(given.data)

    def last(indices: Tensor) -> Expr:
        """Return the number of the last candidate that is written, plus 1; 0 for none."""
        k = te.reduce_axis((0, count), "k")
        numbers = te.comm_reducer(lambda a, b: tirx.max(a, b), lambda _: tirx.const(0, "int32"))

        def at(*position: Expr) -> Expr:
            written, _ = hit(indices, position, k)
            return numbers(tirx.Select(written, k.var.astype("int32") + 1, tirx.const(0, "int32")), axis=[k])

        return te.compute(given.shape, at)

    if reduction == "none":
        found = given.compute(last, given.inputs[1])

        def place(x: Tensor, indices: Tensor, updates: Tensor, number: Tensor) -> Expr:
            def at(*position: Expr) -> Expr:
                entry = number(*position)
                _, read = hit(indices, position, tirx.max(entry - 1, 0))
                return tirx.if_then_else(entry > 0, read(updates), x(*position))

            return te.compute(given.shape, at)

        return given.compute(place, given.data, given.inputs[1], given.inputs[2], found)

    starts = {
        "add": tirx.const(0, kind),
        "mul": tirx.const(1, kind),
        "max": tirx.min_value(kind) if not kind.startswith("float") else tirx.const(-math.inf, kind),
        "min": tirx.max_value(kind) if not kind.startswith("float") else tirx.const(math.inf, kind),
    }
    start = starts[reduction]
    reducer = te.comm_reducer(lambda a, b: combine(a, b), lambda _: start)

    def gather(indices: Tensor, updates: Tensor) -> Expr:
        k = te.reduce_axis((0, count), "k")

        def at(*position: Expr) -> Expr:
            written, read = hit(indices, position, k)
            return reducer(tirx.if_then_else(written, read(updates), start), axis=[k])

        return te.compute(given.shape, at)

    gathered = given.compute(gather, given.inputs[1], given.inputs[2])

    def join(x: Tensor, other: Tensor) -> Expr:
        return te.compute(given.shape, lambda *i: combine(x(*i), other(*i)))

    return given.compute(join, given.data, gathered)


def _scatter_nd(given: Given) -> Expr:
    source, indices = shape_of(given.data), shape_of(given.inputs[1])
    depth, outer = indices[-1], indices[:-1]

    def hit(listed: Tensor, position: Sequence[Expr], number: Expr) -> Hit:
        entry = _unravelled(number, outer)
        same = []
        for axis in range(depth):
            index = listed(*entry, axis)
            same.append(tirx.any(index == position[axis], index == position[axis] - source[axis]))
        return tirx.all(*same), lambda updates: updates(*entry, *position[depth:])

    return _combined(given, math.prod(outer), hit)


def _scatter_elements(given: Given) -> Expr:
    source, indices, axis = shape_of(given.data), shape_of(given.inputs[1]), given.axis()
    others = [a for a in range(len(source)) if a != axis]

    def hit(listed: Tensor, position: Sequence[Expr], number: Expr) -> Hit:
        # Of the other dimensions only the beginning may have updates.
        inside = [position[a] < indices[a] for a in others]
        entry = [tirx.min(p, n - 1) for p, n in zip(position, indices, strict=True)]
        entry[axis] = number
        index = listed(*entry)
        here = tirx.any(index == position[axis], index == position[axis] - source[axis])
        return tirx.all(*inside, here), lambda updates: updates(*entry)

    return _combined(given, indices[axis], hit)


def _unravelled(number: Expr, extents: tuple[int, ...]) -> list[Expr]:
    entry: list[Expr] = []
    for extent in reversed(extents):
        entry.insert(0, tirx.floormod(number, extent))
        number = tirx.floordiv(number, extent)
    return entry


SCATTERS: dict[str, Converter] = {
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
