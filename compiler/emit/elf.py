"""The little of ELF that a bundle needs: prefix the symbols of an object, and size what it adds to a program.

Two bundles in one program may share kernels by name and differ in the instructions that these use, so every
symbol carries its bundle's name. Neither zig's objcopy nor its linker can rename symbols. System V ABI, chapter 4.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

SECTION = struct.Struct("<IIQQQQIIQQ")
"""Elf64_Shdr."""
SYMBOL = struct.Struct("<IBBHQQ")
"""Elf64_Sym."""
SECTION_TABLE_AT = 0x28
"""Offset of e_shoff in Elf64_Ehdr; e_shnum and e_shstrndx end it."""
SYMTAB, NOBITS = 2, 8
ALLOC = 2
STB_LOCAL = 0
STV_HIDDEN = 2
UNDEFINED = 0


@dataclass(frozen=True)
class Section:
    """A section header, and where it stands in the file."""

    at: int
    kind: int
    flags: int
    offset: int
    size: int
    link: int


def prefix_symbols(data: bytes, prefix: str) -> bytes:
    """Return the object with every symbol it defines globally renamed to `prefix` + name, and hidden.

    Hidden symbols bind inside a shared library and aren't exported from it. The new names go into a string
    table appended to the file; nothing else moves. Raises ValueError if `data` is no 64-bit little-endian ELF.
    """
    sections = list(_sections(data))
    result = bytearray(data)
    for table in (section for section in sections if section.kind == SYMTAB):
        strings = sections[table.link]
        names = bytearray(data[strings.offset : strings.offset + strings.size])
        for at in range(table.offset, table.offset + table.size, SYMBOL.size):
            name_at, info, other, index, value, size = SYMBOL.unpack_from(data, at)
            if info >> 4 == STB_LOCAL or index == UNDEFINED:
                continue
            name = bytes(names[name_at : names.index(0, name_at)])
            hidden = (other & ~3) | STV_HIDDEN
            SYMBOL.pack_into(result, at, len(names), info, hidden, index, value, size)
            names += prefix.encode() + name + b"\0"
        struct.pack_into("<QQ", result, strings.at + 0x18, len(result), len(names))
        result += names
        result += bytes(-len(result) % 8)
    return bytes(result)


def loaded_bytes(data: bytes) -> int:
    """Return the bytes of code and constants that the object adds to a program. Raises as prefix_symbols does."""
    return sum(section.size for section in _sections(data) if section.flags & ALLOC and section.kind != NOBITS)


def _sections(data: bytes) -> Iterator[Section]:
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF object")
    (table,) = struct.unpack_from("<Q", data, SECTION_TABLE_AT)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    for at in range(table, table + size * count, size):
        _, kind, flags, _, offset, length, link, _, _, _ = SECTION.unpack_from(data, at)
        yield Section(at, kind, flags, offset, length, link)
