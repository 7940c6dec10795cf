"""`--dump`: every stage of a build as files that a person can read."""

from pathlib import Path

from edgec.compiler.model import Model, serialize
from edgec.compiler.program import Plan, Program
from edgec.kernels.operators import Network


def write(
    folder: Path, source: Model, model: Model, network: Network, program: Program, plan: Plan
) -> None:
    """Write imported.onnx, quantized.onnx, network.txt, program.txt and functions/*.tir to `folder`."""
    (folder / "functions").mkdir(parents=True, exist_ok=True)
    (folder / "imported.onnx").write_bytes(serialize(source))
    (folder / "quantized.onnx").write_bytes(serialize(model))
    (folder / "network.txt").write_text(_network(network))
    (folder / "program.txt").write_text(_program(program, plan))
    for symbol, function in program.functions.items():
        (folder / "functions" / f"{symbol}.tir").write_text(f"# {function.key}\n{function.make().script()}\n")


def _network(network: Network) -> str:
    lines = []
    for operator in network.operators:
        outputs = ", ".join(f"{name} {network.tensors[name].shape}" for name in operator.outputs)
        lines.append(f"{operator.name}: {type(operator.operation).__name__}({', '.join(operator.inputs)}) -> {outputs}")
    return "\n".join(lines) + "\n"


def _program(program: Program, plan: Plan) -> str:
    lines = [f"# arena {plan.arena_bytes} bytes, lower bound {plan.lower_bound_bytes}"]
    for name, offset in sorted(plan.offsets.items(), key=lambda item: item[1]):
        lines.append(f"# {offset:>10}  {program.tensors[name].bytes:>10}  {name}")
    for call, scratch in zip(program.calls, plan.scratch_offsets, strict=True):
        where = f" scratch {call.scratch_bytes} at {scratch}" if call.scratch_bytes else ""
        lines.append(f"{call.name}: {call.symbol}({', '.join(call.arguments)}) tiles {call.tiles}{where}")
    return "\n".join(lines) + "\n"
