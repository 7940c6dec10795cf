"""Tables of 256 bytes, as instruction sets look a whole vector of int8 up in them."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch

ENTRIES = 256
_ROW = 16
"""Bytes that one shuffle looks up in."""


class TableSet(Protocol):
    """An instruction set that shuffles bytes by indices in a register."""

    name: str
    arch: Arch
    features: frozenset[str]
    lanes: int
    """int8 values looked up at a time."""
    bytes: int
    """Bytes of a packed table."""

    def pack(self, table: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return `table` [256], y = table[x + 128], and behind it whatever else `look_up` reads."""

    def look_up(self, tables: Buffer, start: Expr, x: Expr) -> Expr:
        """Return the entries for a vector of int8, of the packed table that starts at `start`."""


class Tbl:
    """NEON's `tbx`: four registers at a time, and an index beyond them changes nothing."""

    name = "neon"
    arch: Arch = "arm64"
    features: frozenset[str] = frozenset()
    lanes = 16
    bytes = ENTRIES

    def pack(self, table: NDArray[np.int8]) -> NDArray[np.int8]:
        """As it is."""
        return table

    def look_up(self, tables: Buffer, start: Expr, x: Expr) -> Expr:
        """Look up in a quarter of the table after the other, by the index from where it begins."""
        rows = [tir.load(tables, start + first, _ROW) for first in range(0, ENTRIES, _ROW)]
        index = T.reinterpret("uint8x16", x) ^ tir.constant(128, "uint8", self.lanes)
        value = tir.constant(0, "int8", self.lanes)
        for first in range(0, len(rows), 4):
            at = T.reinterpret("int8x16", index - tir.constant(first * _ROW, "uint8", self.lanes))
            registers = rows[first : first + 4]
            value = tir.intrinsic("int8x16", "llvm.aarch64.neon.tbx4.v16i8", value, *registers, at)
        return value


class Pshufb:
    """`pshufb`: 16 bytes at a time; an index below zero gives zero.

    Row after row is looked up while 16 is taken off the index. What a row holds is its difference, by
    exclusive or, to the row before: the sum of all that answered is the row at which the index went below
    zero. Negative values have rows of their own, and an index with its sign turned over.
    """

    arch: Arch = "x86-64"
    bytes = 2 * ENTRIES

    def __init__(self, name: str, features: frozenset[str], lanes: int, shuffle: str) -> None:
        """Name an instruction set of `lanes` bytes per register, and LLVM's intrinsic."""
        self.name, self.features, self.lanes, self._shuffle = name, features, lanes, shuffle

    def pack(self, table: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the table, then the rows' differences: those from value 0 on, then those from -128 on."""
        rows = table.reshape(2, -1, _ROW)[::-1]
        differences = rows.copy()
        differences[:, 1:] ^= rows[:, :-1]
        return np.concatenate([table, differences.reshape(-1)])

    def look_up(self, tables: Buffer, start: Expr, x: Expr) -> Expr:
        """Look up in both halves, of which one answers zero."""
        kind = tir.vector("int8", self.lanes)
        rows = ENTRIES // _ROW
        value = tir.constant(0, "int8", self.lanes)
        index = x
        for number in range(rows):
            if number == rows // 2:
                index = x ^ tir.constant(-128, "int8", self.lanes)
            row = tir.load(tables, start + ENTRIES + number * _ROW, _ROW)
            everywhere = tir.concatenate([row] * (self.lanes // _ROW), _ROW)
            value = value ^ tir.intrinsic(kind, self._shuffle, everywhere, index)
            step = tir.constant(_ROW, "int8", self.lanes)
            index = tir.intrinsic(kind, f"llvm.ssub.sat.v{self.lanes}i8", index, step)
        return value


NEON = Tbl()
AVX2 = Pshufb("avx2", frozenset({"avx2"}), 32, "llvm.x86.avx2.pshuf.b")
AVX512 = Pshufb("avx512", frozenset({"avx512bw"}), 64, "llvm.x86.avx512.pshuf.b.512")
