"""What a function takes of the stack, read from the instructions that move the stack pointer."""

import struct
from collections.abc import Callable, Iterator

from edgec.kernels.codegen.elf import Piece

_REALIGNMENT = 15
"""Bytes that a frame may lose where the stack pointer is rounded down for vectors."""


def thumb_frame_bytes(piece: Piece) -> int:
    """Return the most by which a Thumb function lowers the stack pointer, its callees' frames apart.

    Prologues push registers and subtract constants; where one of several paths does so, it counts.
    """
    total, realigned, copied = 0, False, 0
    for first, second in thumb_instructions(piece):
        word = first << 16 | second
        if first & 0xFE00 == 0xB400:  # push
            total += 4 * (first & 0x1FF).bit_count()
        elif first & 0xFF80 == 0xB080:  # sub sp, #
            total += 4 * (first & 0x7F)
        elif first & 0xFF87 == 0x4685:  # mov sp, register
            realigned = True
        elif first == 0xE92D:  # push.w
            total += 4 * second.bit_count()
        elif word & 0xFFFF0FFF == 0xF84D0D04:  # str register, [sp, #-4]!
            total += 4
        elif first & 0xFFBF == 0xED2D:  # vpush
            total += 4 * (second & 0xFF)
        elif word & 0xFBFF8000 == 0xF1AD0000:  # sub.w register, sp, #
            size = _modified_immediate(word)
            total, copied = (total + size, copied) if second >> 8 & 15 == 13 else (total, max(copied, size))
        elif word & 0xFBFF8F00 == 0xF2AD0D00:  # subw sp, sp, #
            total += _plain_immediate(word)
    return total + copied + _REALIGNMENT if realigned else total


def thumb_instructions(piece: Piece) -> Iterator[tuple[int, int]]:
    """Yield the halfwords of each instruction of Thumb code, the second 0 where there is one."""
    at = 0
    while at + 2 <= len(piece.data):
        skip = next((end for start, end in piece.data_ranges if start <= at < end), None)
        if skip is not None:
            at = skip
            continue
        (first,) = struct.unpack_from("<H", piece.data, at)
        wide = first >> 11 >= 0x1D
        second = struct.unpack_from("<H", piece.data, at + 2)[0] if wide else 0
        yield first, second
        at += 4 if wide else 2


def _plain_immediate(word: int) -> int:
    """Return i:imm3:imm8 of a wide encoding (DDI 0403, A6.3.1)."""
    return (word >> 26 & 1) << 11 | (word >> 12 & 7) << 8 | word & 0xFF


def _modified_immediate(word: int) -> int:
    """Return the constant that a wide encoding expands its twelve bits to (DDI 0403, A5.3.2)."""
    bits = _plain_immediate(word)
    low = bits & 0xFF
    if bits >> 10:
        rotation, value = bits >> 7, 0x80 | bits & 0x7F
        return (value >> rotation | value << (32 - rotation)) & 0xFFFFFFFF
    return (low, low << 16 | low, low << 24 | low << 8, low * 0x01010101)[bits >> 8]


def riscv_frame_bytes(piece: Piece) -> int:
    """Return the same of a RISC-V function: constants added to the stack pointer, in whichever encoding.

    A frame beyond 12 bits is a constant of two instructions that is subtracted (Unprivileged ISA, 2.4 and
    chapter on compressed instructions).
    """
    total, at, constants = 0, 0, dict[int, int]()
    while at + 2 <= len(piece.data):
        (low,) = struct.unpack_from("<H", piece.data, at)
        if low & 3 == 3:
            (word,) = struct.unpack_from("<I", piece.data, at)
            to, first, value = word >> 7 & 31, word >> 15 & 31, _signed(word >> 20, 12)
            if word & 0x7F == 0x37:  # lui
                constants[to] = word & 0xFFFFF000
            elif word & 0x707F == 0x13 and to == first == _SP:  # addi sp, sp, #
                total += max(-value, 0)
            elif word & 0x707F == 0x13:  # addi, li
                constants[to] = constants.get(first, 0) + value
            elif word & 0xFE00707F == 0x40000033 and to == first == _SP:  # sub sp, sp, register
                total += constants[word >> 20 & 31]
            at += 4
            continue
        to, value = low >> 7 & 31, _signed((low >> 12 & 1) << 5 | low >> 2 & 31, 6)
        if low & 0xE003 == 0x0001 and to == _SP:  # c.addi
            total += max(-value, 0)
        elif low & 0xEF83 == 0x6101:  # c.addi16sp
            total += max(-_signed(_spread(low), 10), 0)
        elif low & 0xE003 == 0x6001:  # c.lui
            constants[to] = value << 12 & 0xFFFFFFFF
        elif low & 0xE003 == 0x0001:  # c.addi
            constants[to] = constants.get(to, 0) + value
        elif low & 0xE003 == 0x4001:  # c.li
            constants[to] = value
        at += 2
    return total


_SP = 2
"""The stack pointer, x2."""


def _signed(value: int, bits: int) -> int:
    return value - ((value & 1 << bits - 1) << 1)


def _spread(low: int) -> int:
    """Return the constant of c.addi16sp: bits 9, 4, 6, 8:7, 5 from the top of its field."""
    return (
        (low >> 12 & 1) << 9
        | (low >> 6 & 1) << 4
        | (low >> 5 & 1) << 6
        | (low >> 3 & 3) << 7
        | (low >> 2 & 1) << 5
    )


FRAMES: dict[str, Callable[[Piece], int]] = {"arm-m": thumb_frame_bytes, "riscv32": riscv_frame_bytes}
"""By architecture."""
