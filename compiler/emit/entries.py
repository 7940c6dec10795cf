"""What a manifest says of a program, its kernels and its plan, as the types of `manifest.py`."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from edgec.compiler.accuracy import LIMITS_DB, Accuracy
from edgec.compiler.emit import driver
from edgec.compiler.emit.golden import Golden
from edgec.compiler.emit.linking import Kernels
from edgec.compiler.emit.manifest import (
    Compared,
    DType,
    End,
    IslandNode,
    Kernel,
    Level,
    Manifest,
    Memory,
    ModelFile,
    Output,
    Step,
    Versions,
    recorded,
)
from edgec.compiler.emit.platforms.emission import Sizes
from edgec.compiler.program import Call, Plan, Program
from edgec.compiler.provenance import Provenance
from edgec.kernels.codegen import elf
from edgec.kernels.operations import Tensor
from edgec.options import BuildOptions
from edgec.targets.descriptor import Precision

PACKAGES = {
    "edgec": "edgec",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "tvm": "apache-tvm",
    "ziglang": "ziglang",
}
"""Field of the manifest's `Versions` -> package whose version decides bytes of the bundle."""


@dataclass(frozen=True, eq=False)
class Source:
    """The model that a bundle was made from."""

    file: str
    """Name of the file given, without its folder."""
    sha256: str
    """Hash of the file given."""
    nodes: int
    """ONNX nodes in that file."""
    operators: int
    """Operators of the lowered network."""
    calibration: Provenance
    compiled: bytes
    """The ONNX model that was lowered (QDQ on an int8 target): the bundle's model.onnx."""
    original: bytes
    """The model as given, in one file: the bundle's original.onnx."""
    accuracy: Accuracy | None = None
    """How near its outputs come to the original's; None until they are compared."""
    islands: tuple[IslandNode, ...] = ()
    """Nodes that stay in float on an int8 target."""


def described(
    name: str,
    identifier: str,
    programs: Sequence[Program],
    kernels: Kernels,
    plan: Plan,
    golden: Golden,
    source: Source,
    options: BuildOptions,
    hashes: dict[str, str],
    weights_bytes: int,
    sizes: Sizes,
) -> Manifest:
    """Return the manifest. `hashes` gives the sha256 of every other file of the bundle."""
    *variants, program = programs
    target = replace(program.target, variants=tuple(p.target for p in variants))
    fields = driver.tensor_names(program)
    return Manifest(
        name=name,
        identifier=identifier,
        options=recorded(options, name, target.name),
        target=target,
        files=hashes,
        model=ModelFile(
            file=source.file,
            sha256=source.sha256,
            nodes=source.nodes,
            operators=source.operators,
            macs=sum(call.macs for call in program.calls),
            calibration=source.calibration,
        ),
        accuracy=_compared(source.accuracy, target.precision),
        inputs=tuple(_end(tensor, fields) for tensor in program.inputs),
        outputs=tuple(_end(tensor, fields) for tensor in program.outputs),
        memory=Memory(
            arena_bytes=plan.arena_bytes,
            lower_bound_bytes=plan.lower_bound_bytes,
            thread_scratch_bytes=plan.thread_scratch_bytes,
            weights_bytes=weights_bytes,
            code_bytes=sizes.code,
            context_bytes=driver.context_bytes(program),
            stack_bytes=sizes.stack,
        ),
        levels=tuple(_level(each, index, kernels) for index, each in enumerate(programs)),
        steps=tuple(
            _step(call, crc, program) for call, crc in zip(program.calls, golden.checksums, strict=True)
        ),
        islands=source.islands,
        required_features=tuple(sorted(target.features)),
        versions=Versions(**dict(_versions(PACKAGES.items()))),
    )


def source_of(manifest: Manifest, folder: Path) -> Source:
    """Return the model that a bundle in `folder` was made from."""
    return Source(
        file=manifest.model.file,
        sha256=manifest.model.sha256,
        nodes=manifest.model.nodes,
        operators=manifest.model.operators,
        calibration=manifest.model.calibration,
        compiled=(folder / "model.onnx").read_bytes(),
        original=(folder / "original.onnx").read_bytes(),
        accuracy=manifest.accuracy.figures,
        islands=manifest.islands,
    )


def _compared(found: Accuracy | None, precision: Precision) -> Compared:
    assert found is not None, "every build is compared before it is written"
    return Compared(
        found.on,
        found.samples,
        found.outputs,
        found.not_compared,
        LIMITS_DB[precision],
        found.warnings(precision),
    )


def _level(program: Program, index: int, kernels: Kernels) -> Level:
    symbols = kernels.symbols[index]
    return Level(
        program.target.device,
        code_bytes=sum(map(elf.loaded_bytes, kernels.of_level(index).values())),
        weights_bytes=len(driver.weights([program]).data),
        kernels=tuple(
            Kernel(
                call.kernel,
                call.configuration,
                symbols[call.symbol],
                call.tiles,
                program.moved_bytes(call),
            )
            for call in program.calls
        ),
    )


def _end(tensor: Tensor, fields: dict[str, str]) -> End:
    quantization = tensor.quantization
    return End(
        tensor.title or tensor.name,
        fields[tensor.name],
        cast(DType, tensor.dtype),
        tensor.shape,
        None if quantization is None else float(quantization.scale),
        None if quantization is None else int(quantization.zero_point),
    )


def _step(call: Call, crc: int | None, program: Program) -> Step:
    outputs = [program.tensors[name] for name in call.outputs]
    return Step(
        call.name,
        call.macs,
        call.checked,
        crc,
        tuple(
            Output(tensor.name, cast(DType, tensor.dtype), tensor.shape, tensor.bytes) for tensor in outputs
        ),
    )


def _versions(packages: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for key, package in packages:
        try:
            yield key, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield key, "not installed"  # edgec itself, run from a checkout
