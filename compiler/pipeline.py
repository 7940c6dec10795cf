"""The whole journey, from a model's file to a bundle: each step is a file of its own name."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.compiler.compress.calibration import Calibration, load_calibration, synthetic
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.dumps import Dumps
from edgec.compiler.emit import bundle, manifest
from edgec.compiler.emit.golden import Golden, checksum, sqnr
from edgec.compiler.emit.objects import compile_objects
from edgec.compiler.frontend.load import load
from edgec.compiler.lower.check import check
from edgec.compiler.lower.fuse_residuals import fuse_residuals
from edgec.compiler.lower.integer import integer
from edgec.compiler.lower.plan import plan
from edgec.compiler.lower.select import select
from edgec.compiler.model import Model, Provenance, is_qdq, serialize
from edgec.compiler.program import Program
from edgec.errors import ModelError, UnsupportedError
from edgec.kernels import reference
from edgec.kernels.operators import Conv2d, Island, Network
from edgec.targets import loader

Progress = Callable[[str, str], None]
"""Called as progress(stage, detail): with no detail when a stage starts, then with what it found."""


def build(
    path: str | Path,
    *,
    target: str,
    calibration: str | Path | Mapping[str, NDArray[Any]] | None = None,
    output: str | Path | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    name: str | None = None,
    dump: str | Path | None = None,
    progress: Progress | None = None,
) -> bundle.Bundle:
    """Compile the ONNX model at `path` for `target` and return its bundle.

    A float model on an int8 target is quantized after training, on `calibration` (an .npz file or arrays by
    input name) or else on seeded synthetic inputs. `shapes` fixes dynamic inputs; `output` is the folder to
    write, by default `<name>-<target>.edgec` in the current one; `dump` receives every stage as files.
    Raises an EdgecError that names what to mend; then nothing is written.
    """
    report = progress or (lambda _stage, _detail: None)
    path, described = Path(path), loader.load(target)
    name = name or path.stem
    folder = Path(output) if output is not None else Path(f"{name}-{described.name}.edgec")
    bundle.check_output(folder)
    dumps = Dumps(Path(dump) if dump is not None else None)

    report("import", "")
    source = load(path, shapes)
    dumps.model("imported", source)
    if described.precision == "fp32" and is_qdq(source):
        raise ModelError(f"{path.name} is quantized: build it for '{described.device}-int8'")
    data = _samples(calibration, source)
    with _naming(path):
        check(source, described)
    report("import", f"{source.source_nodes} nodes, opset {source.opset}")

    model = source
    if described.precision == "int8":
        report("quantize", "")
        model = source if is_qdq(source) else quantize(source, data)
        dumps.model("quantized", model)
        report("quantize", _quantized(model, source))

    report("lower", "")
    network = fuse_residuals(integer(model))
    dumps.network(network)
    with _naming(path):
        program = select(network, described)
    report("lower", _lowered(network, program))

    report("plan", "")
    planned = plan(program)
    dumps.program(program, planned)
    report("plan", _planned(planned.arena_bytes, planned.lower_bound_bytes, program))

    report("compile", "")
    cached: list[bool] = []

    def compiled(symbol: str, from_cache: bool) -> None:
        del symbol
        cached.append(from_cache)
        report("compile", f"{len(cached)} of {len(program.functions)} objects")

    objects = compile_objects(program, compiled)
    report("compile", f"{len(objects)} objects ({sum(cached)} from the cache)")

    report("emit", "")
    golden = _golden(network, program, source if model is not source else None, data)
    written = bundle.write(name, program, planned, objects, golden, _origin(source, model, network), folder)
    report("emit", _faithful(golden))
    return written


def network_of(path: Path) -> Network:
    """Return the network that a bundle's model.onnx was lowered to."""
    return fuse_residuals(integer(load(path)))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the model's file in front of what it holds that can't be compiled."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(f"{path.name}: {error}") from error


def _samples(given: str | Path | Mapping[str, NDArray[Any]] | None, model: Model) -> Calibration:
    if given is None:
        return synthetic(model)
    return load_calibration(Path(given) if isinstance(given, str) else given, model)


def _golden(network: Network, program: Program, float_model: Model | None, data: Calibration) -> Golden:
    """Return one inference of the reference, on the first calibration sample."""
    inputs = data.feed(0)
    values = reference.evaluate(network, inputs)
    # What follows a float island differs from the reference by the island's tolerance.
    exact = set(inputs) | set(program.constants)
    checksums: list[int | None] = []
    for call in program.calls:
        certain = call.checked and exact.issuperset(set(call.arguments) - set(call.outputs))
        exact.update(call.outputs if certain else ())
        checksums.append(checksum(values[tensor] for tensor in call.outputs) if certain else None)
    floats = None
    if float_model is not None:
        graph = float_model.ir.graph
        results = reference.run_onnx(serialize(float_model), [inputs[str(v.name)] for v in graph.inputs])
        floats = {str(v.name): y for v, y in zip(graph.outputs, results, strict=True)}
    outputs = {tensor.name: values[tensor.name] for tensor in program.outputs}
    return Golden(inputs, outputs, floats, tuple(checksums))


def _origin(source: Model, model: Model, network: Network) -> manifest.Source:
    """Return what the manifest says of the model."""
    kind = Provenance("qdq" if is_qdq(source) else "none")
    provenance = (model.calibration if model is not source else None) or kind
    islands = [o.operation.reasons for o in network.operators if isinstance(o.operation, Island)]
    return manifest.Source(
        file=source.source_name,
        sha256=source.source_sha256,
        nodes=source.source_nodes,
        operators=len(network.operators),
        calibration=manifest.Calibration(
            provenance.kind, provenance.samples, provenance.sha256 or None, provenance.seed
        ),
        compiled=serialize(model),
        original=serialize(source) if model is not source else None,
        islands=tuple(reason for reasons in islands for reason in reasons) if is_qdq(model) else (),
    )


def _quantized(model: Model, source: Model) -> str:
    if model is source:
        return "as the model has it"
    provenance = model.calibration
    assert provenance is not None, "quantize() sets it"
    kind = "synthetic " if provenance.kind == "synthetic" else ""
    return f"int8 per channel, {provenance.samples} {kind}samples"


def _faithful(golden: Golden) -> str:
    """Say how near the golden run comes to the float model's, the worst output first."""
    compared = {
        name: noise
        for name, floats in (golden.float_outputs or {}).items()
        if (noise := sqnr(floats, golden.outputs[name])) is not None
    }
    if not compared:
        return "golden vectors"
    worst = min(compared, key=lambda name: compared[name])
    return f"golden vectors; '{worst}' {compared[worst]:.1f} dB from the float model"


def _lowered(network: Network, program: Program) -> str:
    islands = sum(isinstance(operator.operation, Island) for operator in network.operators)
    macs = sum(o.operation.macs for o in network.operators if isinstance(o.operation, Conv2d))
    kernels = len(network.operators) - islands
    floats = sum(not call.checked for call in program.calls)
    millions = f"{macs / 1e6:.3g}" if macs < 100e6 else f"{macs / 1e6:.0f}"
    return f"{kernels} kernels, {millions} MMAC" + (f", {floats} float steps" if floats else "")


def _planned(arena: int, bound: int, program: Program) -> str:
    weights = sum(np.asarray(array).nbytes for array in program.constants.values())
    return f"arena {_kib(arena)} (lower bound {_kib(bound)}), weights {_kib(weights)}"


def _kib(count: int) -> str:
    return f"{count / 1024:.1f} KiB"
