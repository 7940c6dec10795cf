"""Moving data: strided copies, concatenation, padding."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgec.kernels import lookup, tir
from edgec.kernels.elementwise import CHUNK
from edgec.kernels.isa.tables import ENTRIES, TableSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Concat, Pad, Rearrange, Runs, laid, pitch, span
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

_VECTOR_BYTES = 32
# Strides and planes up to this many are loaded as whole vectors and shuffled.
_PLANES = 4


_MOVED_AS = {"bool": "uint8", "float16": "uint16"}
"""Types that not every CPU loads and stores; a copy moves their bytes."""


def rearrange(operation: Rearrange, target: Target) -> KernelCode:
    """Copy by strides: the innermost dimension, or the two innermost, as runs of vectors."""
    del target
    operation = replace(operation, dtype=_MOVED_AS.get(operation.dtype, operation.dtype))
    walk = _walk(operation)
    return KernelCode(
        key=f"rearrange {operation.dtype} {walk} {operation.offset} {operation.input_size}",
        make=partial(_rearrange, operation, walk),
        tiles=math.prod(walk.outer) if walk.outer else -(-walk.count // CHUNK),
    )


@dataclass(frozen=True)
class _Walk:
    """How a strided copy is run through."""

    outer: tuple[int, ...]
    outer_strides: tuple[int, ...]
    result_strides: tuple[int, ...]
    """Of the same dimensions, in the result."""
    count: int
    """Steps of one run; each writes `width` elements next to each other."""
    step: int
    """Elements of the input between steps."""
    width: int
    plane: int
    """Elements of the input between the elements of one step: a few planes become interleaved channels."""


def _walk(operation: Rearrange) -> _Walk:
    own = laid(operation.shape, operation.runs)
    sizes, (steps, result) = tir.merge_dimensions(operation.shape, [operation.strides, own])
    interleaved = len(sizes) > 1 and sizes[-1] <= _PLANES and steps[-2] == 1 and result[-2] == sizes[-1]
    run = 2 if interleaved else 1
    outer = tuple(sizes[:-run]), tuple(steps[:-run]), tuple(result[:-run])
    if interleaved:
        return _Walk(*outer, sizes[-2], 1, sizes[-1], steps[-1])
    return _Walk(*outer, sizes[-1], steps[-1], 1, 0)


def _rearrange(operation: Rearrange, walk: _Walk) -> object:
    lanes_at_once = _VECTOR_BYTES // tir.lanes_bytes(operation.dtype)
    size = span(operation.runs, math.prod(operation.shape))

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


def concat(operation: Concat, target: Target) -> KernelCode:
    """Per outer index, each input's run in turn; another scale goes through the input's table."""
    del target
    return _concat_code(None, operation)


def concat_codes(isa: TableSet, operation: Concat, target: Target) -> Iterator[KernelCode]:
    """Code of a concatenation on an instruction set; none where it looks nothing up, or no whole vector."""
    del target
    if any(operation.tables[i] is not None and operation.inner[i] >= isa.lanes for i in operation.copied):
        yield _concat_code(isa, operation)


def _concat_code(isa: TableSet | None, operation: Concat) -> KernelCode:
    starts = np.cumsum((0, *operation.inner))
    parts = tuple(
        _Part(int(starts[i]), operation.inner[i], operation.tables[i] is not None) for i in operation.copied
    )
    tables = [table for i in operation.copied if (table := operation.tables[i]) is not None]
    tables = [isa.pack(table) for table in tables] if isa else tables
    form = operation.outer, int(starts[-1]), operation.runs
    return KernelCode(
        key=f"concat {operation.dtype} {form} {parts}" + (f" {isa.name}" if isa else ""),
        make=partial(_concat, isa, operation.dtype, *form, parts),
        constants=(np.concatenate(tables),) if tables else (),
        tiles=operation.outer,
    )


@dataclass(frozen=True)
class _Part:
    """One input of a concatenation that is copied."""

    start: int
    """Where, in an outer index of the result."""
    count: int
    mapped: bool
    """Through a table."""


def _concat(
    isa: TableSet | None, dtype: str, outer: int, inner: int, runs: Runs | None, parts: tuple[_Part, ...]
) -> object:
    mapped = sum(part.mapped for part in parts)
    table_bytes = isa.bytes if isa else ENTRIES

    def body(*arguments: Buffer) -> None:
        *buffers, _, begin, end = arguments
        inputs, y = buffers[: len(parts)], buffers[-1]
        with T.serial(begin, end) as index:
            table = 0
            for x, part in zip(inputs, parts, strict=True):
                first, start = index * part.count, index * pitch(runs, inner) + part.start

                if part.mapped:
                    tables = buffers[len(parts)]
                    lookup.mapped(isa, tables, table * table_bytes, x, first, y, start, part.count)
                    table += 1
                    continue

                def vector(
                    offset: Expr, lanes: int, x: Buffer = x, first: Expr = first, start: Expr = start
                ) -> None:
                    tir.store(y, start + offset, tir.load(x, first + offset, lanes), lanes)

                tir.vectors(part.count, _VECTOR_BYTES // tir.lanes_bytes(dtype), vector)

    sizes = [(dtype, outer * part.count) for part in parts]
    if mapped:
        sizes.append(("int8", table_bytes * mapped))
    return tir.kernel([*sizes, (dtype, span(runs, outer * inner))], "uint8", body)


def pad(operation: Pad, target: Target) -> KernelCode:
    """Fill what lies outside, copy runs of the innermost dimension inside."""
    del target
    rows = [n + before + after for n, (before, after) in zip(operation.shape, operation.pads, strict=True)]
    return KernelCode(
        key=f"pad {operation.dtype} {operation.shape} {operation.pads}",
        make=partial(_pad, operation, rows),
        constants=(np.array([operation.value], operation.dtype),),
        tiles=int(np.prod(rows[:-1], dtype=np.int64)),
    )


def _pad(operation: Pad, padded: list[int]) -> object:
    shape, pads, dtype = operation.shape, operation.pads, operation.dtype
    lanes_at_once = _VECTOR_BYTES // tir.lanes_bytes(dtype)

    def body(x: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch

        def fill(start: Expr, count: int) -> None:
            def vector(offset: Expr, lanes: int) -> None:
                tir.store(y, start + offset, tir.broadcast(p[0], lanes), lanes)

            tir.vectors(count, lanes_at_once, vector)

        with T.serial(begin, end) as index:
            at = [i - before for i, (before, _) in zip(tir.unravel(index, padded[:-1]), pads, strict=False)]
            source, inside = T.int32(0), T.bool(True)
            for i, n in zip(at, shape, strict=False):
                source = source * n + i
                inside = T.And(inside, T.And(i >= 0, i < n))
            start = index * padded[-1]
            with T.If(inside):
                with T.Then():
                    fill(start, pads[-1][0])

                    def copy(offset: Expr, lanes: int) -> None:
                        value = tir.load(x, source * shape[-1] + offset, lanes)
                        tir.store(y, start + pads[-1][0] + offset, value, lanes)

                    tir.vectors(shape[-1], lanes_at_once, copy)
                    fill(start + pads[-1][0] + shape[-1], pads[-1][1])
                with T.Else():
                    fill(start, padded[-1])

    sizes = [(dtype, int(np.prod(shape))), (dtype, 1), (dtype, int(np.prod(padded)))]
    return tir.kernel(sizes, "uint8", body)
