"""What every device can do: run a program made for it. Beside this file, one file per kind of device."""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgec.bench.measure.instructions import Region
from edgec.errors import DeviceError, printable
from edgec.targets import detect
from edgec.targets.descriptor import Target

TIMEOUT_SECONDS = 600.0
"""How long one run of a program may take, unless --timeout says otherwise: ten times what the slowest network
takes on an emulator. A device that hangs is an error, not a wait for ever."""
SAID_BYTES = 64 << 20
"""The most that a program may say: a hundred times what the tuner's longest schedule makes it say."""
_QUOTED = 300
"""Characters of what a program says that a message repeats."""


@dataclass(frozen=True)
class Scheme:
    """A kind of device, chosen by the word before the first colon of a device's name."""

    form: str
    """How its names are spelt, for messages."""
    connect: "Callable[[str, Target, float], Device]"
    """Takes what is behind the colon, what bundles are for, and how many seconds a program may run. Returns
    the device, ready for them, or raises DeviceError."""


@dataclass(frozen=True)
class Execution:
    """What one run of a program left behind."""

    device: str
    """Where it ran."""
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
        """The device's processor, for reports."""

    @property
    def features(self) -> frozenset[str] | None:
        """What its processor has, in LLVM's names; None where only the program that runs there knows."""

    @property
    def timeout_seconds(self) -> float:
        """How long one run of a program may take."""

    @property
    def conditions(self) -> dict[str, str | float]:
        """What else decides the figures, as it is now: load, clock, temperature (`machine.py`), versions."""

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Mapping[str, int] | None = None,
    ) -> Execution:
        """Run `program` in an empty folder that holds `files`, and bring the files `collect` back.

        `arguments` name files relative to that folder; `collect` says how many bytes a file may have. Raises
        DeviceError where the program can't be run, dies, takes too long, says or writes more than it may; its
        own exit status is the caller's to judge.
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
    words = printable(said[-1])[:_QUOTED] if said else ""
    code = f"the program ended with exit code {execution.returncode}"
    raise DeviceError(f"'{execution.device}': {words or code}")


def check_system(name: str, target: Target) -> None:
    """Raise DeviceError where device `name` can't be on this machine: bundles and QEMU need Linux."""
    if not detect.is_linux():
        instead = "ssh://USER@HOST" if target.platform.loads_programs else "serial:PATH"
        raise DeviceError(
            f"'{name}' needs Linux and this is {detect.system()}: name a board with --device {instead}"
        )


def duration(seconds: float) -> str:
    """Return `90 s` or `10 min`."""
    return f"{seconds / 60:g} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g} s"


def signal_name(number: int) -> str:
    """Return a signal's name; those for real time have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
