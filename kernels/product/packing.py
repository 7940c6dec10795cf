"""Packing on the device: what `tile.pack_weights` does with constants, done with an activation.

Register tiles read the right operand block by block of columns, and in a block group by group of the
reduction: element k of column c is element k // group * (width * group) + c * group + k % group of its
block. Where columns lie side by side in memory, `group` rows are interleaved; where rows do, blocks of units
of `group` elements are transposed. Both are the same perfect shuffle of vectors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.kernels import tir
from edgec.kernels.codegen import tile
from edgec.kernels.operations import Matrices
from edgec.kernels.tir import Buffer, Expr, T

_COLUMNS = 16
"""Neighbouring columns that are interleaved at once."""

_UNITS = 4
"""Units of a column, and columns, that are transposed at once; 16 bytes of a column at most."""


@dataclass(frozen=True)
class Packing:
    """How the right operand of a product is packed, and where from."""

    inner: int
    """Rows of the operand."""
    length: int
    """Rows with the zeros that complete the last group."""
    group: int
    """Rows of a column that lie side by side."""
    dtype: str
    """Type of the packed elements."""
    lanes: int
    """Columns of a vector."""
    blocks: tuple[tile.Columns, ...]
    """All columns, as register tiles take them."""
    lie: Matrices
    """How the operand itself lies; its batch's strides don't matter here."""

    @property
    def size(self) -> int:
        """Packed elements."""
        return sum(columns.blocks * columns.vectors for columns in self.blocks) * self.lanes * self.length


def pack(packing: Packing, b: Buffer, first: Expr, packed: Buffer) -> None:
    """Write the loops that pack the matrix that begins at element `first` of `b`."""
    for columns in packing.blocks:
        width = columns.vectors * packing.lanes

        def block(n: Expr, columns: tile.Columns = columns, width: int = width) -> None:
            target = columns.weights_start + n * width * packing.length
            column = columns.start + n * width
            count = min(columns.valid, width)
            writer = _Block(packing, b, first + column * packing.lie.column, packed, target, width)
            if packing.lie.column == 1:
                writer.interleave(count)
            else:
                writer.transpose(count)

        tir.serial(columns.blocks, block)


@dataclass(frozen=True)
class _Block:
    """One block of columns on its way."""

    packing: Packing
    source: Buffer
    first: Expr
    """Its first element in the source."""
    packed: Buffer
    target: Expr
    """Its first element when packed."""
    width: int

    def interleave(self, count: int) -> None:
        """Write the loop over groups of rows, of which `count` columns lie side by side."""
        group, lie = self.packing.group, self.packing.lie

        def rows(number: Expr, present: int) -> None:
            for start, lanes in tir.pieces(count, _COLUMNS):
                vectors = [
                    self._load((number * group + i) * lie.row + start, lanes)
                    if i < present
                    else tir.constant(0, self.packing.dtype, lanes)
                    for i in range(group)
                ]
                self._store(number, start, interleaved(vectors, lanes, 1), lanes)

        whole, rest = divmod(self.packing.inner, group)
        if whole:
            tir.serial(whole, lambda number: rows(number, group))
        for number in range(whole, self.packing.length // group):
            rows(number, rest if number == whole else 0)

    def transpose(self, count: int) -> None:
        """Write the loops over `count` columns, whose rows lie side by side, some of them at once."""
        group, lie = self.packing.group, self.packing.lie
        units = max(1, min(_UNITS, 16 // (group * tir.lanes_bytes(self.packing.dtype))))
        whole, rest = divmod(self.packing.inner, group)
        chunks, single = divmod(whole, units)

        def columns(start: Expr, several: int) -> None:
            def chunk(number: Expr, units: int) -> None:
                vectors = [
                    self._load((start + c) * lie.column + number * group, units * group)
                    for c in range(several)
                ]
                ordered = interleaved(vectors, units, group)
                lanes = several * group
                for u in range(units):  # `several` units side by side, of the same rows
                    index, at = divmod(u * lanes, units * group)
                    value = ordered[index]
                    if lanes > units * group:  # never: as many units as columns, at least
                        raise AssertionError("a unit is in one vector")
                    if lanes < units * group:
                        value = tir.shuffle(value, range(at, at + lanes))
                    self._put(number + u, start, value, lanes)

            if chunks:
                tir.serial(chunks, lambda n: chunk(n * units, units))
            for n in range(single):
                for c in range(several):
                    self._put_unit(chunks * units + n, start + c, group)
            for number in range(whole, self.packing.length // group):
                for c in range(several):
                    self._put_unit(number, start + c, rest if number == whole else 0)

        full = count // units
        if full:
            tir.serial(full, lambda n: columns(n * units, units))
        for start, several in tir.pieces(count - full * units, units):
            columns(full * units + start, several)

    def _put_unit(self, number: Expr, column: Expr, present: int) -> None:
        """Store one unit of a column, of which `present` elements exist."""
        group = self.packing.group
        start = column * self.packing.lie.column + number * group
        for at, lanes in tir.pieces(present, group):
            self._put(number, column, self._load(start + at, lanes), lanes, at)
        for at, lanes in tir.pieces(group - present, group):
            self._put(number, column, tir.constant(0, self.packing.dtype, lanes), lanes, present + at)

    def _load(self, start: Expr, lanes: int) -> Expr:
        return tir.cast(tir.load(self.source, self.first + start, lanes), self.packing.dtype, lanes)

    def _store(self, number: Expr, column: Expr, vectors: Sequence[Expr], lanes: int) -> None:
        for index, vector in enumerate(vectors):
            self._put(number, column, vector, lanes, index * lanes)

    def _put(self, number: Expr, column: Expr, value: Expr, lanes: int, at: int = 0) -> None:
        """Store a vector at group `number`, from `column` on, `at` elements further."""
        group = self.packing.group
        tir.store(self.packed, self.target + (number * self.width + column) * group + at, value, lanes)


def interleaved(vectors: Sequence[Expr], units: int, unit: int) -> list[Expr]:
    """Return vectors that hold, one after the other, unit 0 of all the vectors, then unit 1 of all, ...

    A power of two of vectors of `units` units of `unit` elements. Each round of interleaving the first half
    with the second is a perfect shuffle of all units.
    """
    found = list(vectors)
    if units == 1:
        return found
    lanes = units * unit
    low = [
        start + i for u in range(units // 2) for start in (u * unit, lanes + u * unit) for i in range(unit)
    ]
    high = [lane + lanes // 2 for lane in low]
    for _ in range(int(math.log2(len(found)))):
        half = len(found) // 2
        found = [
            T.Shuffle([one, two], order)
            for one, two in zip(found[:half], found[half:], strict=True)
            for order in (low, high)
        ]
    return found
