"""What a library takes of the firmware that links it: flash by section, stack by the calls that can be made.

A linker keeps what the API functions that firmware calls lead to, and leaves out the rest. So does this: it
sums the sections that are reached from init, run and close, over the relocations of the library's objects.
The stack is the deepest chain of calls, each frame read from the instructions that move the stack pointer.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from edgec.compiler.emit.frames import FRAMES
from edgec.kernels.codegen import elf
from edgec.targets.architectures import Arch

C_LIBRARY_STACK_BYTES = 32
"""What memcpy and memset may take: newlib's take 4 to 20."""

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


def measure(objects: Sequence[bytes], identifier: str, arch: Arch) -> Footprint:
    """Return what firmware takes that calls `identifier`_init, _run and _close of these objects."""
    frame_bytes = FRAMES[arch]
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


def _reached(roots: Iterable[_Key], references: Callable[[_Key], Iterator[_Key]]) -> set[_Key]:
    found: set[_Key] = set()
    waiting = list(roots)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += references(key)
    return found
