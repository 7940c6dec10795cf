"""Quantized graphs on other machines: many to a program, each step from the inputs that the reference has.

Where the memory lies that a step works in is the same on every machine, and is tried on this one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.bench.comparison import exact
from edgec.compiler import pipeline
from edgec.compiler.lower.network.select import choose
from edgec.compiler.records.records import Records
from edgec.errors import EdgecError
from edgec.kernels import reference
from edgec.kernels.operations import INEXACT
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.fuzz.draw import Drawn
from tests.fuzz.judge import Verdict, lower, quiet, refusal, verdict_of
from tests.fuzz.runs import MEMORY, SECONDS, Outcome, scratch
from tests.inprocess import isolated
from tests.kernels.harness import Call, Machines
from tests.kernels.operations import called

DEVICES = (
    "arm64", "cortex-m4", "rpi5", "cortex-m55", "cortex-a53", "cortex-m0plus", "cortex-a720", "riscv32",
    "cortex-m7",
)  # fmt: skip
"""In turn, one to a batch: the 64-bit ones are hosted, the others are boards without an operating system."""


@dataclass(frozen=True, eq=False)
class Steps:
    """The exact steps of a graph for a device."""

    case: Drawn
    calls: tuple[Call, ...]


def device_outcomes(cases: Sequence[Drawn], device: str) -> Iterator[Outcome]:
    """Yield what became of every graph of int8 on a device."""
    target = loader.load(f"{device}-int8")
    quantized = [case for case in cases if case.precision == "int8"]
    with scratch() as folder:
        made = isolated(quantized, lambda case: _steps(case, target, folder), SECONDS, MEMORY)
        programs = []
        for case, result in zip(quantized, made, strict=True):
            if isinstance(result, Steps):
                programs.append(result)
            else:
                died = isinstance(result, Verdict)
                yield Outcome(case, device, result if died else Verdict("crash", f"died: {result.how}"))
        for steps, verdict in zip(programs, _run(programs, target, folder), strict=True):
            yield Outcome(steps.case, device, verdict)


def _steps(case: Drawn, target: Target, folder: Path) -> Steps | Verdict:
    made: list[Call] = []
    path = folder / "model.onnx"
    path.write_bytes(case.model.SerializeToString())
    feed = {name: array[0] for name, array in case.samples.items()}

    def attempt() -> None:
        fixed = target.requantization == "fixed-point"
        network = pipeline.to_network(lower(path, "int8", case.samples).model, fixed, target)
        records = Records.of([])
        network = pipeline.arranged(network, target, records)
        codes = {name: pipeline.quantized_as(network.tensors[name], array) for name, array in feed.items()}
        values = reference.evaluate(network, codes, requantization=target.requantization)
        for operator in network.operators:
            if isinstance(operator.operation, INEXACT) or not operator.computes:
                continue
            _, code = choose(operator, target, records)
            inputs = tuple(np.ascontiguousarray(values[name]) for name in operator.inputs)
            expected = np.ascontiguousarray(values[operator.outputs[0]])
            made.append(
                called(operator.operation, Call(code, inputs, expected, (0, code.tiles)), operator.demands)
            )

    with quiet():
        verdict = verdict_of(attempt)
    return Steps(case, tuple(made)) if verdict.kind == "ok" else verdict


def _run(programs: Sequence[Steps], target: Target, folder: Path) -> list[Verdict]:
    """Run all together; where that fails, halves of them, until it is known which."""
    machines = Machines(folder)

    def run(part: Sequence[Steps]) -> list[Verdict]:
        try:
            outputs = iter(machines.run(target, [call for steps in part for call in steps.calls]))
        except (AssertionError, EdgecError) as error:
            if len(part) == 1:
                text = " ".join(str(error).split())[:300]
                return [refusal(text) if isinstance(error, EdgecError) else Verdict("crash", text)]
            half = len(part) // 2
            return [*run(part[:half]), *run(part[half:])]
        return [_compared(steps, [next(outputs) for _ in steps.calls]) for steps in part]

    return run(programs) if any(steps.calls for steps in programs) else [Verdict("ok")] * len(programs)


def _compared(steps: Steps, outputs: Sequence[bytes]) -> Verdict:
    for call, output in zip(steps.calls, outputs, strict=True):
        wanted = call.memory(call.expected)
        ours = np.frombuffer(output, wanted.dtype).reshape(wanted.shape)
        if exact("step", "output", 0, ours, wanted) is not None:
            return Verdict("wrong", f"step of {call.code.key[:100]} isn't the reference's")
    return Verdict("ok")
