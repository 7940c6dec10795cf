"""Normalizations of float rows: sums in a fixed order, so that every device has the same bits."""

from collections.abc import Callable
from functools import partial

import numpy as np

from edgec.kernels import tir
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, PARTIAL_SUMS, Demands, FloatNormalize
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def codes(operation: FloatNormalize, target: Target, demands: Demands = FREE) -> KernelCode:
    """Go row by row."""
    del demands
    lanes = tir.lanes_on(target, PARTIAL_SUMS)
    extents = operation.outer, operation.length
    return KernelCode(
        key=f"float_normalize {operation.kind} {extents} {lanes}",
        make=partial(_rows, operation.kind, *extents, lanes),
        constants=(operation.multiplier, operation.bias, np.array([operation.epsilon], np.float32)),
        tiles=operation.outer,
        inplace=(0,),
    )


def _rows(kind: str, outer: int, length: int, lanes: int) -> object:
    share = float(np.float32(1 / length))

    def body(
        x: Buffer, multiplier: Buffer, bias: Buffer, epsilon: Buffer, y: Buffer, scratch: Buffer,
        begin: Expr, end: Expr,
    ) -> None:  # fmt: skip
        del scratch
        sums = T.alloc_buffer((PARTIAL_SUMS,), "float32", scope="global")
        found = T.alloc_buffer((2,), "float32", scope="global")  # the mean, the reciprocal
        with T.serial(begin, end) as row:
            start = row * length

            def element(at: Expr, width: int) -> Expr:
                value = tir.load(x, start + at, width)
                return value - tir.broadcast(found[0], width) if kind == "variance" else value

            if kind == "variance":
                tir.store(found, 0, T.float32(0))
                _add_up(sums, length, lanes, element)
                tir.store(found, 0, sums[0] * T.float32(share))

            def square(at: Expr, width: int) -> Expr:
                return element(at, width) * element(at, width)

            _add_up(sums, length, lanes, square)
            root = tir.intrinsic("float32", "llvm.sqrt", sums[0] * T.float32(share) + epsilon[0])
            tir.store(found, 1, T.float32(1) / root)

            def scale(at: Expr, width: int) -> None:
                value = element(at, width) * tir.broadcast(found[1], width)
                scaled = value * tir.load(multiplier, at, width) + tir.load(bias, at, width)
                tir.store(y, start + at, scaled, width)

            tir.vectors(length, lanes, scale)

    row, size = ("float32", length), ("float32", outer * length)
    return tir.kernel([size, row, row, ("float32", 1), size], "float32", body, noalias=False)


def _add_up(sums: Buffer, length: int, lanes: int, term: Callable[[Expr, int], Expr]) -> None:
    """Leave the sum of a row's terms in the first of `PARTIAL_SUMS` sums."""
    tir.store(sums, 0, tir.constant(0, "float32", PARTIAL_SUMS), PARTIAL_SUMS)

    def add(at: Expr, width: int) -> None:
        which = 0 if width == PARTIAL_SUMS else at % PARTIAL_SUMS
        tir.store(sums, which, tir.load(sums, which, width) + term(at, width), width)

    tir.vectors(length, lanes, add)
    width = PARTIAL_SUMS
    while width > 1:
        width //= 2
        tir.store(sums, 0, tir.load(sums, 0, width) + tir.load(sums, width, width), width)
