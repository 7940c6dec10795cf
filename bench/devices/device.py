"""What every device can do: run a bundle's bench program. Beside this file, one file per kind of device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from edgec.bench.instructions import Region
from edgec.compiler.emit.bundle import Bundle
from edgec.errors import DeviceError

TIMEOUT_SECONDS = 3600.0
"""Long enough for any run worth waiting for; a device that hangs is an error, not a wait for ever."""


@dataclass(frozen=True)
class Execution:
    """What one run of the bench program left behind."""

    returncode: int
    stdout: str
    stderr: str
    files: dict[str, bytes] = field(default_factory=dict)
    """The files asked for that the program wrote."""


class Device(Protocol):
    """A machine, real or emulated, that runs bench programs."""

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
        bundle: Bundle,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
        timeout: float = TIMEOUT_SECONDS,
    ) -> Execution:
        """Run the bundle's bench program in an empty folder that holds `files`, and bring `collect` back.

        `arguments` name files relative to that folder. Raises DeviceError where the program can't be run,
        dies, or takes more than `timeout` seconds; its own exit status is the caller's to judge.
        """


@runtime_checkable
class CountingDevice(Device, Protocol):
    """A device without a clock worth reading, which counts executed instructions instead."""

    def count(self, bundle: Bundle) -> tuple[Region, ...]:
        """Return the instructions of one inference on one thread, one region per step in order."""


def checked(execution: Execution) -> Execution:
    """Return `execution` if its program succeeded; raises DeviceError with the program's own words."""
    if execution.returncode == 0:
        return execution
    said = execution.stderr.strip().splitlines()
    raise DeviceError(said[-1] if said else f"the bench program ended with exit code {execution.returncode}")
