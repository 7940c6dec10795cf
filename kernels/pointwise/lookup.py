"""Unary operators on int8 as a table of 256 bytes."""

from collections.abc import Iterator
from functools import partial

from edgec.kernels import tir
from edgec.kernels.isa.tables import ENTRIES, TableSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, Lookup, Runs, span
from edgec.kernels.pointwise.elementwise import CHUNK
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def lookup(operation: Lookup, target: Target, demands: Demands = FREE) -> KernelCode:
    """y = table[x + 128], one by one."""
    del target
    return _code(None, operation, demands.runs)


def codes(isa: TableSet, operation: Lookup, target: Target, demands: Demands = FREE) -> Iterator[KernelCode]:
    """Code of a table on an instruction set; none where no vector fits."""
    del target
    if (operation.size if demands.runs is None else demands.runs.length) >= isa.lanes:
        yield _code(isa, operation, demands.runs)


def _code(isa: TableSet | None, operation: Lookup, runs: Runs | None) -> KernelCode:
    size = operation.size
    return KernelCode(
        key=f"lookup {size} {runs}" + (f" {isa.name}" if isa else ""),
        make=partial(_lookup, isa, size, runs),
        constants=(isa.pack(operation.table) if isa else operation.table,),
        tiles=-(-size // CHUNK) if runs is None else runs.count(size),
        inplace=(0,) if runs is None else (),
    )


def _lookup(isa: TableSet | None, size: int, runs: Runs | None) -> object:
    def body(x: Buffer, table: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch

        def run(first: Expr, target: Expr, count: int) -> None:
            mapped(isa, table, 0, x, first, y, target, count)

        if runs is None:
            tir.chunked(begin, end, size, CHUNK, lambda first, count: run(first, first, count))
            return
        with T.serial(begin, end) as index:
            run(index * runs.length, index * runs.pitch, runs.length)

    table = isa.bytes if isa else ENTRIES
    sizes = [("int8", size), ("int8", table), ("int8", span(runs, size))]
    return tir.kernel(sizes, "uint8", body, noalias=False)


def mapped(
    isa: TableSet | None, tables: Buffer, table: int, x: Buffer, first: Expr, y: Buffer, target: Expr,
    count: int,
) -> None:  # fmt: skip
    """Write y[target + i] = entry of x[first + i], `count` of them, by the packed table at `table`."""

    def vector(offset: Expr, lanes: int) -> None:
        assert isa is not None, "there are no vectors without it"
        tir.store(y, target + offset, isa.look_up(tables, table, tir.load(x, first + offset, lanes)), lanes)

    def elements(offset: Expr, lanes: int) -> None:
        for lane in range(lanes):
            value = T.cast(x[first + offset + lane], "int32")
            tir.store(y, target + offset + lane, tables[value + (table + 128)])

    whole = count - count % isa.lanes if isa else 0
    if isa and whole:
        tir.vectors(whole, isa.lanes, vector)
    if count > whole:
        tir.vectors(count - whole, 4, lambda offset, lanes: elements(offset + whole, lanes))
