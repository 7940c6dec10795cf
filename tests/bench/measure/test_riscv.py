"""Classes of RISC-V instructions, on what an assembler says they are."""

import pytest

from edgec.bench.measure.instructions import CLASSES
from edgec.bench.measure.riscv import classify
from tests.bench.listing import listed

# As `llvm-mc-19 -triple=riscv32 -mattr=+m,+a,+c -show-encoding` assembles them, compressed ones included.
ASSEMBLED = """
# integer_mac
02c58533 mul a0, a1, a2
02c5b533 mulhu a0, a1, a2
# scalar
02c5d533 divu a0, a1, a2
9002 ebreak
0505 addi a0, a0, 1
852e mv a0, a1
952e add a0, a0, a1
450d li a0, 3
650d lui a0, 3
050e slli a0, a0, 3
850d srai a0, a0, 3
06458513 addi a0, a1, 100
07002013 slti zero, zero, 112
40c5d533 sra a0, a1, a2
6515 lui a0, 5
00005517 auipc a0, 5
713d addi sp, sp, -32
0028 addi a0, sp, 8
8d6d and a0, a0, a1
# load
00158503 lb a0, 1(a1)
0015dc03 lhu s8, 1(a1)
1005a52f lr.w a0, (a1)
41c8 lw a0, 4(a1)
4522 lw a0, 8(sp)
# store
00a581a3 sb a0, 3(a1)
00b6252f amoadd.w a0, a1, (a2)
c1c8 sw a0, 4(a1)
c42a sw a0, 8(sp)
# branch
00b50463 beq a0, a1, 8
2081 jal 64
9682 jalr a3
a801 j 16
2801 jal 16
c901 beqz a0, 16
e901 bnez a0, 16
8502 jr a0
9502 jalr a0
"""


@pytest.mark.parametrize(("encoding", "text", "name"), listed(ASSEMBLED), ids=lambda value: str(value))
def test_an_instruction_is_of_the_class_it_is_listed_under(encoding: int, text: str, name: str) -> None:
    assert name in CLASSES
    assert classify(encoding) == name, text
