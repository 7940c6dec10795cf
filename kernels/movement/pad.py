"""Padding with a constant."""

from functools import partial

import numpy as np

from edgec.kernels import tir
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, Pad
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def pad(operation: Pad, target: Target, demands: Demands = FREE) -> KernelCode:
    """Fill what lies outside, copy runs of the innermost dimension inside."""
    del target, demands
    rows = [n + before + after for n, (before, after) in zip(operation.shape, operation.pads, strict=True)]
    return KernelCode(
        key=f"pad {operation.dtype} {operation.shape} {operation.pads}",
        make=partial(_pad, operation, rows),
        constants=(np.array([operation.value], operation.dtype),),
        tiles=int(np.prod(rows[:-1], dtype=np.int64)),
    )


def _pad(operation: Pad, padded: list[int]) -> object:
    shape, pads, dtype = operation.shape, operation.pads, operation.dtype
    lanes_at_once = tir.VECTOR_BYTES // tir.lanes_bytes(dtype)

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
