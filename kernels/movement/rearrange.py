"""Strided copies: transposes, slices, splits, shuffles, nearest-neighbour resizing."""

import math
from dataclasses import dataclass, replace
from functools import partial

from edgec.kernels import tir
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, Rearrange, laid, span
from edgec.kernels.pointwise.elementwise import CHUNK
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Strides and planes up to this many are loaded as whole vectors and shuffled.
_PLANES = 4


_MOVED_AS = {"bool": "uint8", "float16": "uint16"}
"""Types that not every CPU loads and stores; a copy moves their bytes."""


def rearrange(operation: Rearrange, target: Target, demands: Demands = FREE) -> KernelCode:
    """Copy by strides: the innermost dimension, or the two innermost, as runs of vectors."""
    del target
    operation = replace(operation, dtype=_MOVED_AS.get(operation.dtype, operation.dtype))
    own = laid(operation.shape, demands.runs)
    size = span(demands.runs, math.prod(operation.shape))
    walk = _walk(operation, own)
    return KernelCode(
        key=f"rearrange {operation.dtype} {walk} {operation.offset} {operation.input_size}",
        make=partial(_rearrange, operation, walk, size),
        tiles=math.prod(walk.outer) if walk.outer else -(-walk.count // CHUNK),
    )


@dataclass(frozen=True)
class _Walk:
    """How a strided copy is run through."""

    outer: tuple[int, ...]
    outer_strides: tuple[int, ...]
    result_strides: tuple[int, ...]
    """Strides of the same dimensions, in the result."""
    count: int
    """Steps of one run; each writes `width` elements next to each other."""
    step: int
    """Elements of the input between steps."""
    width: int
    plane: int
    """Elements of the input between the elements of one step: a few planes become interleaved channels."""


def _walk(operation: Rearrange, own: tuple[int, ...]) -> _Walk:
    """Return how to run through a copy to a result that lies by the strides `own`."""
    sizes, (steps, result) = tir.merge_dimensions(operation.shape, [operation.strides, own])
    interleaved = len(sizes) > 1 and sizes[-1] <= _PLANES and steps[-2] == 1 and result[-2] == sizes[-1]
    run = 2 if interleaved else 1
    outer = tuple(sizes[:-run]), tuple(steps[:-run]), tuple(result[:-run])
    if interleaved:
        return _Walk(*outer, sizes[-2], 1, sizes[-1], steps[-1])
    return _Walk(*outer, sizes[-1], steps[-1], 1, 0)


def _rearrange(operation: Rearrange, walk: _Walk, size: int) -> object:
    lanes_at_once = tir.VECTOR_BYTES // tir.lanes_bytes(operation.dtype)

    def body(x: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch

        def run(source: Expr, destination: Expr, count: int) -> None:
            def vector(offset: Expr, lanes: int) -> None:
                first = source + offset * walk.step
                if walk.width > 1:
                    value = _interleaved(x, first, lanes, walk)
                else:
                    value = _strided(x, first, lanes, walk.step, phase)
                tir.store(y, destination + offset * walk.width, value, lanes * walk.width)

            tir.vectors(count, lanes_at_once // walk.width if walk.width > 1 else lanes_at_once, vector)

        phase = _phase(operation, walk)
        if not walk.outer:
            offset = operation.offset
            tir.chunked(
                begin, end, walk.count, CHUNK,
                lambda i, count: run(i * walk.step + offset, i * walk.width, count),
            )  # fmt: skip
            return
        with T.serial(begin, end) as index:
            source = tir.strided(index, walk.outer, walk.outer_strides) + operation.offset
            run(source, tir.strided(index, walk.outer, walk.result_strides), walk.count)

    return tir.kernel([(operation.dtype, operation.input_size), (operation.dtype, size)], "uint8", body)


def _phase(operation: Rearrange, walk: _Walk) -> int | None:
    """Where, among every `step` elements, a run takes its one; None unless all runs and the input agree."""
    few = 1 < walk.step <= _PLANES
    aligned = few and not any(extent % walk.step for extent in (*walk.outer_strides, operation.input_size))
    return operation.offset % walk.step if aligned else None


def _strided(x: Buffer, first: Expr, lanes: int, step: int, phase: int | None) -> Expr:
    """One of every `step` elements: whole vectors picked apart where that stays inside the input."""
    if lanes == 1:
        return x[first]
    if step == 1:
        return tir.load(x, first, lanes)
    if step == 0:
        return tir.broadcast(x[first], lanes)
    if phase is not None:
        # Of as many vectors as there are steps: of a single one, LLVM makes a truncation that arm64 lacks.
        parts = [tir.load(x, first - phase + i * lanes, lanes) for i in range(step)]
        return T.Shuffle(parts, list(range(phase, lanes * step, step)))
    return x[T.ramp(first, step, lanes)]


def _interleaved(x: Buffer, first: Expr, lanes: int, walk: _Walk) -> Expr:
    """Vectors of a few planes, element by element next to each other."""
    planes = [tir.load(x, first + plane * walk.plane, lanes) for plane in range(walk.width)]
    return T.Shuffle(planes, [plane * lanes + lane for lane in range(lanes) for plane in range(walk.width)])
