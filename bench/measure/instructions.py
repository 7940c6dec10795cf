"""Classes of A64 instructions, by encoding, and counts of them; `thumb.py` has those of M-profile cores.

A table of (mask, value, class), first match wins, after the encoding index of the Arm Architecture Reference
Manual (DDI 0487, chapter C4). SVE isn't in it: no target has it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from edgec.errors import printable

DOT = "dot"
MMLA = "mmla"
INTEGER_MAC = "integer_mac"
DUAL_MAC = "dual_mac"
HELIUM_MAC = "helium_mac"
FLOAT_MAC = "float_mac"
FLOAT = "float"
LOAD = "load"
STORE = "store"
BRANCH = "branch"
VECTOR = "vector"
SCALAR = "scalar"

CLASSES = {
    DOT: "int8 dot products: sdot, udot, usdot, sudot",
    MMLA: "int8 matrix products: smmla, ummla, usmmla",
    HELIUM_MAC: "Helium integer multiplies: vmladav, vmla, vmull, ...",
    DUAL_MAC: "dual int16 products: smlad, smuad, smlald, ...",
    INTEGER_MAC: "integer multiplies: mul, mla, smull, smlal, ...",
    FLOAT_MAC: "fused float multiply-adds: fmla, fmadd, ...",
    LOAD: "loads",
    STORE: "stores",
    BRANCH: "branches, calls and returns",
    VECTOR: "other vector instructions",
    FLOAT: "other floating-point instructions",
    SCALAR: "other scalar instructions",
}
"""Every class, in the order reports print them."""

MAC_CLASSES = frozenset({DOT, MMLA, HELIUM_MAC, DUAL_MAC, INTEGER_MAC, FLOAT_MAC})
"""The classes that do a model's multiply-accumulate work."""

_TABLE: tuple[tuple[int, int, str], ...] = (
    # Advanced SIMD, three registers, extension: 0 Q U 01110 size 0 Rm 1 opcode 1 Rn Rd
    (0x9FE0FC00, 0x0E809400, DOT),  # sdot, udot
    (0xBFE0FC00, 0x0E809C00, DOT),  # usdot
    (0xDFE0FC00, 0x4E80A400, MMLA),  # smmla, ummla
    (0xFFE0FC00, 0x4E80AC00, MMLA),  # usmmla
    # Advanced SIMD, three registers of different widths: 0 Q U 01110 size 1 Rm opcode 00 Rn Rd
    (0x9F20FC00, 0x0E208000, INTEGER_MAC),  # smlal, umlal
    (0x9F20FC00, 0x0E20A000, INTEGER_MAC),  # smlsl, umlsl
    (0x9F20FC00, 0x0E20C000, INTEGER_MAC),  # smull, umull
    (0xBF20FC00, 0x0E209000, INTEGER_MAC),  # sqdmlal
    (0xBF20FC00, 0x0E20B000, INTEGER_MAC),  # sqdmlsl
    (0xBF20FC00, 0x0E20D000, INTEGER_MAC),  # sqdmull
    # Advanced SIMD, three registers of one width: 0 Q U 01110 size 1 Rm opcode 1 Rn Rd
    (0x9F20FC00, 0x0E209400, INTEGER_MAC),  # mla, mls
    (0xBF20FC00, 0x0E209C00, INTEGER_MAC),  # mul
    (0xBF20FC00, 0x0E20CC00, FLOAT_MAC),  # fmla, fmls
    (0xBF60FC00, 0x0E400C00, FLOAT_MAC),  # fmla, fmls of half floats
    # Advanced SIMD, vector by element: 0 Q U 01111 size L M Rm opcode H 0 Rn Rd
    (0x9FC0F400, 0x0F80E000, DOT),  # sdot, udot
    (0xBF40F400, 0x0F00F000, DOT),  # usdot, sudot
    (0x9F00F400, 0x0F002000, INTEGER_MAC),  # smlal, umlal
    (0x9F00F400, 0x0F006000, INTEGER_MAC),  # smlsl, umlsl
    (0x9F00F400, 0x0F00A000, INTEGER_MAC),  # smull, umull
    (0xBF00F400, 0x0F003000, INTEGER_MAC),  # sqdmlal
    (0xBF00F400, 0x0F007000, INTEGER_MAC),  # sqdmlsl
    (0xBF00F400, 0x0F00B000, INTEGER_MAC),  # sqdmull
    (0xBF00F400, 0x2F000000, INTEGER_MAC),  # mla
    (0xBF00F400, 0x2F004000, INTEGER_MAC),  # mls
    (0xBF00F400, 0x0F008000, INTEGER_MAC),  # mul
    (0xBF00F400, 0x0F001000, FLOAT_MAC),  # fmla
    (0xBF00F400, 0x0F005000, FLOAT_MAC),  # fmls
    # The same on scalars: 01 U 11111 size L M Rm opcode H 0 Rn Rd; 01 0 11110000 imm5 000001 Rn Rd
    (0xFF00F400, 0x5F001000, FLOAT_MAC),  # fmla
    (0xFF00F400, 0x5F005000, FLOAT_MAC),  # fmls
    (0xFFE0FC00, 0x5E000400, VECTOR),  # mov of one lane (dup)
    # Floating-point data processing, three sources: 00011111 type ...
    (0xFF000000, 0x1F000000, FLOAT_MAC),  # fmadd, fmsub, fnmadd, fnmsub
    # Prefetches lie among the loads, but load nothing
    (0xFF000000, 0xD8000000, SCALAR),  # prfm, literal
    (0xFFC00000, 0xF9800000, SCALAR),  # prfm, unsigned offset
    (0xFFE00C00, 0xF8A00800, SCALAR),  # prfm, register offset
    (0xFFE00C00, 0xF8800000, SCALAR),  # prfum
    # Loads and stores; in most groups bit 22 (L) tells one from the other
    (0xBE400000, 0x0C400000, LOAD),  # ld1 to ld4, ld1r
    (0xBE400000, 0x0C000000, STORE),  # st1 to st4
    (0x3F400000, 0x08400000, LOAD),  # ldxr, ldar, casa
    (0x3F400000, 0x08000000, STORE),  # stxr, stlr, cas
    (0x3B000000, 0x18000000, LOAD),  # ldr, literal
    (0x3A400000, 0x28400000, LOAD),  # ldp, ldnp
    (0x3A400000, 0x28000000, STORE),  # stp, stnp
    (0x3F200C00, 0x38200000, LOAD),  # ldadd, swp: atomic memory operations, which do both
    (0x3AC00000, 0x38000000, STORE),  # strb, strh, str, stur; str of b, h, s, d registers
    (0x3EC00000, 0x3C800000, STORE),  # str of q registers
    (0x3A000000, 0x38000000, LOAD),  # every other ldr, ldur, ldrsb, ldrsw, ...
    # Branches
    (0x7C000000, 0x14000000, BRANCH),  # b, bl
    (0xFE000000, 0x54000000, BRANCH),  # b.cond
    (0x7C000000, 0x34000000, BRANCH),  # cbz, cbnz, tbz, tbnz
    (0xFE000000, 0xD6000000, BRANCH),  # br, blr, ret
    # What is left of Advanced SIMD: 0 Q x 0111x
    (0x9E000000, 0x0E000000, VECTOR),
)


@cache
def classify(encoding: int) -> str:
    """Return the class of one 32-bit A64 instruction."""
    return next((name for mask, value, name in _TABLE if encoding & mask == value), SCALAR)


_DIGITS = 20
"""The longest number that a counter of 64 bits writes."""
MOST_REGIONS = 1_000_000
"""The most regions that one run may report: a thousand runs of a network of a thousand steps."""

Block = tuple[int, ...]
"""Encodings of instructions that are always executed together."""


@dataclass(frozen=True)
class Region:
    """Instructions executed between two markers: one step of a network."""

    blocks: Mapping[Block, int]
    """How often each was executed."""
    classify: Callable[[int], str] = classify
    """What tells the class of an encoding."""

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """By class, each class there."""
        totals = dict.fromkeys(CLASSES, 0)
        for block, executions in self.blocks.items():
            for encoding in block:
                totals[self.classify(encoding)] += executions
        return totals

    @property
    def instructions(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def mac_instructions(self) -> int:
        """Those that do multiply-accumulate work."""
        return sum(count for name, count in self.counts.items() if name in MAC_CLASSES)


def parse(text: str, classify: Callable[[int], str] = classify) -> tuple[Region, ...]:
    """Return the regions in the counter's output (its format is described in devices/qemu_counter.c).

    `classify` tells the class of the CPU's encodings. Raises ValueError when the output isn't complete, or no
    counter's.
    """
    lines = [line.split() for line in text.splitlines()]
    if not lines or len(lines[-1]) != 2 or lines[-1][0] != "end":
        raise ValueError("it is cut off")
    try:
        return _regions(lines, classify)
    except (KeyError, IndexError) as error:
        raise ValueError(f"there is no {error}") from error


def _regions(lines: list[list[str]], classify: Callable[[int], str]) -> tuple[Region, ...]:
    if _number(lines[-1][1]) > MOST_REGIONS:
        raise ValueError(f"it has {lines[-1][1]} regions")
    blocks = {
        block: tuple(int(encoding, 16) for encoding in encodings)
        for kind, block, *encodings in lines
        if kind == "block"
    }
    executed: list[Counter[Block]] = [Counter() for _ in range(_number(lines[-1][1]))]
    for kind, *fields in lines:
        if kind == "count":
            region, block, executions = fields
            executed[_number(region)][blocks[block]] += _number(executions)
    return tuple(Region(counted, classify) for counted in executed)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > _DIGITS:
        raise ValueError(f"'{printable(text[:_DIGITS])}' is no number")
    return int(text)


def total(regions: tuple[Region, ...]) -> Region:
    """Return the sum of several regions."""
    blocks = sum((Counter(region.blocks) for region in regions), Counter[Block]())
    return Region(blocks, regions[0].classify) if regions else Region(blocks)
