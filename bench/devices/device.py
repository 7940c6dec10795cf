"""What every device can do: run a program made for it. Beside this file, one file per kind of device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgec.bench.instructions import Region
from edgec.errors import DeviceError

TIMEOUT_SECONDS = 3600.0
"""Long enough for any run worth waiting for; a device that hangs is an error, not a wait for ever."""


@dataclass(frozen=True)
class Execution:
    """What one run of a program left behind."""

    returncode: int
    stdout: str
    stderr: str
    files: dict[str, bytes] = field(default_factory=dict)
    """The files asked for that the program wrote."""


class Device(Protocol):
    """A machine, real or emulated, that runs programs: a bundle's bench program, the tuner's probe."""

    @property
    def name(self) -> str:
        """What the user calls it: `local`, `emulator`."""

    @property
    def cpu(self) -> str:
        """Its processor, for reports."""

    @property
    def conditions(self) -> dict[str, str | float]:
        """What else decides the figures: load, governor, versions."""

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
        timeout: float = TIMEOUT_SECONDS,
    ) -> Execution:
        """Run `program` in an empty folder that holds `files`, and bring `collect` back.

        `arguments` name files relative to that folder. Raises DeviceError where the program can't be run,
        dies, or takes more than `timeout` seconds; its own exit status is the caller's to judge.
        """


@runtime_checkable
class CountingDevice(Device, Protocol):
    """A device without a clock worth reading, which counts executed instructions instead."""

    def count(
        self, program: Path, arguments: Sequence[str], files: Mapping[str, bytes] | None = None
    ) -> tuple[Region, ...]:
        """Run `program` as `execute` does and return the instructions between its markers, in order."""


def checked(execution: Execution) -> Execution:
    """Return `execution` if its program succeeded; raises DeviceError with the program's own words."""
    if execution.returncode == 0:
        return execution
    said = execution.stderr.strip().splitlines()
    raise DeviceError(said[-1] if said else f"the program ended with exit code {execution.returncode}")
