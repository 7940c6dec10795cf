"""`--dump`: every stage of a build as files that a person can read, each written as soon as there is one."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir

from edgec import files
from edgec.compiler.model import Model, encoded, serialize
from edgec.compiler.passes import Watch
from edgec.compiler.program import Plan, Program
from edgec.errors import OutputError
from edgec.kernels.operations import Network


@dataclass(frozen=True)
class Dumps:
    """The folder to write to; nothing is written where there is none."""

    folder: Path | None

    def model(self, name: str, model: Model) -> None:
        """Write NAME.onnx."""
        self._write(f"{name}.onnx", serialize(model))

    def passes(self, stage: str) -> Watch:
        """Return a watch that writes STAGE/NN_PASS.onnx for every pass that changed the model."""
        count, last = itertools.count(1), b""

        def write(name: str, model: onnx_ir.Model) -> None:
            nonlocal last
            number = next(count)
            if self.folder is not None and (content := encoded(model, name)) != last:
                last = content
                self._write(f"{stage}/{number:02}_{name}.onnx", content)

        return write

    def network(self, network: Network) -> None:
        """Write network.txt: one line per operator, with the shapes of its results."""
        lines = []
        for operator in network.operators:
            kind = type(operator.operation).__name__
            results = ", ".join(f"{name} {network.tensors[name].shape}" for name in operator.outputs)
            lines.append(f"{operator.name}: {kind}({', '.join(operator.inputs)}) -> {results}")
        self._write("network.txt", _text(lines))

    def programs(self, programs: Sequence[Program], plan: Plan) -> None:
        """Write program.txt, the arena and the calls of every level, and functions/SYMBOL.tir."""
        *_, base = programs
        lines = [f"# arena {plan.arena_bytes} bytes, lower bound {plan.lower_bound_bytes}"]
        for name, offset in sorted(plan.offsets.items(), key=lambda item: item[1]):
            lines.append(f"# {offset:>10}  {base.tensors[name].bytes:>10}  {name}")
        for tensor in base.tensors.values():
            if (place := tensor.place) is not None:
                lines.append(f"# {tensor.name} lies in {place.tensor} from {place.offset}, {place.runs}")
        for program in programs:
            lines.append(f"# level {program.target.device}")
            lines += _calls(program, plan)
        self._write("program.txt", _text(lines))
        if self.folder is not None:  # making the functions takes longer than all the rest
            functions = {symbol: f for program in programs for symbol, f in program.functions.items()}
            for symbol, function in functions.items():
                script = f"# {function.key}\n{function.make().script()}\n"
                self._write(f"functions/{symbol}.tir", script.encode())

    def _write(self, file: str, content: bytes) -> None:
        if self.folder is not None:
            path = self.folder / file
            for folder in (self.folder, path.parent):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise OutputError(f"{folder}: can't be made: {error.strerror or error}") from error
            files.write(path, content)


def _calls(program: Program, plan: Plan) -> list[str]:
    lines = []
    for call, scratch in zip(program.calls, plan.scratch_offsets, strict=True):
        where = f" scratch {call.scratch_bytes} at {scratch}" if call.scratch_bytes else ""
        lines.append(f"{call.name}: {call.symbol}({', '.join(call.arguments)}) tiles {call.tiles}{where}")
    return lines


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
