"""Classes of RISC-V instructions, by encoding: what `instructions.py` says of A64, for RV32IMAC.

An encoding whose lowest two bits aren't both set is compressed, of 16 bits (Unprivileged ISA, 1.5 and the
chapter on compressed instructions).
"""

from functools import cache

from edgec.bench.measure.instructions import BRANCH, INTEGER_MAC, LOAD, SCALAR, STORE

_WIDE: tuple[tuple[int, int, str], ...] = (
    (0xFE00407F, 0x02000033, INTEGER_MAC),  # mul, mulh, mulhsu, mulhu
    (0x0000007F, 0x00000003, LOAD),  # lb, lh, lw, lbu, lhu
    (0x0000007F, 0x00000023, STORE),  # sb, sh, sw
    (0x0000007F, 0x00000063, BRANCH),  # beq, bne, blt, bge, bltu, bgeu
    (0x0000007F, 0x00000067, BRANCH),  # jalr
    (0x0000007F, 0x0000006F, BRANCH),  # jal
    (0xF800007F, 0x1000002F, LOAD),  # lr.w
    (0x0000007F, 0x0000002F, STORE),  # sc.w, atomic memory operations
)

_COMPRESSED: tuple[tuple[int, int, str], ...] = (
    (0xE003, 0x4000, LOAD),  # c.lw
    (0xE003, 0xC000, STORE),  # c.sw
    (0xE003, 0x4002, LOAD),  # c.lwsp
    (0xE003, 0xC002, STORE),  # c.swsp
    (0x6003, 0x2001, BRANCH),  # c.jal, c.j
    (0xC003, 0xC001, BRANCH),  # c.beqz, c.bnez
    (0xFFFF, 0x9002, SCALAR),  # c.ebreak
    (0xE07F, 0x8002, BRANCH),  # c.jr, c.jalr
)


@cache
def classify(encoding: int) -> str:
    """Return the class of one RISC-V instruction."""
    table = _WIDE if encoding & 3 == 3 else _COMPRESSED
    return next((name for mask, value, name in table if encoding & mask == value), SCALAR)
