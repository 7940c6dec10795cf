"""A bundle: the folder that a build leaves and everything else reads."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from edgec import files
from edgec.compiler import names, npz
from edgec.compiler.emit import contract, driver, library, linking, platforms, validity
from edgec.compiler.emit.atomic_folder import aside, check_writable
from edgec.compiler.emit.driver import Driver
from edgec.compiler.emit.entries import Source, described
from edgec.compiler.emit.golden import Golden
from edgec.compiler.emit.manifest import (
    SCHEMA,
    End,
    Level,
    LevelStep,
    Manifest,
    Memory,
    encode,
    from_data,
    to_data,
)
from edgec.compiler.program import Plan, Program
from edgec.compiler.typed_json import UnfitError
from edgec.errors import BundleError
from edgec.options import BuildOptions
from edgec.targets.descriptor import Target

MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"
"""Holds the manifest's hash as `sha256sum` prints it; what a signature of the whole bundle would sign."""
_LIMIT = 64 * files.MEBIBYTE
"""Bytes of a manifest: a hundred times that of a network of a thousand layers on four levels."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle on disk. Its files are checked against the manifest when they are asked for."""

    path: Path
    manifest: Manifest
    level: str | None = None
    """What the bench program is to run on; None for the best level that the device has."""

    @classmethod
    def load(cls, path: Path) -> "Bundle":
        """Open the bundle at `path`; raises BundleError if it is none, was changed, or a file is missing."""
        if not os.path.lexists(path / MANIFEST):
            raise BundleError(f"{path} is no bundle: it has no {MANIFEST}; make one with 'edgec build'")
        raw = files.read(path / MANIFEST, BundleError, _LIMIT)
        content = _parsed(raw)
        schema = content.get("schema", SCHEMA)
        if schema != SCHEMA:
            raise BundleError(
                f"{path / MANIFEST} has schema {schema}, this edgec reads {SCHEMA}: build the bundle again"
            )
        try:
            opened = cls(path, from_data(content))
            problem = validity.problem(opened.manifest)
        except UnfitError as error:
            problem = str(error)
        if problem:
            raise BundleError(f"{path / MANIFEST} is damaged ({problem}): build the bundle again")
        if files.read(path / DIGEST, BundleError, _LIMIT) != _digest_line(raw) or raw != encode(content):
            raise BundleError(f"{path / MANIFEST} was changed after the build: build the bundle again")
        for name in opened.manifest.files:
            opened._path(name)
        return opened

    def file(self, name: str) -> Path:
        """Return the path of one of the bundle's files; raises BundleError if it isn't what was built."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise BundleError(f"{self.path} has no {name}")
        path = self._path(name)
        if _sha256(path) != expected:
            raise BundleError(f"{self.path}: {name} was changed after the build: build the bundle again")
        return path

    def _path(self, name: str) -> Path:
        """Return where a file of the bundle's lies; raises BundleError where there is none, or elsewhere."""
        path = self.path / name
        if not path.is_file():
            raise BundleError(f"{self.path}: {name} is missing: build the bundle again")
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise BundleError(f"{self.path}: {name} is a link out of the bundle: build the bundle again")
        return path

    @property
    def digest(self) -> str:
        """Hash of the manifest, which holds that of every other file: it stands for the whole bundle."""
        return hashlib.sha256(encode(to_data(self.manifest))).hexdigest()

    def check(self) -> None:
        """Raise BundleError if any file is missing or was changed."""
        for name in self.manifest.files:
            self.file(name)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def identifier(self) -> str:
        """What the model's C functions, header and libraries are called."""
        return self.manifest.identifier

    @property
    def target(self) -> str:
        """`<device>-<precision>`."""
        return self.manifest.target.name

    @property
    def inputs(self) -> tuple[End, ...]:
        """In the model's order."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[End, ...]:
        """In the model's order."""
        return self.manifest.outputs

    @property
    def memory(self) -> Memory:
        """What the model needs."""
        return self.manifest.memory

    @property
    def steps(self) -> tuple[LevelStep, ...]:
        """In execution order, with kernels.

        The latter are those of the bundle's level, or of the last, which every device has, if it has none.
        """
        *_, last = self.levels
        kernels = self.levels[self.level or last].kernels
        pairs = zip(self.manifest.steps, kernels, strict=True)
        return tuple(LevelStep(**vars(step), **vars(kernel)) for step, kernel in pairs)

    @property
    def levels(self) -> dict[str, Level]:
        """The instruction-set levels by name, best first."""
        return {level.name: level for level in self.manifest.levels}

    def described(self, level: str | None) -> Target:
        """Return the descriptor of one level; with None the target's own, with all levels."""
        target = self.manifest.target
        return next((one for one in target.levels if one.device == level), target)

    def at(self, level: str) -> Self:
        """Return the bundle bound to one of its levels; raises BundleError if it has no such level."""
        if level not in self.levels:
            raise BundleError(f"{self.path} has no level '{level}': it has {', '.join(self.levels)}")
        return replace(self, level=level)

    @property
    def options(self) -> list[str]:
        """What the bench program must be told besides what it shall do."""
        return [] if self.level is None else ["--level", self.level]

    @property
    def bench(self) -> Path:
        """The program that runs the model on the device."""
        return self.file(f"bin/{self.identifier}-bench")


def check_output(output: Path) -> None:
    """Raise BundleError where a bundle can't be written to `output`, or something else is there.

    Only what is a bundle is replaced: a folder whose manifest is edgec's and lists whatever is in it.
    """
    _check_free(output)
    check_writable(output)


def _check_free(output: Path) -> None:
    advice = "move it away, or name another with --output"
    if output.name in ("", ".."):
        raise BundleError(f"'{output}' is the folder that something lies in: name one to make with --output")
    if os.path.lexists(output):
        if not (output / MANIFEST).is_file():
            raise BundleError(f"{output} exists and is no bundle: {advice}")
        if (foreign := _foreign(output)) is not None:
            raise BundleError(f"{output} exists and is no bundle: {foreign}; {advice}")


def _foreign(folder: Path) -> str | None:
    """Return what shows that a folder is no bundle of this edgec's or an older one's; None if it is one."""
    try:
        content = _parsed(files.read(folder / MANIFEST, BundleError, _LIMIT))
    except BundleError:
        return f"its {MANIFEST} can't be read"
    given = content.get("files")
    if not {"schema", "identifier", "target", "levels"} <= content.keys() or not isinstance(given, dict):
        return f"its {MANIFEST} isn't edgec's"
    own = {folder / name for name in (MANIFEST, DIGEST, *given)}
    own |= {parent for path in own for parent in path.parents}
    strange = next((path for path in folder.rglob("*") if path not in own), None)
    return None if strange is None else f"'{strange.relative_to(folder)}' in it is no file of a bundle's"


def _parsed(raw: bytes) -> dict[str, Any]:
    """Return a manifest's content; raises BundleError where it is no JSON object."""
    try:
        content = json.loads(raw)
        encode(content)  # half a character of UTF-16, which JSON can hold, has no bytes
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST} is damaged ({error}): build the bundle again") from None
    if not isinstance(content, dict):
        raise BundleError(f"{MANIFEST} is damaged (no JSON object): build the bundle again")
    return content


def _digest_line(raw: bytes) -> bytes:
    """Return what `sha256sum manifest.json` prints of a manifest of these bytes."""
    return f"{hashlib.sha256(raw).hexdigest()}  {MANIFEST}\n".encode()


def write(
    name: str,
    programs: Sequence[Program],
    plan: Plan,
    objects: Sequence[Mapping[str, bytes]],
    golden: Golden,
    source: Source,
    options: BuildOptions,
    output: Path,
    records: bytes = b"",
) -> Bundle:
    """Write the bundle of `programs` to `output`, all of it or nothing, in place of a bundle that is there.

    There is one program per level, best first, and one plan for all. `objects` holds, per level, the object
    file of each function, by symbol; `options` are those of the build; `records` the tuning records
    that chose the kernels, if any did. Raises BundleError where `output` can't be written, ToolchainError
    where the C can't be compiled, TargetError for features that can't be looked up, LimitError where it needs
    more memory than the target allows.
    """
    check_output(output)
    identifier = names.identifier(name)
    kernels = linking.link(identifier, programs, objects)
    c = driver.render(name, identifier, programs, kernels, plan, golden)
    with aside(output) as folder:
        sizes = library.build(folder, identifier, programs[-1].target, c, list(kernels.objects.values()))
        for file, data in _documents(c, identifier, golden, source, records).items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        platforms.of(programs[-1].target).finish(programs[-1].target, identifier, folder)
        made = described(
            name,
            identifier,
            programs,
            kernels,
            plan,
            golden,
            source,
            options,
            hashes=_hashes(folder),
            weights_bytes=len(c.blobs[f"{identifier}_weights.bin"]),
            sizes=sizes,
        )
        contract.check(programs[-1], plan, made.memory, options.optimize)
        if problem := validity.problem(made):
            raise ValueError(f"the manifest breaks its own rules: {problem}")
        encoded = encode(to_data(made))
        (folder / MANIFEST).write_bytes(encoded)
        (folder / DIGEST).write_bytes(_digest_line(encoded))
        _check_free(output)  # again: what wasn't there when the build began must not be lost either
    return Bundle(output, made)


def _documents(
    c: Driver, identifier: str, golden: Golden, source: Source, records: bytes
) -> dict[str, bytes]:
    """Return the bundle's files that need no compiler, by path."""
    documents = {
        f"src/{file}": text.encode() for file, text in c.sources.items() if file != f"{identifier}.h"
    }
    documents |= {path: text.encode() for path, text in c.packages.items()}
    documents[f"include/{identifier}.h"] = c.sources[f"{identifier}.h"].encode()
    documents["golden/inputs.npz"] = npz.encode(golden.inputs)
    documents["golden/outputs.npz"] = npz.encode(golden.outputs)
    documents["model.onnx"] = source.compiled
    documents["original.onnx"] = source.original
    if records:
        documents["tuning.jsonl"] = records
    return documents


def _hashes(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in found}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
