"""Levels: the same network as one program per instruction-set level of a target, and what they share."""

from collections.abc import Sequence
from dataclasses import replace

from edgec.compiler.lower.network.plan import needs
from edgec.compiler.lower.network.select import select
from edgec.compiler.program import Call, Program, reached
from edgec.compiler.records.records import Records
from edgec.kernels.operations import Island, Network
from edgec.targets.descriptor import Target


def levels(network: Network, target: Target, records: Records) -> tuple[Program, ...]:
    """Return the program that computes `network` on each of `target.levels`, best first.

    Step i of every program computes the same layer, from the same tensors to the same tensors: they differ in
    functions, constants, tiles and scratch. A float island is scheduled for the last level, whose steps are
    all levels' steps. Kernels are chosen by `records`; raises UnsupportedError, as `select` does.
    """
    *variants, last = target.levels
    base = select(network, last, records)
    others = tuple(o for o in network.operators if not isinstance(o.operation, Island))
    rest = replace(network, operators=others)
    return (*(_with_islands_of(base, select(rest, variant, records)) for variant in variants), base)


def common(programs: Sequence[Program]) -> Program:
    """Return a program that needs all the memory that any of `programs` does: its plan is a plan of each.

    Its scratch is the largest, and a buffer is shared in place where every level can.
    """
    *_, base = programs
    calls = tuple(map(common_call, zip(*(program.calls for program in programs), strict=True)))
    return replace(base, calls=calls)


def most_needed(network: Network, target: Target, records: Records, arena_io: bool) -> int:
    """Return the bytes alive at the step that needs the most: scratch counts, and what works in place."""
    program = common(levels(network, target, records))
    return max(needs(replace(program, arena_io=arena_io)), default=0)


def _with_islands_of(base: Program, program: Program) -> Program:
    """Return `base` with the calls that `program` has too, by what they write, as `program` has them."""
    own = {call.outputs: call for call in program.calls}
    calls = tuple(own.get(call.outputs, call) for call in base.calls)
    functions = base.functions | program.functions
    return replace(
        program,
        calls=calls,
        functions=reached(functions, calls),
        tensors=base.tensors,
        constants=base.constants | program.constants,
    )


def common_call(calls: Sequence[Call]) -> Call:
    """Return a call that needs all the memory that any of `calls` does, ways to compute the same layer."""
    inplace = set(calls[0].inplace).intersection(*(call.inplace for call in calls))
    scratch = max(call.scratch_bytes for call in calls)
    return replace(calls[-1], scratch_bytes=scratch, inplace=tuple(sorted(inplace)))
