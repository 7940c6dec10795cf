"""Relocatable ELF objects, read and stripped: what LLVM wrote, less what a bundle doesn't want."""

import struct
from dataclasses import dataclass, replace

FREESTANDING = frozenset({"memcpy", "memset"})
"""All that objects for a microcontroller may ask of the program that they are linked into."""
_SYMTAB, _STRTAB, _RELA, _NOBITS, _REL = 2, 3, 4, 8, 9
# Section flags: loaded into memory; instructions; kept or left out with the section that `link` names.
_ALLOC, _EXECUTABLE, _LINK_ORDER = 2, 4, 0x80
_NAMELESS = (3, 4)  # kinds of symbol: a section's own, a source file's
_RESERVED = 0xFF00  # section indices from here on are no sections (absolute, common)
# Nothing refers to these: the stack need not be executable; what the code needs of a core, for linkers.
_NOTES = (".note.GNU-stack", ".ARM.attributes", ".riscv.attributes")


@dataclass(frozen=True)
class Format:
    """ELF of one word size, little-endian (System V ABI, chapter 4; ELF for the Arm Architecture)."""

    header: struct.Struct
    """The file's header; those that follow are of its parts."""
    section: struct.Struct
    symbol: struct.Struct
    symbol_order: tuple[int, ...]
    """Where the file has name, info, other, section, value, size of a symbol."""
    relocation: struct.Struct
    relocation_kind: int
    """REL keeps the addend in the place that it patches, RELA beside the offset."""
    symbol_shift: int
    """Bits that a relocation's symbol lies above its type."""
    word: int
    """Bytes of an address."""

    def unpack_symbol(self, data: bytes | bytearray, at: int) -> tuple[int, int, int, int, int, int]:
        """Return name, info, other, section, value, size."""
        found = self.symbol.unpack_from(data, at)
        name, info, other, section, value, size = (found[place] for place in self.symbol_order)
        return name, info, other, section, value, size

    def pack_symbol(self, fields: tuple[int, int, int, int, int, int]) -> bytes:
        """Return the symbol's bytes; `fields` as `unpack_symbol` returns them."""
        return self.symbol.pack(*(fields[self.symbol_order.index(place)] for place in range(len(fields))))


_FORMATS = {
    1: Format(
        header=struct.Struct("<16sHHIIIIIHHHHHH"),
        section=struct.Struct("<IIIIIIIIII"),
        symbol=struct.Struct("<IIIBBH"),
        symbol_order=(0, 3, 4, 5, 1, 2),
        relocation=struct.Struct("<II"),
        relocation_kind=_REL,
        symbol_shift=8,
        word=4,
    ),
    2: Format(
        header=struct.Struct("<16sHHIQQQIHHHHHH"),
        section=struct.Struct("<IIQQQQIIQQ"),
        symbol=struct.Struct("<IBBHQQ"),
        symbol_order=(0, 1, 2, 3, 4, 5),
        relocation=struct.Struct("<QQq"),
        relocation_kind=_RELA,
        symbol_shift=32,
        word=8,
    ),
}
"""Class of a file -> its format: 32 bits, as Arm has it, and 64."""
_RISCV = 243  # e_machine
_RISCV32 = replace(_FORMATS[1], relocation=struct.Struct("<IIi"), relocation_kind=_RELA)

_Relocation = tuple[int, ...]
"""Offset, symbol and type in one number, addend if the format has it there."""


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
    format: Format
    header: tuple[bytes | int, ...]
    sections: tuple[_Section, ...]
    symbols: tuple[_Symbol, ...]


@dataclass(frozen=True)
class Piece:
    """A section of an object that goes into memory, as a linker's garbage collection sees it."""

    name: str
    data: bytes
    executable: bool
    symbols: tuple[str, ...]
    """Global names defined in it."""
    data_ranges: tuple[tuple[int, int], ...]
    """Where code holds constants (Arm's mapping symbols say so): start, end."""
    references: tuple["int | str", ...]
    """What it refers to: pieces of the same object, by their place in the list, and names of others'."""
    follows: int | None
    """The piece that it goes with (SHF_LINK_ORDER): no reference leads to it."""


def pieces(code: bytes) -> list[Piece]:
    """Return what an object puts into the device's memory, in its order."""
    parsed = _read(code)
    form, loaded = parsed.format, [i for i, s in enumerate(parsed.sections) if s.flags & _ALLOC]
    place = {index: number for number, index in enumerate(loaded)}
    used: dict[int, list[int | str]] = {index: [] for index in loaded}
    for section in parsed.sections:
        if section.kind == form.relocation_kind and section.info in place:
            for _, info, *_ in form.relocation.iter_unpack(section.data):
                symbol = parsed.symbols[info >> form.symbol_shift]
                if symbol.name == "" and not symbol.section:  # a remark to the linker
                    continue
                local = 0 < symbol.section < _RESERVED
                used[section.info].append(place[symbol.section] if local else symbol.name)
    return [
        Piece(
            name=section.name,
            data=section.data or bytes(section.nobits),
            executable=bool(section.flags & _EXECUTABLE),
            symbols=tuple(s.name for s in parsed.symbols if s.section == index and s.info >> 4),
            data_ranges=_data_ranges(parsed, index),
            references=tuple(dict.fromkeys(used[index])),
            follows=place.get(section.link) if section.flags & _LINK_ORDER else None,
        )
        for index, section in ((i, parsed.sections[i]) for i in loaded)
    ]


def _data_ranges(parsed: _Object, index: int) -> tuple[tuple[int, int], ...]:
    """Return from each `$d` to the next mapping symbol (ELF for the Arm Architecture, 5.5.5)."""
    marks = sorted((s.value, s.name[:2]) for s in parsed.symbols if s.section == index and s.name[:1] == "$")
    ends = [*(value for value, _ in marks[1:]), len(parsed.sections[index].data)]
    return tuple((start, end) for (start, kind), end in zip(marks, ends, strict=False) if kind == "$d")


def global_symbols(code: bytes) -> set[str]:
    """Return the names that an object shows to the linker: what it defines and what it needs."""
    return {symbol.name for symbol in _read(code).symbols if symbol.info >> 4}


def loaded_bytes(code: bytes) -> int:
    """Return the bytes that an object takes in the device's memory: code and read-only data."""
    return sum(len(s.data) + s.nobits for s in _read(code).sections if s.flags & _ALLOC)


def format_of(code: bytes) -> Format:
    """Return how the object is written; raises ValueError for what is no little-endian ELF."""
    if code[:4] != b"\x7fELF" or code[4] not in _FORMATS or code[5:7] != b"\x01\x01":
        raise ValueError("not a little-endian ELF object")
    is_riscv32 = code[4] == 1 and int.from_bytes(code[18:20], "little") == _RISCV
    return _RISCV32 if is_riscv32 else _FORMATS[code[4]]


def defined_symbols(code: bytes) -> set[str]:
    """Return the names that an object defines for others."""
    return {symbol.name for symbol in _read(code).symbols if symbol.info >> 4 and symbol.section}


def undefined_symbols(code: bytes) -> set[str]:
    """Return the names that an object needs from others."""
    return {symbol.name for symbol in _read(code).symbols if symbol.info >> 4 and not symbol.section}


def strip(code: bytes, keep: str) -> bytes:
    """Return the object with nothing but `keep`, what it reaches, and the relocations between.

    Code lies in a section of the function's name, so that linkers can leave it out or place it. Debug
    information goes (it names no file, only line numbers that move with every edit), and so do the
    half-precision helpers that TVM adds to every object, where no code calls them.
    """
    parsed = _read(code)
    sections, symbols, form = parsed.sections, parsed.symbols, parsed.format
    relocations: dict[int, list[_Relocation]] = {
        section.info: list(form.relocation.iter_unpack(section.data))
        for section in sections
        if section.kind == form.relocation_kind
    }
    reached, todo = set(), [s.section for s in symbols if s.name == keep and s.section]
    while todo:
        index = todo.pop()
        if index in reached:
            continue
        reached.add(index)
        used = [symbols[info >> form.symbol_shift] for _, info, *_ in relocations.get(index, [])]
        todo += [s.section for s in used if 0 < s.section < _RESERVED]
    named = {info >> form.symbol_shift for index in reached for _, info, *_ in relocations.get(index, [])}
    kept_symbols = [
        i
        for i, s in enumerate(symbols)
        if i == 0 or i in named or (s.section in reached and s.info & 15 not in _NAMELESS)
    ]
    kept = [i for i, s in enumerate(sections) if i in reached or s.name in _NOTES]
    named_sections = tuple(
        replace(s, name=f".text.{keep}") if s.name == ".text" and s.flags & _EXECUTABLE else s
        for s in sections
    )
    return _write(replace(parsed, sections=named_sections), kept, kept_symbols, relocations)


def _read(code: bytes) -> _Object:
    form = format_of(code)
    header = form.header.unpack_from(code)
    table, count, names = header[6], header[12], header[13]
    raw = [form.section.unpack_from(code, table + form.section.size * i) for i in range(count)]
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
        for at in range(0, len(table_of_symbols.data), form.symbol.size)
        for name, info, other, section, value, size in [form.unpack_symbol(table_of_symbols.data, at)]
    ]
    return _Object(form, header, tuple(sections), tuple(symbols))


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def _write(
    parsed: _Object, kept: list[int], kept_symbols: list[int], relocations: dict[int, list[_Relocation]]
) -> bytes:
    form = parsed.format
    shift = form.symbol_shift
    new_section = {old: new for new, old in enumerate(kept, 1)}
    new_symbol = {old: new for new, old in enumerate(kept_symbols)}
    patched = [index for index in kept if relocations.get(index)]
    symbol_table = 1 + len(kept) + len(patched)
    sections = [replace(parsed.sections[index], link=0) for index in kept]
    for index in patched:
        entries = b"".join(
            form.relocation.pack(at, new_symbol[info >> shift] << shift | info & (1 << shift) - 1, *addend)
            for at, info, *addend in relocations[index]
        )
        prefix = ".rela" if form.relocation_kind == _RELA else ".rel"
        name, size = f"{prefix}{parsed.sections[index].name}", form.relocation.size
        place = symbol_table, new_section[index]
        sections.append(
            _Section(name, form.relocation_kind, 0x40, *place, form.word, size, entries, nobits=0)
        )
    symbols = [parsed.symbols[old] for old in kept_symbols]
    strings, names = _strings([s.name for s in symbols])
    entries = b"".join(
        form.pack_symbol(
            (names[s.name], s.info, s.other, new_section.get(s.section, s.section), s.value, s.size)
        )
        for s in symbols
    )
    local = sum(s.info >> 4 == 0 for s in symbols)  # local symbols come first
    links = symbol_table + 1, local
    sections.append(_Section(".symtab", _SYMTAB, 0, *links, form.word, form.symbol.size, entries, nobits=0))
    sections.append(_Section(".strtab", _STRTAB, 0, 0, 0, 1, 0, strings, 0))
    strings, names = _strings([*(s.name for s in sections), ".shstrtab"])
    sections.append(_Section(".shstrtab", _STRTAB, 0, 0, 0, 1, 0, strings, 0))

    body, table = bytearray(form.header.size), bytearray(form.section.size)
    for s in sections:
        body += bytes(-len(body) % max(s.align, 1))
        size = len(s.data) + s.nobits
        table += form.section.pack(
            names[s.name], s.kind, s.flags, 0, len(body), size, s.link, s.info, s.align, s.entry_bytes
        )
        body += s.data
    body += bytes(-len(body) % form.word)
    header = list(parsed.header)
    header[6], header[12], header[13] = len(body), len(sections) + 1, len(sections)
    body[: form.header.size] = form.header.pack(*header)
    return bytes(body + table)


def _strings(names: list[str]) -> tuple[bytes, dict[str, int]]:
    data, offsets = b"\0", {"": 0}
    for name in names:
        if name not in offsets:
            offsets[name] = len(data)
            data += name.encode() + b"\0"
    return data, offsets
