"""Unary operators on int8 as a table of 256 bytes."""

from functools import partial

from edgec.kernels import tir
from edgec.kernels.elementwise import CHUNK
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Lookup, Runs, span
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def lookup(operation: Lookup, target: Target) -> KernelCode:
    """y = table[x + 128]."""
    del target
    size, runs = operation.size, operation.runs
    return KernelCode(
        key=f"lookup {size} {runs}",
        make=partial(_lookup, size, runs),
        constants=(operation.table,),
        tiles=-(-size // CHUNK) if runs is None else runs.count(size),
        inplace=(0,) if runs is None else (),
    )


def _lookup(size: int, runs: Runs | None) -> object:
    def body(x: Buffer, table: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch

        def run(first: Expr, target: Expr, count: int) -> None:
            def element(offset: Expr, lanes: int) -> None:
                for lane in range(lanes):
                    tir.store(y, target + offset + lane, entry(table, x[first + offset + lane]))

            tir.vectors(count, 4, element)

        if runs is None:
            tir.chunked(begin, end, size, CHUNK, lambda first, count: run(first, first, count))
            return
        with T.serial(begin, end) as index:
            run(index * runs.length, index * runs.pitch, runs.length)

    sizes = [("int8", size), ("int8", 256), ("int8", span(runs, size))]
    return tir.kernel(sizes, "uint8", body, noalias=False)


def entry(table: Buffer, index: Expr) -> Expr:
    """Return the table's entry for an int8 value."""
    return table[T.cast(index, "int32") + 128]
