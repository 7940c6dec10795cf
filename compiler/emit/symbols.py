"""Give an object's symbols the name of its bundle.

Two bundles in one program may share kernels by name and differ in the instructions that these use, so every
symbol carries its bundle's name; neither zig's objcopy nor its linker can rename. System V ABI, chapter 4.
"""

import struct

# ELF64, little-endian: the header's section table, a section header, a symbol.
_SECTIONS_AT, _SECTION_COUNT_AT = 0x28, 0x3A
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_OFFSET_IN_SECTION = 0x18
_SYMTAB = 2
_LOCAL = 0
_HIDDEN = 2
_UNDEFINED = 0


def prefix_symbols(data: bytes, prefix: str) -> bytes:
    """Return the object with every symbol it defines globally renamed to `prefix` + name, and hidden.

    Hidden symbols bind inside a shared library and aren't exported from it. The new names go into a string
    table appended to the file; nothing else moves. Raises ValueError for what is no 64-bit little-endian ELF.
    """
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF object")
    (table,) = struct.unpack_from("<Q", data, _SECTIONS_AT)
    size, count = struct.unpack_from("<HH", data, _SECTION_COUNT_AT)
    places = [table + size * index for index in range(count)]
    result = bytearray(data)
    for place in places:
        _, kind, _, _, start, length, link, _, _, _ = _SECTION.unpack_from(data, place)
        if kind != _SYMTAB:
            continue
        _, _, _, _, strings, strings_length, _, _, _, _ = _SECTION.unpack_from(data, places[link])
        names = bytearray(data[strings : strings + strings_length])
        for at in range(start, start + length, _SYMBOL.size):
            name_at, info, other, section, value, extent = _SYMBOL.unpack_from(data, at)
            if info >> 4 == _LOCAL or section == _UNDEFINED:
                continue
            name = names[name_at : names.index(0, name_at)]
            _SYMBOL.pack_into(result, at, len(names), info, (other & ~3) | _HIDDEN, section, value, extent)
            names += prefix.encode() + name + b"\0"
        struct.pack_into("<QQ", result, places[link] + _OFFSET_IN_SECTION, len(result), len(names))
        result += names
    return bytes(result)
