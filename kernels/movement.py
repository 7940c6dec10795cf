"""Moving data: strided copies, concatenation, padding."""

from functools import partial

import numpy as np

from edgec.kernels import tir
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Concat, Pad, Rearrange
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

_VECTOR_BYTES = 32


def rearrange(operation: Rearrange, target: Target) -> KernelCode:
    """A strided copy, one run of the innermost dimension at a time."""
    del target
    shape, (strides,) = tir.merge_dimensions(operation.shape, [operation.strides])
    return KernelCode(
        key=f"rearrange {operation.dtype} {shape} {strides} {operation.offset} {operation.input_size}",
        make=partial(_rearrange, operation, shape, strides),
        tiles=shape[0],
    )


def _rearrange(operation: Rearrange, shape: list[int], strides: list[int]) -> object:
    width = _VECTOR_BYTES // tir.lanes_bytes(operation.dtype)

    def body(x: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch

        def run(source: Expr, destination: Expr, count: int, step: int) -> None:
            def vector(offset: Expr, lanes: int) -> None:
                if step == 1 or lanes == 1:
                    value = tir.load(x, source + offset * step, lanes)
                elif step == 0:
                    value = tir.broadcast(x[source], lanes)
                else:
                    value = x[T.ramp(source + offset * step, step, lanes)]
                tir.store(y, destination + offset, value, lanes)

            tir.vectors(count, width if step in (0, 1) else min(8, width), vector)

        inner = shape[-1] if len(shape) > 1 else 1
        outer = shape[1:-1]
        with T.serial(begin, end) as tile, T.serial(0, int(np.prod(outer, dtype=np.int64))) as index:
            at = [tile, *tir.unravel(index, outer)]
            source = sum((i * s for i, s in zip(at, strides, strict=False)), T.int32(operation.offset))
            destination = (tile * int(np.prod(outer, dtype=np.int64)) + index) * inner
            run(source, destination, inner, strides[-1] if len(shape) > 1 else 1)

    sizes = [(operation.dtype, operation.input_size), (operation.dtype, int(np.prod(shape)))]
    return tir.kernel(sizes, "uint8", body)


def concat(operation: Concat, target: Target) -> KernelCode:
    """Per outer index, each input's run in turn; another scale goes through the input's table."""
    del target
    mapped = tuple(table is not None for table in operation.tables)
    tables = [table for table in operation.tables if table is not None]
    return KernelCode(
        key=f"concat {operation.outer} {operation.inner} {mapped}",
        make=partial(_concat, operation.outer, operation.inner, mapped),
        constants=(np.concatenate(tables),) if tables else (),
        tiles=operation.outer,
    )


def _concat(outer: int, inner: tuple[int, ...], mapped: tuple[bool, ...]) -> object:
    def body(*arguments: Buffer) -> None:
        *buffers, _, begin, end = arguments
        inputs, y = buffers[: len(inner)], buffers[-1]
        with T.serial(begin, end) as index:
            start, table = index * sum(inner), 0
            for x, count, through in zip(inputs, inner, mapped, strict=True):
                first = index * count

                def vector(
                    offset: Expr, lanes: int, x: Buffer = x, first: Expr = first, start: Expr = start,
                    table: int | None = table if through else None,
                ) -> None:  # fmt: skip
                    if table is None:
                        tir.store(y, start + offset, tir.load(x, first + offset, lanes), lanes)
                        return
                    for lane in range(lanes):
                        index = T.cast(x[first + offset + lane], "int32") + (128 + 256 * table)
                        tir.store(y, start + offset + lane, buffers[len(inner)][index])

                tir.vectors(count, 4 if through else _VECTOR_BYTES, vector)
                start, table = start + count, table + through

    sizes = [("int8", outer * count) for count in inner]
    if any(mapped):
        sizes.append(("int8", 256 * sum(mapped)))
    return tir.kernel([*sizes, ("int8", outer * sum(inner))], "uint8", body)


def pad(operation: Pad, target: Target) -> KernelCode:
    """Fill what lies outside, copy runs of the innermost dimension inside."""
    del target
    rows = [n + before + after for n, (before, after) in zip(operation.shape, operation.pads, strict=True)]
    return KernelCode(
        key=f"pad {operation.shape} {operation.pads}",
        make=partial(_pad, operation, rows),
        constants=(np.array([operation.value], np.int32),),
        tiles=int(np.prod(rows[:-1], dtype=np.int64)),
    )


def _pad(operation: Pad, padded: list[int]) -> object:
    shape, pads = operation.shape, operation.pads

    def body(x: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch

        def fill(start: Expr, count: int) -> None:
            def vector(offset: Expr, lanes: int) -> None:
                tir.store(y, start + offset, tir.broadcast(T.cast(p[0], "int8"), lanes), lanes)

            tir.vectors(count, _VECTOR_BYTES, vector)

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

                    tir.vectors(shape[-1], _VECTOR_BYTES, copy)
                    fill(start + pads[-1][0] + shape[-1], pads[-1][1])
                with T.Else():
                    fill(start, padded[-1])

    return tir.kernel([("int8", int(np.prod(shape))), ("int32", 1), ("int8", int(np.prod(padded)))], "uint8", body)
