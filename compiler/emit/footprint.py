"""What a library takes of the firmware that links it: flash by section, stack by the calls that can be made.

A linker keeps what the API functions that firmware calls lead to, and leaves out the rest. So does this: it
sums the sections that are reached from init, run and close, over the relocations of the library's objects.
The stack is the deepest chain of calls, each frame read from the instructions that move the stack pointer.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from edgec.kernels import elf
from edgec.kernels.elf import Piece

C_LIBRARY_STACK_BYTES = 32
"""What memcpy and memset may take: newlib's take 4 to 20."""
_REALIGNMENT = 15
"""Bytes that a frame may lose where the stack pointer is rounded down for vectors."""

_Key = tuple[int, int]
"""Object and place of a piece in it."""


@dataclass(frozen=True)
class Footprint:
    """Bytes."""

    code: int
    """Functions, their constants and tables: all of flash but weights."""
    weights: int
    stack: int
    """The most that one call of run takes."""


def measure(objects: Sequence[bytes], identifier: str) -> Footprint:
    """Return what firmware takes that calls `identifier`_init, _run and _close of these Thumb objects."""
    pieces = {
        (number, place): piece
        for number, code in enumerate(objects)
        for place, piece in enumerate(elf.pieces(code))
    }
    homes = {name: key for key, piece in pieces.items() for name in piece.symbols}

    def references(key: _Key) -> Iterator[_Key]:
        for reference in pieces[key].references:
            if isinstance(reference, int):
                yield key[0], reference
            elif reference in homes:
                yield homes[reference]

    roots = [homes[f"{identifier}_{function}"] for function in ("init", "run", "close")]
    kept = _reached(roots, references)
    kept |= {
        (number, place)
        for (number, place), piece in pieces.items()
        if piece.follows is not None and (number, piece.follows) in kept
    }
    run = homes[f"{identifier}_run"]
    tables = [key for key in kept if not pieces[key].executable and pieces[key].follows is None]
    pointed = {to for key in tables for to in references(key) if pieces[to].executable}
    calls: dict[_Key, list[_Key]] = {
        key: [to for to in references(key) if pieces[to].executable] for key in kept if pieces[key].executable
    }
    # Functions are called through pointers by what run calls, and by nobody else: its table of steps.
    callers = _reached([run], lambda key: iter(calls[key])) - _reached(pointed, lambda key: iter(calls[key]))
    for caller in callers:
        calls[caller] += pointed
    outside = {
        key for key in calls if any(isinstance(r, str) and r not in homes for r in pieces[key].references)
    }

    @cache
    def depth(key: _Key) -> int:
        deepest = max(map(depth, calls[key]), default=0)
        return frame_bytes(pieces[key]) + max(deepest, C_LIBRARY_STACK_BYTES if key in outside else 0)

    sizes = {key: len(pieces[key].data) for key in kept}
    weights = sum(size for key, size in sizes.items() if pieces[key].name == f".rodata.{identifier}_weights")
    return Footprint(sum(sizes.values()) - weights, weights, depth(run))


def frame_bytes(piece: Piece) -> int:
    """Return the most by which a Thumb function lowers the stack pointer, its callees' frames apart.

    Prologues push registers and subtract constants; where one of several paths does so, it counts.
    """
    total, realigned, copied = 0, False, 0
    for first, second in _instructions(piece):
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


def _reached(roots: Iterable[_Key], references: Callable[[_Key], Iterator[_Key]]) -> set[_Key]:
    found: set[_Key] = set()
    waiting = list(roots)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += references(key)
    return found


def _instructions(piece: Piece) -> Iterator[tuple[int, int]]:
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
