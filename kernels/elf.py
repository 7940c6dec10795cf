"""Relocatable ELF objects, read and stripped: what LLVM wrote, less what a bundle doesn't want."""

import struct
from dataclasses import dataclass, replace

# ELF64, little-endian (System V ABI, chapter 4).
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_SYMTAB, _STRTAB, _RELA, _NOBITS = 2, 3, 4, 8
_ALLOC = 2  # section flag: loaded into memory
_NAMELESS = (3, 4)  # kinds of symbol: a section's own, a source file's
_RESERVED = 0xFF00  # section indices from here on are no sections (absolute, common)

_Relocation = tuple[int, int, int]
"""Offset, symbol << 32 | type, addend."""


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    flags: int
    link: int
    info: int
    align: int
    entry_bytes: int
    data: bytes
    nobits: int
    """Size of a section without bytes in the file (.bss)."""


@dataclass(frozen=True)
class _Symbol:
    name: str
    info: int
    other: int
    section: int
    value: int
    size: int


@dataclass(frozen=True)
class _Object:
    header: tuple[bytes | int, ...]
    sections: tuple[_Section, ...]
    symbols: tuple[_Symbol, ...]


def global_symbols(code: bytes) -> set[str]:
    """Return the names that an ELF64 object shows to the linker: what it defines and what it needs."""
    return {symbol.name for symbol in _read(code).symbols if symbol.info >> 4}


def loaded_bytes(code: bytes) -> int:
    """Return the bytes that an ELF64 object takes in the device's memory: code and read-only data."""
    return sum(len(s.data) + s.nobits for s in _read(code).sections if s.flags & _ALLOC)


def strip(code: bytes, keep: str) -> bytes:
    """Return the object with nothing but `keep`, what it reaches, and the relocations between.

    Debug information goes (it names no file, only line numbers that move with every edit), and so do the
    half-precision helpers that TVM adds to every object, where no code calls them.
    """
    parsed = _read(code)
    sections, symbols = parsed.sections, parsed.symbols
    relocations = {
        section.info: [_RELOCATION.unpack_from(section.data, at) for at in range(0, len(section.data), 24)]
        for section in sections
        if section.kind == _RELA
    }
    reached, todo = set(), [s.section for s in symbols if s.name == keep and s.section]
    while todo:
        index = todo.pop()
        if index in reached:
            continue
        reached.add(index)
        used = [symbols[info >> 32] for _, info, _ in relocations.get(index, [])]
        todo += [s.section for s in used if 0 < s.section < _RESERVED]
    named = {info >> 32 for index in reached for _, info, _ in relocations.get(index, [])}
    kept_symbols = [
        i
        for i, s in enumerate(symbols)
        if i == 0 or i in named or (s.section in reached and s.info & 15 not in _NAMELESS)
    ]
    kept = [i for i, s in enumerate(sections) if i in reached or s.name == ".note.GNU-stack"]
    return _write(parsed, kept, kept_symbols, relocations)


def _read(code: bytes) -> _Object:
    header = _HEADER.unpack_from(code)
    if header[0][:6] != b"\x7fELF\x02\x01":
        raise AssertionError("not an ELF64 little-endian object")
    table, count, names = header[6], header[12], header[13]
    raw = [_SECTION.unpack_from(code, table + _SECTION.size * i) for i in range(count)]
    sections = []
    for name, kind, flags, _, offset, size, link, info, align, entry_bytes in raw:
        empty = kind == _NOBITS
        data = b"" if empty else code[offset : offset + size]
        text = _text(code, raw[names][4] + name)
        sections.append(
            _Section(text, kind, flags, link, info, align, entry_bytes, data, size if empty else 0)
        )
    table_of_symbols = next(s for s in sections if s.kind == _SYMTAB)
    strings = sections[table_of_symbols.link].data
    symbols = [
        _Symbol(_text(strings, name), info, other, section, value, size)
        for name, info, other, section, value, size in _SYMBOL.iter_unpack(table_of_symbols.data)
    ]
    return _Object(header, tuple(sections), tuple(symbols))


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def _write(
    parsed: _Object, kept: list[int], kept_symbols: list[int], relocations: dict[int, list[_Relocation]]
) -> bytes:
    new_section = {old: new for new, old in enumerate(kept, 1)}
    new_symbol = {old: new for new, old in enumerate(kept_symbols)}
    patched = [index for index in kept if relocations.get(index)]
    symbol_table = 1 + len(kept) + len(patched)
    sections = [replace(parsed.sections[index], link=0) for index in kept]
    for index in patched:
        entries = b"".join(
            _RELOCATION.pack(at, new_symbol[info >> 32] << 32 | info & 0xFFFFFFFF, addend)
            for at, info, addend in relocations[index]
        )
        name = f".rela{parsed.sections[index].name}"
        sections.append(_Section(name, _RELA, 0x40, symbol_table, new_section[index], 8, 24, entries, 0))
    symbols = [parsed.symbols[old] for old in kept_symbols]
    strings, names = _strings([s.name for s in symbols])
    entries = b"".join(
        _SYMBOL.pack(names[s.name], s.info, s.other, new_section.get(s.section, s.section), s.value, s.size)
        for s in symbols
    )
    local = sum(s.info >> 4 == 0 for s in symbols)  # local symbols come first
    sections.append(_Section(".symtab", _SYMTAB, 0, symbol_table + 1, local, 8, _SYMBOL.size, entries, 0))
    sections.append(_Section(".strtab", _STRTAB, 0, 0, 0, 1, 0, strings, 0))
    strings, names = _strings([*(s.name for s in sections), ".shstrtab"])
    sections.append(_Section(".shstrtab", _STRTAB, 0, 0, 0, 1, 0, strings, 0))

    body, table = bytearray(_HEADER.size), bytearray(_SECTION.size)
    for s in sections:
        body += bytes(-len(body) % max(s.align, 1))
        size = len(s.data) + s.nobits
        table += _SECTION.pack(
            names[s.name], s.kind, s.flags, 0, len(body), size, s.link, s.info, s.align, s.entry_bytes
        )
        body += s.data
    body += bytes(-len(body) % 8)
    header = list(parsed.header)
    header[6], header[12], header[13] = len(body), len(sections) + 1, len(sections)
    body[: _HEADER.size] = _HEADER.pack(*header)
    return bytes(body + table)


def _strings(names: list[str]) -> tuple[bytes, dict[str, int]]:
    data, offsets = b"\0", {"": 0}
    for name in names:
        if name not in offsets:
            offsets[name] = len(data)
            data += name.encode() + b"\0"
    return data, offsets
