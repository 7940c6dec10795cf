"""Tuning records: the fastest code known of a layer, by class of CPU and shape. JSON lines, one a layer.

A record is a choice among equals: whatever it says, the results are the same bits.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import platformdirs

from edgec import files
from edgec.compiler.records.signature import signature
from edgec.errors import TuningError
from edgec.kernels.operations import Network, Operation, Operator
from edgec.kernels.table import applicable
from edgec.kernels.version import version
from edgec.targets.descriptor import Target

_ANY_CPU = frozenset({"generic", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"})
"""LLVM's names for no CPU in particular."""


@dataclass(frozen=True)
class Record:
    """What tuning found for one shape of layer on one class of CPU."""

    target: str
    """`cpu_class` of the layer on the target."""
    operation: str
    """`signature` of the layer."""
    kernel: str
    configuration: str
    cost: float
    """What one call costs, in `unit`."""
    first_cost: float
    """Cost of the code that would be chosen without tuning."""
    unit: str
    """`ns`, or on an emulator `modelled cycles` or executed `instructions`."""
    cpu: str
    """Where it was measured."""
    tried: int
    """Kernels and configurations measured."""
    complete: bool
    """Whether those were all there are, and the choice among them was clear."""
    version: str
    """Version of the kernels it was chosen from."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is looked up by."""
        return self.target, self.operation


@dataclass(frozen=True)
class Records:
    """Tuning records, one per class of CPU and layer."""

    entries: dict[tuple[str, str], Record]
    """By `Record.key`."""

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Records":
        """Return `records`, sorted by key; later ones take the place of earlier ones."""
        latest = {record.key: record for record in records}
        return cls(dict(sorted(latest.items())))

    def find(self, operator: Operator, target: Target) -> Record | None:
        """Return the record for a layer on `target`, or None; one of other kernels than today's is none."""
        operation = operator.operation
        record = self.entries.get((cpu_class(operation, target), signature(operation, operator.demands)))
        return record if record is not None and record.version == choice_version(operation, target) else None

    def __add__(self, other: "Records") -> "Records":
        return Records.of([*self.entries.values(), *other.entries.values()])


NONE = Records({})
_LIMIT = 64 * files.MEBIBYTE
"""Bytes of a file of records: a hundred thousand layers."""


@cache
def cpu_class(operation: Operation, target: Target) -> str:
    """Return what targets have in common for which the same code of a layer is fastest.

    Architecture, the CPU where the target names one, and those features that kernels for it make use of.
    """
    used = frozenset[str]().union(*(kernel.features for kernel in applicable(operation, target)))
    cpu = () if target.cpu in _ANY_CPU else (target.cpu,)
    return " ".join([target.arch, *cpu, *sorted(used)])


def choice_version(operation: Operation, target: Target) -> str:
    """Return the version of the kernels that could compute `operation` on `target`."""
    return version(tuple(applicable(operation, target)))


def known() -> Records:
    """Return the records edgec ships with, and over them the user's own."""
    return shipped() + user()


def shipped() -> Records:
    """Return the records edgec ships with."""
    return Records.of(
        _parse((resources.files("edgec.compiler.records") / "shipped.jsonl").read_text("utf-8"))
    )


def user() -> Records:
    """Return what was tuned by this user; nothing where the file can't be read."""
    try:
        return Records.of(_parse(files.read_text(user_file(), TuningError, _LIMIT)))
    except TuningError:
        return NONE


def user_file() -> Path:
    """Return where this user's records are kept."""
    return platformdirs.user_data_path("edgec") / "tuning.jsonl"


def read(path: Path) -> Records:
    """Return the records of a file; raises TuningError where it can't be read or holds anything else."""
    text = files.read_text(path, TuningError, _LIMIT)
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and _record(line) is None:
            raise TuningError(f"{path}, line {number}: not a tuning record")
    return Records.of(_parse(text))


def encode(records: Records) -> bytes:
    """Return the records as JSON lines, keys sorted."""
    lines = (json.dumps(dataclasses.asdict(record), sort_keys=True) for record in records.entries.values())
    return "".join(f"{line}\n" for line in lines).encode()


def keep(records: Records) -> None:
    """Add to this user's records, all or nothing.

    Raises TuningError where their file can't be written.
    """
    check_kept()
    files.write(user_file(), encode(user() + records), TuningError)


def check_kept() -> None:
    """Raise TuningError where `keep` would: before the time is spent on what would be lost."""
    path = user_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TuningError(f"{path}: tuning records can't be written: {error.strerror or error}") from error
    files.check_writable(path, TuningError)


def _parse(text: str) -> Iterator[Record]:
    """Yield the records in JSON lines; a line that is damaged, or of another edgec, is left out."""
    for line in text.splitlines():
        if (record := _record(line)) is not None:
            yield record


def _record(line: str) -> Record | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = {field.name: field.type for field in dataclasses.fields(Record)}
    if not isinstance(data, dict) or data.keys() != fields.keys():
        return None
    if any(type(data[name]) is not kind for name, kind in fields.items()):
        return None
    if not (math.isfinite(data["cost"]) and math.isfinite(data["first_cost"])):
        return None
    return Record(**data)


def of_network(records: Records, network: Network, target: Target) -> Records:
    """Return those records that decide how `network` is computed on `target`."""
    found = (records.find(operator, target) for operator in network.operators)
    return Records.of(record for record in found if record is not None)
