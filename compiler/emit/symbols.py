"""Give an object's symbols the name of its bundle.

Two bundles in one program may share kernels by name and differ in the instructions that these use, so every
symbol carries its bundle's name; neither zig's objcopy nor its linker can rename. System V ABI, chapter 4.
"""

import struct
from collections.abc import Collection

from edgec.kernels.codegen import elf

_OFFSET_IN_SECTION = {4: (0x10, "<II"), 8: (0x18, "<QQ")}
"""Bytes of an address -> where a section's header has the section's offset and size, and how."""
_SYMTAB = 2
_LOCAL = 0
_HIDDEN = 2
_UNDEFINED = 0


def prefix_symbols(data: bytes, prefix: str, needed: Collection[str] = ()) -> bytes:
    """Return the object with every symbol it defines globally renamed to `prefix` + name, and hidden.

    So are those of `needed`, which another object of the same prefix defines. Hidden symbols bind inside a
    shared library and aren't exported from it. The new names go into a string table appended to the file;
    nothing else moves.
    """
    form = elf.format_of(data)
    header = form.header.unpack_from(data)
    table, size, count = header[6], header[11], header[12]
    places = [table + size * index for index in range(count)]
    offset_at, offset_and_size = _OFFSET_IN_SECTION[form.word]
    result = bytearray(data)
    for place in places:
        _, kind, _, _, start, length, link, _, _, _ = form.section.unpack_from(data, place)
        if kind != _SYMTAB:
            continue
        _, _, _, _, strings, strings_length, _, _, _, _ = form.section.unpack_from(data, places[link])
        names = bytearray(data[strings : strings + strings_length])
        for at in range(start, start + length, form.symbol.size):
            name_at, info, other, section, value, extent = form.unpack_symbol(data, at)
            name = names[name_at : names.index(0, name_at)]
            if info >> 4 == _LOCAL or (section == _UNDEFINED and name.decode() not in needed):
                continue
            renamed = len(names), info, (other & ~3) | _HIDDEN, section, value, extent
            result[at : at + form.symbol.size] = form.pack_symbol(renamed)
            names += prefix.encode() + name + b"\0"
        struct.pack_into(offset_and_size, result, places[link] + offset_at, len(result), len(names))
        result += names
    return bytes(result)
