"""A bundle: the folder that a build leaves and everything else reads."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from edgec.compiler import npz
from edgec.compiler.emit import contract, driver, library, linking, manifest, names
from edgec.compiler.emit.aside import aside
from edgec.compiler.emit.driver import Driver
from edgec.compiler.emit.golden import Golden
from edgec.compiler.emit.manifest import Source
from edgec.compiler.optimize import Optimize
from edgec.compiler.program import Plan, Program
from edgec.errors import BundleError
from edgec.targets import loader
from edgec.targets.descriptor import Target

MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle on disk. Its files are checked against the manifest when they are asked for."""

    path: Path
    manifest: dict[str, Any]
    """As manifest.schema.json describes it."""
    level: str | None = None
    """What the bench program is to run on; None for the best level that the device has."""

    @classmethod
    def load(cls, path: Path) -> "Bundle":
        """Open the bundle at `path`; raises BundleError if it is none, or if a file is missing."""
        try:
            content = json.loads((path / MANIFEST).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise BundleError(
                f"{path} is no bundle: it has no {MANIFEST}; make one with 'edgec build'"
            ) from None
        except (ValueError, OSError) as error:
            raise BundleError(f"{path / MANIFEST} can't be read ({error}): build the bundle again") from None
        if isinstance(content, dict) and content.get("schema", manifest.SCHEMA) != manifest.SCHEMA:
            raise BundleError(
                f"{path / MANIFEST} has schema {content['schema']}, this edgec reads {manifest.SCHEMA}: "
                f"build the bundle again"
            )
        if problem := manifest.problem(content):
            raise BundleError(f"{path / MANIFEST} is damaged ({problem}): build the bundle again")
        for file in content["files"]:
            if not (path / file).is_file():
                raise BundleError(f"{path}: {file} is missing: build the bundle again")
        return cls(path, content)

    def file(self, name: str) -> Path:
        """Return the path of one of the bundle's files; raises BundleError if it isn't what was built."""
        expected = self.manifest["files"].get(name)
        if expected is None:
            raise BundleError(f"{self.path} has no {name}")
        path = self.path / name
        if not path.is_file():
            raise BundleError(f"{self.path}: {name} is missing: build the bundle again")
        if _sha256(path) != expected:
            raise BundleError(f"{self.path}: {name} was changed after the build: build the bundle again")
        return path

    def check(self) -> None:
        """Raise BundleError if any file is missing or was changed."""
        for name in self.manifest["files"]:
            self.file(name)

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.manifest["name"])

    @property
    def identifier(self) -> str:
        """What the model's C functions, header and libraries are called."""
        return str(self.manifest["identifier"])

    @property
    def target(self) -> str:
        """`<device>-<precision>`."""
        return str(self.manifest["target"]["name"])

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """name, c_name, dtype, shape, scale, zero_point of each."""
        return list(self.manifest["inputs"])

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """As `inputs`."""
        return list(self.manifest["outputs"])

    @property
    def memory(self) -> dict[str, int]:
        """arena_bytes, lower_bound_bytes, thread_scratch_bytes, weights_bytes, code_bytes."""
        return dict(self.manifest["memory"])

    @property
    def steps(self) -> list[dict[str, Any]]:
        """In execution order: name, macs, checked, checksum, outputs; and kernel, symbol, tiles.

        The latter are those of the bundle's level, or of the last, which every device has, if it has none.
        """
        *_, last = self.levels
        kernels = self.levels[self.level or last]["kernels"]
        return [step | kernel for step, kernel in zip(self.manifest["steps"], kernels, strict=True)]

    @property
    def levels(self) -> dict[str, dict[str, Any]]:
        """Per instruction-set level, best first: code_bytes, weights_bytes, kernels."""
        return {level["name"]: level for level in self.manifest["levels"]}

    def described(self, level: str | None) -> Target:
        """Return the descriptor of one level; with None the target's own, with all levels."""
        target = loader.from_data(self.manifest["target"])
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
    """Raise BundleError if a bundle can't be written to `output`: something else is there."""
    if os.path.lexists(output) and not (output / MANIFEST).is_file():
        raise BundleError(f"{output} exists and is no bundle: move it away, or name another with --output")


def write(
    name: str,
    programs: Sequence[Program],
    plan: Plan,
    objects: Sequence[Mapping[str, bytes]],
    golden: Golden,
    source: Source,
    optimize: Optimize,
    output: Path,
    records: bytes = b"",
) -> Bundle:
    """Write the bundle of `programs` to `output`, all of it or nothing, in place of a bundle that is there.

    There is one program per level, best first, and one plan for all. `objects` holds, per level, the object
    file of each function, by symbol; `optimize` is what the build put first; `records` the tuning records
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
        if not programs[-1].target.hosted:
            _arduino(folder, identifier, programs[-1].target)
        content = manifest.build(
            name,
            identifier,
            programs,
            kernels,
            plan,
            golden,
            source,
            optimize,
            hashes=_hashes(folder),
            weights_bytes=len(c.blobs[f"{identifier}_weights.bin"]),
            sizes=sizes,
        )
        contract.check(programs[-1], plan, content["memory"], optimize)
        if problem := manifest.problem(content):
            raise ValueError(f"the manifest breaks its own schema: {problem}")
        (folder / MANIFEST).write_bytes(manifest.encode(content))
    return Bundle(output, content)


def _documents(
    c: Driver, identifier: str, golden: Golden, source: Source, records: bytes
) -> dict[str, bytes]:
    """Return the bundle's files that need no compiler, by path."""
    files = {f"src/{file}": text.encode() for file, text in c.sources.items() if file != f"{identifier}.h"}
    files |= {path: text.encode() for path, text in c.packages.items()}
    files[f"include/{identifier}.h"] = c.sources[f"{identifier}.h"].encode()
    files["golden/inputs.npz"] = npz.encode(golden.inputs)
    files["golden/outputs.npz"] = npz.encode(golden.outputs)
    files["model.onnx"] = source.compiled
    files["original.onnx"] = source.original
    if records:
        files["tuning.jsonl"] = records
    return files


def _arduino(folder: Path, identifier: str, target: Target) -> None:
    """Copy header and library to where Arduino's builder looks for a core's precompiled libraries."""
    library = folder / "arduino" / "src" / target.cpu
    library.mkdir(parents=True)
    shutil.copy(folder / "include" / f"{identifier}.h", library.parent)
    shutil.copy(folder / "lib" / f"lib{identifier}.a", library)


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
