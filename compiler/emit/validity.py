"""Whether a manifest describes a bundle that can be: what its parts say of each other."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from edgec.compiler import names
from edgec.compiler.accuracy import LIMITS_DB
from edgec.compiler.emit.manifest import JSON, Manifest
from edgec.errors import TargetError, printable
from edgec.targets import loader

_PATH_CHARACTERS = 1000
"""The longest path of a file in a bundle; systems take 4096 with the bundle's own."""
_NAME_BYTES = 255
_ITEM_BYTES = {"bool": 1} | {f"{kind}{8 * size}": size for kind in ("int", "uint") for size in (1, 2, 4, 8)}
_ITEM_BYTES |= {"float16": 2, "float32": 4, "float64": 8}


def problem(manifest: Manifest) -> str | None:
    """Return what is first wrong with a manifest, or None."""
    try:
        return next((found for rule in _RULES for found in rule(manifest)), None)
    except TargetError as error:
        return str(error)


def _names(manifest: Manifest) -> Iterator[str]:
    if manifest.identifier != names.identifier(manifest.name):
        yield f"identifier: '{manifest.identifier}' isn't made of name '{manifest.name}'"
    for key in ("inputs", "outputs"):
        for field in ("name", "c_name"):
            ends = getattr(manifest, key)
            yield from _unique(f"{key}/{field}", [getattr(end, field) for end in ends])
    yield from _unique("levels/name", [level.name for level in manifest.levels])
    computed = [tensor.name for step in manifest.steps for tensor in step.outputs]
    yield from _unique("steps/outputs/name", computed)


def _unique(where: str, given: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(given).items():
        if count > 1:
            yield f"{where}: '{name}' is there {count} times"


def _files(manifest: Manifest) -> Iterator[str]:
    given, identifier = manifest.files, manifest.identifier
    for name in given:
        path = PurePosixPath(name)
        inside = not path.is_absolute() and ".." not in path.parts and path.as_posix() == name and path.name
        longest = max((len(part.encode(errors="replace")) for part in path.parts), default=0)
        if not inside or printable(name) != name or "\\" in name or name.startswith("manifest."):
            yield f"files: '{name}' is no file inside the bundle"
        if len(name) > _PATH_CHARACTERS or longest > _NAME_BYTES:
            yield f"files: '{name}' is longer than names of files are"
    needed = {"model.onnx", "original.onnx", "golden/inputs.npz", "golden/outputs.npz"}
    needed |= {f"include/{identifier}.h", f"lib/lib{identifier}.a"}
    for name in sorted(needed - given.keys()):
        yield f"files: '{name}' isn't listed"


def _target(manifest: Manifest) -> Iterator[str]:
    target = loader.from_data(JSON.plain(manifest.target))
    if manifest.required_features != tuple(sorted(target.features)):
        yield "required_features: they aren't the target's"
    levels = [level.device for level in target.levels]
    if [level.name for level in manifest.levels] != levels:
        yield f"levels: they aren't the target's, {', '.join(levels)}"
    if manifest.options.arena_io and not target.platform.memory_is_scarce:
        yield "io/arena: the target has an operating system"


def _steps(manifest: Manifest) -> Iterator[str]:
    steps = manifest.steps
    for level in manifest.levels:
        if len(level.kernels) != len(steps):
            yield f"levels/{level.name}: {len(level.kernels)} kernels for {len(steps)} steps"
    if sum(step.macs for step in steps) != manifest.model.macs:
        yield "model/macs: not the sum of the steps'"
    for step in steps:
        for tensor in step.outputs:
            if tensor.bytes != math.prod(tensor.shape) * _ITEM_BYTES[tensor.dtype]:
                yield f"steps/{step.name}: '{tensor.name}' hasn't {tensor.bytes} bytes"


def _ends(manifest: Manifest) -> Iterator[str]:
    computed = {tensor.name: tensor for step in manifest.steps for tensor in step.outputs}
    for tensor in [*manifest.inputs, *manifest.outputs]:
        if (tensor.scale is None) != (tensor.zero_point is None):
            yield f"'{tensor.name}': a scale without a zero point, or the other way round"
    for tensor in manifest.outputs:
        step = computed.get(tensor.name)
        if step is not None and (step.dtype, step.shape) != (tensor.dtype, tensor.shape):
            yield f"outputs/{tensor.name}: a step computes {step.dtype} {list(step.shape)}"


def _accuracy(manifest: Manifest) -> Iterator[str]:
    found, precision = manifest.accuracy, manifest.target.precision
    known = {tensor.name for tensor in manifest.outputs}
    compared = {figure.output for figure in found.outputs}
    if compared != (set() if found.not_compared is not None else known):
        yield "accuracy/outputs: they aren't the model's"
    if found.limit_db != LIMITS_DB[precision]:
        yield f"accuracy/limit_db: it is {LIMITS_DB[precision]:g} for {precision}"
    if found.warnings != found.figures.warnings(precision):
        yield "accuracy/warnings: they don't follow from the figures"


def _memory(manifest: Manifest) -> Iterator[str]:
    memory = manifest.memory
    if memory.arena_bytes < memory.lower_bound_bytes:
        yield "memory/arena_bytes: less than lower_bound_bytes"
    if (memory.stack_bytes is not None) != manifest.target.platform.memory_is_scarce:
        yield "memory/stack_bytes: null under an operating system, and only there"


_RULES: tuple[Callable[[Manifest], Iterator[str]], ...] = (
    _names,
    _files,
    _target,
    _steps,
    _ends,
    _accuracy,
    _memory,
)
"""Each yields what it finds wrong."""
