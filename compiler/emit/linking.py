"""What kernels are called in a bundle's libraries, and which of them several levels share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgec.compiler import names
from edgec.compiler.emit.symbols import prefix_symbols
from edgec.compiler.program import Program, reached


@dataclass(frozen=True, eq=False)
class Kernels:
    """The kernels of all levels, each piece of code once."""

    objects: dict[str, bytes]
    """Object files by the symbol that they define, which nothing else in a program has."""
    levels: tuple[str, ...]
    """Names of the levels, for C."""
    symbols: tuple[dict[str, str], ...]
    """Per level: symbol of a function in the program -> symbol in `objects`."""

    def of_level(self, level: int) -> dict[str, bytes]:
        """Return the objects that one level uses."""
        return {symbol: self.objects[symbol] for symbol in self.symbols[level].values()}


def link(identifier: str, programs: Sequence[Program], objects: Sequence[Mapping[str, bytes]]) -> Kernels:
    """Return the kernels that `programs`, one per level and the base last, call.

    `objects` holds, per level, the object file of each function by symbol. Two bundles in one program, and
    two levels in one bundle, may have functions of one name and different instructions: the bundle's name
    goes before every symbol, and that of the first level, the base's first, with its code where that isn't
    the base.
    """
    levels = tuple(names.c_names(program.target.device for program in programs).values())
    linked: dict[str, bytes] = {}
    taken: dict[bytes, str] = {}
    symbols: list[dict[str, str]] = []
    for program, compiled, level in reversed(list(zip(programs, objects, levels, strict=True))):
        prefix = f"{identifier}_{level}_" if symbols else f"{identifier}_"
        own = {}
        for symbol, function in reached(program.functions, program.calls).items():
            code = compiled[symbol]  # which holds its symbol: equal code has equal names
            if code not in taken:
                taken[code] = f"{prefix}{symbol}"
                linked[taken[code]] = prefix_symbols(code, prefix, function.callees)
            own[symbol] = taken[code]
        symbols.insert(0, own)
    return Kernels(linked, levels, tuple(symbols))
