"""manifest.json: what a bundle is and how it came to be. The schema beside this file describes every key."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgec import options
from edgec.compiler.accuracy import LIMITS_DB, Accuracy
from edgec.compiler.emit import driver
from edgec.compiler.emit.golden import Golden
from edgec.compiler.emit.linking import Kernels
from edgec.compiler.emit.platforms.emission import Sizes
from edgec.compiler.program import Call, Plan, Program
from edgec.kernels.codegen import elf
from edgec.kernels.operations import Tensor
from edgec.options import BuildOptions
from edgec.targets.descriptor import Target

SCHEMA = 4
PACKAGES = {
    "edgec": "edgec",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "tvm": "apache-tvm",
    "ziglang": "ziglang",
}
"""Key in the manifest -> package whose version decides bytes of the bundle."""

_RECORDED = {
    name: option.recorded.split("/") for name, option in options.options().items() if option.recorded
}
"""Options by name, and the keys on the way to where a manifest has them."""


@dataclass(frozen=True)
class Calibration:
    """Where the activations' scales come from."""

    kind: str
    """`data`: the user's samples; `synthetic`: seeded noise; `qdq`: in the model already; `none`: float."""
    samples: int = 0
    sha256: str | None = None
    """Hash of the user's file with samples."""
    seed: int | None = None
    """What the synthetic samples were drawn from."""
    held_back: int = 0
    """Samples of the user's that chose no scales."""


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
    calibration: Calibration
    compiled: bytes
    """The ONNX model that was lowered (QDQ on an int8 target): the bundle's model.onnx."""
    original: bytes
    """The model as given, in one file: the bundle's original.onnx."""
    accuracy: Accuracy | None = None
    """How near its outputs come to the original's; None until they are compared."""
    islands: tuple[tuple[str, str, str], ...] = ()
    """Nodes that stay in float on an int8 target: name, operator, reason."""


def build(
    name: str,
    identifier: str,
    programs: Sequence[Program],
    kernels: Kernels,
    plan: Plan,
    golden: Golden,
    source: Source,
    chosen: BuildOptions,
    hashes: dict[str, str],
    weights_bytes: int,
    sizes: Sizes,
) -> dict[str, Any]:
    """Return the manifest's content. `hashes` gives the sha256 of every other file of the bundle."""
    *variants, program = programs
    fields = driver.tensor_names(program)
    return {
        "schema": SCHEMA,
        "name": name,
        "identifier": identifier,
        "target": _target(replace(program.target, variants=tuple(p.target for p in variants))),
        "files": hashes,
        "model": {
            "file": source.file,
            "sha256": source.sha256,
            "nodes": source.nodes,
            "operators": source.operators,
            "macs": sum(call.macs for call in program.calls),
            "calibration": dataclasses.asdict(source.calibration),
        },
        "accuracy": _accuracy(source.accuracy, program.target.precision),
        "inputs": [_tensor(tensor, fields) for tensor in program.inputs],
        "outputs": [_tensor(tensor, fields) for tensor in program.outputs],
        "memory": {
            "arena_bytes": plan.arena_bytes,
            "lower_bound_bytes": plan.lower_bound_bytes,
            "thread_scratch_bytes": plan.thread_scratch_bytes,
            "weights_bytes": weights_bytes,
            "code_bytes": sizes.code,
            "context_bytes": driver.context_bytes(program),
            "stack_bytes": sizes.stack,
        },
        "levels": [_level(each, index, kernels) for index, each in enumerate(programs)],
        "steps": [
            _step(call, crc, program) for call, crc in zip(program.calls, golden.checksums, strict=True)
        ],
        "islands": [
            {"name": node, "operator": operator, "reason": reason}
            for node, operator, reason in source.islands
        ],
        "required_features": sorted(program.target.features),
        "versions": dict(_versions(PACKAGES.items())),
        **_recorded(chosen),
    }


def source_of(manifest: dict[str, Any], folder: Path) -> Source:
    """Return the model that a bundle in `folder` was made from."""
    model = manifest["model"]
    return Source(
        file=model["file"],
        sha256=model["sha256"],
        nodes=model["nodes"],
        operators=model["operators"],
        calibration=Calibration(**model["calibration"]),
        compiled=(folder / "model.onnx").read_bytes(),
        original=(folder / "original.onnx").read_bytes(),
        accuracy=Accuracy.from_data(manifest["accuracy"]),
        islands=tuple((node["name"], node["operator"], node["reason"]) for node in manifest["islands"]),
    )


def options_of(manifest: dict[str, Any]) -> BuildOptions:
    """Return the options that a bundle was built with, as far as they decide how it is tuned."""
    found: dict[str, Any] = {}
    for name, way in _RECORDED.items():
        found[name] = manifest
        for key in way:
            found[name] = found[name][key]
    return BuildOptions(target=manifest["target"]["name"], name=manifest["name"], **found)


def _recorded(chosen: BuildOptions) -> dict[str, Any]:
    """Return what a manifest says of the options."""
    found: dict[str, Any] = {}
    for name, (*way, last) in _RECORDED.items():
        place = found
        for key in way:
            place = place.setdefault(key, {})
        place[last] = getattr(chosen, name)
    return found


def encode(manifest: dict[str, Any]) -> bytes:
    """Return the manifest's bytes: indented, keys sorted."""
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _target(target: Target) -> dict[str, Any]:
    return dataclasses.asdict(target, dict_factory=_listed) | {
        "name": target.name,
        "features": sorted(target.features),
        "variants": [_target(variant) for variant in target.variants],
    }


def _listed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make lists of tuples, as they are when the manifest is read again."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in pairs}


def _accuracy(found: Accuracy | None, precision: str) -> dict[str, Any]:
    assert found is not None, "every build is compared before it is written"
    return {
        "on": found.on,
        "samples": found.samples,
        "outputs": [dataclasses.asdict(figure) for figure in found.outputs],
        "not_compared": found.not_compared,
        "limit_db": LIMITS_DB[precision],
        "warnings": list(found.warnings(precision)),
    }


def _level(program: Program, index: int, kernels: Kernels) -> dict[str, Any]:
    symbols = kernels.symbols[index]
    return {
        "name": program.target.device,
        "code_bytes": sum(map(elf.loaded_bytes, kernels.of_level(index).values())),
        "weights_bytes": len(driver.weights([program]).data),
        "kernels": [
            {
                "kernel": call.kernel,
                "configuration": call.configuration,
                "symbol": symbols[call.symbol],
                "tiles": call.tiles,
                "moved_bytes": program.moved_bytes(call),
            }
            for call in program.calls
        ],
    }


def _tensor(tensor: Tensor, fields: dict[str, str]) -> dict[str, Any]:
    quantization = tensor.quantization
    return {
        "name": tensor.title or tensor.name,
        "c_name": fields[tensor.name],
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "scale": None if quantization is None else float(quantization.scale),
        "zero_point": None if quantization is None else int(quantization.zero_point),
    }


def _step(call: Call, crc: int | None, program: Program) -> dict[str, Any]:
    outputs = [program.tensors[name] for name in call.outputs]
    return {
        "name": call.name,
        "macs": call.macs,
        "checked": call.checked,
        "checksum": crc,
        "outputs": [
            {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape), "bytes": tensor.bytes}
            for tensor in outputs
        ],
    }


def _versions(packages: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for key, package in packages:
        try:
            yield key, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield key, "not installed"  # edgec itself, run from a checkout
