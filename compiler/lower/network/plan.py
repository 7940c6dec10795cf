"""Plan the arena: where every intermediate tensor and every call's scratch lies, as small as can be.

Offline memory planning ("dynamic storage allocation"): each buffer is alive over a range of calls; buffers
alive at the same time must not overlap. Greedy placement in a good order nearly always reaches the lower
bound; where it doesn't, the buffers at the top are moved to the front of the order and it tries again
(the idea of TelaMalloc, Maas et al., ASPLOS 2023).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from edgec.compiler.program import Plan, Program
from edgec.kernels.operations import Runs

# Placements tried are limited by work, not by time, so that a slow machine gives the same plan.
_WORK = 120_000  # pairs of buffers looked at: about 0.2 s
_ATTEMPTS = 400


@dataclass(frozen=True)
class _Buffer:
    """Alive from call `first` to call `last`, both included."""

    name: str | int
    """A tensor's name, or the index of the call whose scratch it is."""
    size: int
    first: int
    last: int


def plan(program: Program) -> Plan:
    """Return the smallest arena found; `check` holds for it. The same program gives the same plan.

    Sizes are rounded up to the target's alignment, in the lower bound too: the arena is a multiple of it.
    """
    buffers, pairs = _buffers(program)
    bound = max(_alive(program, buffers, pairs), default=0)
    offsets = _search(buffers, pairs, bound)
    scratch = tuple(offsets.get(i, 0) for i in range(len(program.calls)))
    result = Plan(
        offsets={name: offset for name, offset in offsets.items() if isinstance(name, str)},
        scratch_offsets=scratch,
        arena_bytes=max((offsets[b.name] + b.size for b in buffers), default=0),
        thread_scratch_bytes=max(
            (_aligned(call.scratch_bytes, program) for call in program.calls), default=0
        ),
        lower_bound_bytes=bound,
    )
    check(program, result)
    return result


def check(program: Program, plan: Plan) -> None:
    """Prove that no two buffers alive at the same call overlap, in-place pairs apart.

    Raises AssertionError naming the buffers: a plan that fails is a bug of the planner.
    """
    _check_parts(program)
    lifetimes = _lifetimes(program)
    for index, call in enumerate(program.calls):
        alive = {
            name: (plan.offsets[name], program.tensors[name].bytes)
            for name, (first, last) in lifetimes.items()
            if first <= index <= last
        }
        if call.scratch_bytes:
            alive["its scratch"] = (plan.scratch_offsets[index], call.scratch_bytes)
        for name, (offset, size) in alive.items():
            if offset % program.target.alignment or offset < 0 or offset + size > plan.arena_bytes:
                raise AssertionError(f"call {call.name}: {name} lies at {offset}, outside or unaligned")
        for (a, (offset_a, size_a)), (b, (offset_b, size_b)) in combinations(alive.items(), 2):
            if offset_a >= offset_b + size_b or offset_b >= offset_a + size_a:
                continue
            shared = offset_a == offset_b and any(
                {a, b} == set(pair) and lifetimes[pair[0]][1] == index == lifetimes[pair[1]][0]
                for pair in call.inplace
            )
            if not shared:
                raise AssertionError(f"call {call.name}: {a} and {b} overlap at {max(offset_a, offset_b)}")


def _check_parts(program: Program) -> None:
    """Prove that what lies in another tensor lies within it, and two parts apart or one within the other."""
    parts = [(tensor, tensor.place) for tensor in program.tensors.values() if tensor.place is not None]
    owners = {place.tensor: np.full(program.tensors[place.tensor].size, -1) for _, place in parts}
    for number, (tensor, place) in enumerate(sorted(parts, key=lambda part: -part[0].size)):
        home, runs = program.tensors[place.tensor], place.runs or Runs(tensor.size, tensor.size)
        inside = 0 <= place.offset <= home.size - runs.span(tensor.size) and runs.pitch >= runs.length
        if home.place is not None or home.dtype != tensor.dtype or not inside:
            raise AssertionError(f"{tensor.name} does not lie in {home.name}")
        starts = place.offset + runs.pitch * np.arange(runs.count(tensor.size))
        elements = starts[:, np.newaxis] + np.arange(runs.length)
        if np.unique(owners[home.name][elements]).size > 1:
            raise AssertionError(f"{tensor.name} overlaps another part of {home.name}")
        owners[home.name][elements] = number


def peak(program: Program) -> tuple[int, dict[str, int]]:
    """Return the call at which most bytes are alive, and the tensors alive there with their sizes.

    Of a pair that may lie in one place the smaller counts for nothing, as in the lower bound.
    """
    buffers, pairs = _buffers(program)
    alive = _alive(program, buffers, pairs)
    index = max(range(len(alive)), key=lambda call: alive[call], default=0)
    lifetimes = _lifetimes(program)
    names = [name for name, (first, last) in lifetimes.items() if first <= index <= last]
    return index, {name: program.tensors[name].bytes for name in names}


def _aligned(size: int, program: Program) -> int:
    return -(-size // program.target.alignment) * program.target.alignment


def _lifetimes(program: Program) -> dict[str, tuple[int, int]]:
    """First and last call of every tensor in the arena or part of it; one that no call touches has none.

    An input is there before the first call, an output after the last.
    """
    inputs, outputs = ({tensor.name for tensor in tensors} for tensors in (program.inputs, program.outputs))
    outside = set() if program.arena_io else inputs | outputs
    lifetimes: dict[str, tuple[int, int]] = {}
    for index, call in enumerate(program.calls):
        for name in call.arguments:
            if name in program.tensors and (home := program.home(name)) not in outside:
                first, _ = lifetimes.get(home, (0 if home in inputs else index, index))
                lifetimes[home] = (first, len(program.calls) - 1 if home in outputs else index)
    return lifetimes


def _buffers(program: Program) -> tuple[list[_Buffer], list[tuple[str, str]]]:
    """All buffers, and the (input, output) pairs that may lie at the same offset."""
    lifetimes = _lifetimes(program)
    tensors = [
        _Buffer(name, _aligned(program.tensors[name].bytes, program), first, last)
        for name, (first, last) in lifetimes.items()
    ]
    scratch = [
        _Buffer(index, _aligned(call.scratch_bytes, program), index, index)
        for index, call in enumerate(program.calls)
        if call.scratch_bytes
    ]
    pairs = [
        (source, result)
        for index, call in enumerate(program.calls)
        for source, result in call.inplace
        if source in lifetimes and result in lifetimes and source != result
        if lifetimes[source][1] == index == lifetimes[result][0]
    ]
    return tensors + scratch, sorted(set(pairs))


def needs(program: Program) -> list[int]:
    """Return the bytes alive at every call: the least that any plan has to give it."""
    return _alive(program, *_buffers(program))


def _alive(program: Program, buffers: list[_Buffer], pairs: list[tuple[str, str]]) -> list[int]:
    """Return the bytes alive at every call, each in-place pair counted once."""
    size = {b.name: b.size for b in buffers}
    first = {b.name: b.first for b in buffers}
    alive = [0] * len(program.calls)
    for b in buffers:
        for index in range(b.first, b.last + 1):
            alive[index] += b.size
    for index in range(len(alive)):
        saved = [(s, r, min(size[s], size[r])) for s, r in pairs if first[r] == index]
        alive[index] -= _most_saved(saved)
    return alive


def _most_saved(pairs: list[tuple[str, str, int]]) -> int:
    """Maximum weight of pairs that share no buffer (a call has one or two)."""
    if not pairs:
        return 0
    source, result, weight = pairs[0]
    apart = [pair for pair in pairs[1:] if pair[0] != source and pair[1] != result]
    return max(weight + _most_saved(apart), _most_saved(pairs[1:]))


def _search(buffers: list[_Buffer], pairs: list[tuple[str, str]], bound: int) -> dict[str | int, int]:
    """Return offsets by name: the best of several orders, then of changes to the best order."""
    number = {b.name: i for i, b in enumerate(buffers)}
    sizes = [b.size for b in buffers]
    conflicts = _conflicts(buffers)
    partners: list[list[int]] = [[] for _ in buffers]
    for source, result in pairs:
        partners[number[source]].append(number[result])
        partners[number[result]].append(number[source])

    def top(offsets: list[int]) -> int:
        return max((o + s for o, s in zip(offsets, sizes, strict=True)), default=0)

    keys: tuple[Callable[[_Buffer], tuple[int, ...]], ...] = (
        lambda b: (-b.size, b.first - b.last),
        lambda b: (b.first - b.last, -b.size),
        lambda b: (-b.size * (b.last - b.first + 1), -b.size),
        lambda b: (b.first, -b.size),
        lambda b: (-b.last, -b.size),
    )
    order: list[int] = []
    best: list[int] = []
    for key in keys:
        candidate = sorted(range(len(buffers)), key=lambda i: (key(buffers[i]), i))
        offsets = _place(candidate, sizes, conflicts, partners)
        if not best or top(offsets) < top(best):
            order, best = candidate, offsets
        if top(best) == bound:
            break

    generator = random.Random(0)
    work = sum(map(len, conflicts)) + len(buffers)
    current, offsets = order, best
    for attempt in range(min(_ATTEMPTS, _WORK // max(work, 1))):
        if top(best) == bound:
            break
        highest = [i for i in current if offsets[i] + sizes[i] == top(offsets)]
        front = highest + generator.sample(current, min(attempt % 4, len(current)))
        current = list(dict.fromkeys(front + current))
        offsets = _place(current, sizes, conflicts, partners)
        if top(offsets) < top(best):
            order, best = current, offsets
        elif attempt % 24 == 23:  # wandered off: go on from the best
            current, offsets = order, best
    return {b.name: offset for b, offset in zip(buffers, best, strict=True)}


def _conflicts(buffers: list[_Buffer]) -> list[list[int]]:
    """For every buffer, the others that are alive at some call while it is."""
    conflicts: list[list[int]] = [[] for _ in buffers]
    for (i, a), (j, b) in combinations(enumerate(buffers), 2):
        if a.first <= b.last and b.first <= a.last:
            conflicts[i].append(j)
            conflicts[j].append(i)
    return conflicts


def _place(
    order: list[int], sizes: list[int], conflicts: list[list[int]], partners: list[list[int]]
) -> list[int]:
    """Place buffers in this order, each as low as it can lie; on a tie, or where it ends lower, in place."""
    offsets = [-1] * len(sizes)
    for i in order:
        taken = sorted((offsets[j], offsets[j] + sizes[j], j) for j in conflicts[i] if offsets[j] >= 0)
        lowest = 0
        for start, end, _ in taken:
            if lowest + sizes[i] <= start:
                break
            lowest = max(lowest, end)
        placed = (offsets[j] for j in partners[i] if offsets[j] >= 0)
        offsets[i] = min([lowest, *(at for at in placed if _fits(at, sizes[i], taken, partners[i]))])
    return offsets


def _fits(offset: int, size: int, taken: list[tuple[int, int, int]], partners: list[int]) -> bool:
    """Whether [offset, offset + size) is free but for in-place partners at that very offset."""
    return all(
        end <= offset or offset + size <= start or (start == offset and j in partners)
        for start, end, j in taken
    )
