"""Concatenation, of inputs with scales of their own, too."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgec.kernels import tir
from edgec.kernels.isa.tables import ENTRIES, TableSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Concat, Demands, Runs, pitch, span
from edgec.kernels.pointwise import lookup
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def concat(operation: Concat, target: Target, demands: Demands = FREE) -> KernelCode:
    """Per outer index, each input's run in turn; another scale goes through the input's table."""
    del target
    return _concat_code(None, operation, demands)


def codes(isa: TableSet, operation: Concat, target: Target, demands: Demands = FREE) -> Iterator[KernelCode]:
    """Code of a concatenation on an instruction set; none where it looks nothing up, or no whole vector."""
    del target
    copied = _copied(operation, demands)
    if any(operation.tables[i] is not None and operation.inner[i] >= isa.lanes for i in copied):
        yield _concat_code(isa, operation, demands)


def _copied(operation: Concat, demands: Demands) -> list[int]:
    """Return the inputs that don't lie in the result yet."""
    return [i for i in range(len(operation.inner)) if i not in demands.placed]


def _concat_code(isa: TableSet | None, operation: Concat, demands: Demands) -> KernelCode:
    copied = _copied(operation, demands)
    starts = np.cumsum((0, *operation.inner))
    parts = tuple(_Part(int(starts[i]), operation.inner[i], operation.tables[i] is not None) for i in copied)
    tables = [table for i in copied if (table := operation.tables[i]) is not None]
    tables = [isa.pack(table) for table in tables] if isa else tables
    form = operation.outer, int(starts[-1]), demands.runs
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

    def body(*arguments: Any) -> None:
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

                tir.vectors(part.count, tir.VECTOR_BYTES // tir.lanes_bytes(dtype), vector)

    sizes = [(dtype, outer * part.count) for part in parts]
    if mapped:
        sizes.append(("int8", table_bytes * mapped))
    return tir.kernel([*sizes, (dtype, span(runs, outer * inner))], "uint8", body)
