"""Unary operators on int8 as a table of 256 bytes."""

from functools import partial

from edgec.kernels import tir
from edgec.kernels.elementwise import CHUNK
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Lookup
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def lookup(operation: Lookup, target: Target) -> KernelCode:
    """y = table[x + 128]."""
    del target
    return KernelCode(
        key=f"lookup {operation.size}",
        make=partial(_lookup, operation.size),
        constants=(operation.table,),
        tiles=-(-operation.size // CHUNK),
        inplace=(0,),
    )


def _lookup(size: int) -> object:
    def body(x: Buffer, table: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch

        def run(first: Expr, count: int) -> None:
            def element(offset: Expr, lanes: int) -> None:
                for lane in range(lanes):
                    at = first + offset + lane
                    tir.store(y, at, entry(table, x[at]))

            tir.vectors(count, 4, element)

        tir.chunked(begin, end, size, CHUNK, run)

    return tir.kernel([("int8", size), ("int8", 256), ("int8", size)], "uint8", body, noalias=False)


def entry(table: Buffer, index: Expr) -> Expr:
    """Return the table's entry for an int8 value."""
    return table[T.cast(index, "int32") + 128]
