"""manifest.json as types: what a bundle is and how it came to be. manifest.schema.json tells others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from edgec import options as build_options
from edgec.compiler.accuracy import Accuracy, Figure, SamplesKind
from edgec.compiler.provenance import Provenance, Sha256
from edgec.compiler.typed_json import Limits, TypedJson, hints
from edgec.options import BuildOptions
from edgec.targets.descriptor import Target

SCHEMA = 4
Name = Annotated[str, Limits(shortest=1, longest=200)]
Bytes = Annotated[int, Limits(0, 2**40)]
DType = Literal[
    "bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip
"""A numpy dtype's name."""
Shape = Annotated[tuple[int, ...], Limits(longest=32)]
"""In elements, outermost dimension first."""


@dataclass(frozen=True)
class ModelFile:
    """The model that was given."""

    file: str
    """Its name, without its folder."""
    sha256: Sha256
    nodes: int
    """ONNX nodes in that file."""
    operators: int
    """Operators of the lowered network."""
    macs: int
    """Multiply-accumulates of one inference."""
    calibration: Provenance
    """Where the activations' scales come from."""


@dataclass(frozen=True)
class Compared:
    """How near the reference's outputs, and so the device's, come to original.onnx's in ONNX Runtime."""

    on: SamplesKind
    """held back: every tenth of the user's samples, which chose no scales; calibrated: the samples that did;
    given: samples of a model that isn't calibrated; synthetic: seeded noise."""
    samples: Annotated[int, Limits(1)]
    """Compared."""
    outputs: tuple[Figure, ...]
    """Figures of each output as a whole, then of its groups of channels with ranges 100-fold apart."""
    not_compared: str | None
    """Why there are no figures, where neither ONNX Runtime nor ONNX's reference runs the original."""
    limit_db: float
    """What the figures must reach."""
    warnings: tuple[str, ...]
    """What doesn't, the worst first."""

    @property
    def figures(self) -> Accuracy:
        """What was found, without what is demanded of it."""
        return Accuracy(self.on, self.samples, self.outputs, self.not_compared)


@dataclass(frozen=True)
class End:
    """An input or output of the model."""

    name: str
    """As in the model."""
    c_name: Annotated[str, Limits(pattern="[A-Za-z][A-Za-z0-9_]*")]
    """The field of NAME_inputs or NAME_outputs."""
    dtype: DType
    """A numpy dtype name."""
    shape: Shape
    """In elements, outermost dimension first."""
    scale: Annotated[float | None, Limits(above=0)]
    """real = scale * (q - zero_point); null if the tensor isn't quantized."""
    zero_point: Annotated[int | None, Limits(-(2**31), 2**32 - 1)]


@dataclass(frozen=True)
class Memory:
    """What the model needs."""

    arena_bytes: Bytes
    """Working memory of one thread."""
    lower_bound_bytes: Bytes
    """The most bytes alive at any one step: no plan can be smaller."""
    thread_scratch_bytes: Bytes
    """What each further thread adds to the arena."""
    weights_bytes: Bytes
    """Weights, tables and parameters of all levels."""
    code_bytes: Bytes
    """Kernels of all levels and driver, with their own constants."""
    context_bytes: Bytes
    """Size of NAME_context."""
    stack_bytes: Bytes | None
    """The most stack that one call of run takes; null under an operating system."""

    @property
    def ram_bytes(self) -> int:
        """All that an inference writes to: arena, context and, without an operating system, stack."""
        return self.arena_bytes + self.context_bytes + (self.stack_bytes or 0)

    @property
    def flash_bytes(self) -> int:
        """What is only read: code, weights, tables."""
        return self.code_bytes + self.weights_bytes


@dataclass(frozen=True)
class Kernel:
    """What computes one step on one level."""

    kernel: str
    """Row of edgec's kernel table, or island for a step of a float island."""
    configuration: str
    """Which of the kernel's codes for the layer; empty where there is but one. tuning.jsonl, if there, has
    the records that chose."""
    symbol: str
    """The function in the libraries."""
    tiles: int
    """Parts that threads may share out."""
    moved_bytes: int
    """Inputs, constants and outputs, each counted once."""


@dataclass(frozen=True)
class Level:
    """An instruction-set level."""

    name: str
    """The device whose features it needs: the target's own, or one of its variants."""
    code_bytes: int
    """Kernels that this level calls, some of which others may call too."""
    weights_bytes: int
    """Weights, tables and parameters that this level reads."""
    kernels: tuple[Kernel, ...]
    """One per step."""


@dataclass(frozen=True)
class Output:
    """A tensor that a step computes."""

    name: str
    dtype: DType
    """A numpy dtype name."""
    shape: Shape
    """In elements, outermost dimension first."""
    bytes: int


@dataclass(frozen=True)
class Step:
    """A layer, which every level computes with a kernel of its own."""

    name: str
    """The layer."""
    macs: int
    checked: bool
    """Bit-exact with the reference; false inside a float island."""
    checksum: Annotated[int | None, Limits(0, 2**32 - 1)]
    """CRC-32 of the outputs in the golden run, one after another; null for a float step."""
    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class LevelStep(Kernel, Step):
    """A step with the kernel that a level computes it by."""


@dataclass(frozen=True)
class IslandNode:
    """A node that is computed in float."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True)
class Versions:
    """The tools that made the bundle."""

    edgec: str
    numpy: str
    onnxruntime: str
    tvm: str
    ziglang: str


@dataclass(frozen=True)
class Manifest:
    """manifest.json of an edgec bundle. It holds no time and no path: equal inputs give equal bytes.

    manifest.sha256 beside it holds its hash.
    """

    name: Name
    """The model's name."""
    identifier: Annotated[str, Limits(pattern="[a-z][a-z0-9_]*", shortest=1, longest=200)]
    """Prefix of the C functions; name of the header and libraries."""
    options: BuildOptions
    """Those that are recorded, each where its field says; the manifest has no key of this name."""
    target: Target
    """The whole descriptor of the device."""
    files: Mapping[str, Sha256]
    """sha256 of every other file of the bundle, by path."""
    model: ModelFile
    accuracy: Compared
    inputs: tuple[End, ...]
    outputs: Annotated[tuple[End, ...], Limits(shortest=1)]
    memory: Memory
    levels: Annotated[tuple[Level, ...], Limits(shortest=1)]
    """Instruction-set levels, best first; init chooses the first that the CPU has."""
    steps: tuple[Step, ...]
    """Layers in execution order: every level computes them, each with kernels of its own."""
    islands: tuple[IslandNode, ...]
    """Nodes computed in float, and why."""
    required_features: tuple[str, ...]
    """CPU features beyond the architecture's baseline that the last level needs, as LLVM spells them."""
    versions: Versions

    @property
    def int8_io(self) -> bool:
        """Whether inputs and outputs are int8 where the model has float."""
        return bool(self.options.int8_io)  # None, which leaves it to the target, isn't what is recorded


JSON = TypedJson({Target: ("name",)})
_PLACES = {
    name: tuple(option.recorded.split("/"))
    for name, option in build_options.options().items()
    if option.recorded is not None
}
"""Recorded options by name, and the keys on the way to where a manifest has them."""


def kinds() -> dict[str, Any]:
    """Return what a manifest consists of, as TypedJson reads it: kinds by key."""
    own = {name: kind for name, kind in hints(Manifest).items() if name != "options"}
    return {"schema": int} | own | _nested(build_options.kinds())


def to_data(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest as JSON has it."""
    own = {field.name: getattr(manifest, field.name) for field in fields(manifest) if field.name != "options"}
    data = {name: JSON.plain(value) for name, value in own.items()}
    return {"schema": SCHEMA} | data | _nested(vars(manifest.options))


def from_data(data: Any) -> Manifest:
    """Return the manifest that JSON's data are; raises UnfitError where they are none."""
    values = JSON.read(kinds(), data)
    del values["schema"]
    chosen = {}
    for name, way in _PLACES.items():
        place = values
        for key in way:
            place = place[key]
        chosen[name] = place
    for key in {way[0] for way in _PLACES.values()}:
        del values[key]
    return Manifest(options=_options(values["name"], values["target"].name, chosen), **values)


def recorded(options: BuildOptions, name: str, target: str) -> BuildOptions:
    """Return what a manifest keeps of the options that a model of that name was built with."""
    return _options(name, target, {option: getattr(options, option) for option in _PLACES})


def encode(data: Mapping[str, Any]) -> bytes:
    """Return the bytes of JSON's data: indented, keys sorted."""
    return (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _options(name: str, target: str, chosen: Mapping[str, Any]) -> BuildOptions:
    return BuildOptions(target=target, name=name, **chosen)


def _nested(by_option: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands for each recorded option at its place: {int8_io: x} → {io: {int8: x}}."""
    found: dict[str, Any] = {}
    for name, (*way, last) in _PLACES.items():
        place = found
        for key in way:
            place = place.setdefault(key, {})
        place[last] = by_option[name]
    return found
