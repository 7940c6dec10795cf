"""The probe: a program that runs a whole network, in which layers can be computed in several ways.

A layer's time depends on what its neighbours leave in the caches, so every way is measured in its place: each
run of the network takes one way per layer, and says what each layer cost.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from edgec.arrays import Arrays
from edgec.compiler.lower.islands.island_code import IslandCode
from edgec.compiler.lower.network.levels import common_call
from edgec.compiler.lower.network.plan import plan
from edgec.compiler.native import cpu, toolchain
from edgec.compiler.native.layout import Blob, pack, pieces
from edgec.compiler.native.objects import compile_objects
from edgec.compiler.program import Call, Plan, Program, reached

_NAME = "probe"
_WEIGHTS, _INPUTS, _MEMORY = range(3)
"""Where an argument lies, as in the template."""


@dataclass(frozen=True)
class Meter:
    """How a device measures: what the tuner asks of it, whichever device it is."""

    cpu: str
    """The device's processor, for the records."""
    unit: str
    """`ns`, or where there is no clock worth reading `modelled cycles` or `instructions`."""
    exact: bool
    """Whether every run costs the same, so that one is enough."""
    costs: Callable[[Path, bytes], Sequence[float]]
    """Runs a probe on a schedule; returns what every step of every run cost, in order."""
    sums: Callable[[Path, bytes], Sequence[str]]
    """The same, but returns a hash of what every step computed."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A probe, ready to run."""

    program: Path
    steps: int
    compile_seconds: float
    """What compiling its kernels took."""

    def costs(self, meter: Meter, schedule: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return what each step cost, [runs, steps], where each took the way of `schedule`, [runs, steps].

        On a device with a clock one more run goes ahead, so that none of these finds the caches cold.
        """
        ahead = 0 if meter.exact else 1
        costs = meter.costs(self.program, np.concatenate([schedule[:ahead], schedule]).tobytes())
        return np.array(costs, np.float64).reshape(-1, self.steps)[ahead:]

    def differing(self, meter: Meter, schedule: NDArray[np.uint8]) -> tuple[int, int] | None:
        """Return the first run and step whose outputs differ from those of run 0, or None."""
        sums = np.array(meter.sums(self.program, schedule.tobytes())).reshape(-1, self.steps)
        found = np.argwhere(sums != sums[0])
        return (int(found[0][0]), int(found[0][1])) if len(found) else None


def build(
    program: Program,
    ways: Mapping[int, Sequence[IslandCode]],
    inputs: Arrays,
    folder: Path,
    progress: Callable[[int, int], None],
) -> Probe:
    """Write to `folder` the probe of `program` in which call i may be computed in any of `ways[i]`.

    `inputs` is what the network computes on, by tensor; `progress` is called with kernels compiled and all
    there are. Raises ToolchainError, and TargetError for CPU features that can't be looked up.
    """
    chosen: list[list[Call]] = []
    functions, constants = dict(program.functions), dict(program.constants)
    for index, call in enumerate(program.calls):
        named = [_named(f"{index}/{n}/", way) for n, way in enumerate(ways.get(index, ()))]
        chosen.append([way.calls[0] for way in named] or [call])
        for way in named:
            functions |= way.functions
            constants |= way.constants
    every = [call for of_step in chosen for call in of_step]
    merged = dataclasses.replace(
        program,
        calls=tuple(map(common_call, chosen)),
        functions=reached(functions, every),
        constants={name: constants[name] for call in every for name in call.arguments if name in constants},
    )
    ready: list[str] = []

    def compiled(symbol: str, _cached: bool) -> None:
        ready.append(symbol)
        progress(len(ready), len(merged.functions))

    started = time.monotonic()
    objects = compile_objects(merged, compiled)
    seconds = time.monotonic() - started
    planned = plan(merged)
    alignment = program.target.alignment
    weights = pack(merged.constants, alignment)
    fed = pack({t.name: inputs[t.name] for t in program.inputs}, alignment)
    (folder / "weights.bin").write_bytes(weights.data)
    (folder / "inputs.bin").write_bytes(fed.data)
    context = _context(merged, chosen, planned, weights, fed)
    (folder / f"{_NAME}.c").write_text(_render(context), encoding="utf-8", newline="\n")
    if context["features"] and (header := program.target.architecture.cpu_header):
        (folder / "cpu.h").write_bytes((files("edgec.kernels.runtime") / header).read_bytes())
    for symbol, code in objects.items():
        (folder / f"{symbol}.o").write_bytes(code)
    toolchain.compile_c(program.target, [f"{_NAME}.c"], f"{_NAME}.o", folder)
    kernels = [f"{symbol}.o" for symbol in objects]
    toolchain.link_program(program.target, [f"{_NAME}.o", *kernels], _NAME, folder)
    return Probe(folder / _NAME, len(chosen), seconds)


def _named(prefix: str, way: IslandCode) -> IslandCode:
    """Return `way` with its constants' names made its own: those of a layer's other ways are the same."""
    names = {name: f"{prefix}{name}" for name in way.constants}
    call = way.calls[0]
    call = dataclasses.replace(call, arguments=tuple(names.get(name, name) for name in call.arguments))
    constants = {names[name]: array for name, array in way.constants.items()}
    return dataclasses.replace(way, calls=(call,), constants=constants)


def _context(
    program: Program, chosen: Sequence[Sequence[Call]], plan: Plan, weights: Blob[str], fed: Blob[str]
) -> Mapping[str, object]:
    outputs = {}
    memory, alignment = plan.arena_bytes, program.target.alignment
    for tensor in program.outputs:
        outputs[tensor.name] = memory
        memory += -(-tensor.bytes // alignment) * alignment

    def place(name: str) -> tuple[int, int]:
        if name in weights.offsets:
            return _WEIGHTS, weights.offsets[name]
        home = program.home(name)
        if home in plan.offsets or home in outputs:
            start = plan.offsets.get(home, outputs.get(home, 0))
            return _MEMORY, start + pieces(program.tensors[name])["offset"]
        return _INPUTS, fed.offsets[name]

    ways: list[Mapping[str, object]] = []
    steps = []
    for index, of_step in enumerate(chosen):
        output = of_step[0].outputs[0]
        own = pieces(program.tensors[output])
        steps.append(own | {"first_way": len(ways), "output": place(output)[1]})
        for call in of_step:
            places = [*map(place, call.arguments), (_MEMORY, plan.scratch_offsets[index])]
            ways.append(
                {
                    "pointers": len(call.arguments),
                    "tiles": call.tiles,
                    "symbol": call.symbol,
                    "arguments": ", ".join(f"{{ {space}, {offset} }}" for space, offset in places),
                }
            )
    pointers = {call.symbol: len(call.arguments) for of_step in chosen for call in of_step}
    return {
        "features": cpu.table(program.target),
        "steps": steps,
        "ways": ways,
        "functions": sorted(pointers.items()),
        "counts": sorted(set(pointers.values())),
        "arguments": max(pointers.values()) + 1,
        "alignment": alignment,
        "memory_bytes": max(memory, alignment),
    }


def _render(context: Mapping[str, object]) -> str:
    template = (files("edgec.compiler.tune") / "probe.c.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(template).render(context)
