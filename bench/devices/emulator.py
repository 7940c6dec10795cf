"""QEMU with the target's CPU: the same bytes as the device, and exact instruction counts.

Its user mode runs the programs of hosted bundles; `board.py` has the machines for microcontrollers.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.bench.devices import process, qemu
from edgec.bench.devices.board import QemuBoard
from edgec.bench.devices.device import TIMEOUT_SECONDS, Execution, Scheme, check_system
from edgec.bench.measure.instructions import Region
from edgec.errors import DeviceError
from edgec.targets.descriptor import Board, Target

_PACKAGES = {
    "qemu-aarch64": "qemu-user libc6-arm64-cross",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
    "/usr/aarch64-linux-gnu": "libc6-arm64-cross",
}
"""What a descriptor names -> Debian and Ubuntu packages with it, and what running a bundle needs besides."""


@dataclass(frozen=True)
class QemuUser:
    """A program of QEMU's user mode, standing in for one CPU."""

    program: Path
    model: str
    """CPU as QEMU calls it."""
    sysroot: str
    timeout_seconds: float = TIMEOUT_SECONDS
    name: str = "emulator"

    @property
    def cpu(self) -> str:
        """The emulated CPU."""
        return f"{self.model} (emulated)"

    @property
    def features(self) -> None:
        """None: QEMU doesn't say, programs find out at their start."""
        return None

    @property
    def conditions(self) -> dict[str, str | float]:
        """Which emulator it is."""
        return {"emulator": f"{self.program.name} {'.'.join(map(str, qemu.version(self.program)))}"}

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Mapping[str, int] | None = None,
    ) -> Execution:
        """Run a program of Linux on the emulated CPU, as `Device.execute` says."""
        command = [self.program, *self._options(), program.resolve(), *arguments]
        return process.run(self.name, command, files or {}, collect or {}, self.timeout_seconds)

    def count(
        self, program: Path, arguments: Sequence[str], files: Mapping[str, bytes] | None = None
    ) -> tuple[Region, ...]:
        """Run a program and return the instructions that were executed between its markers.

        Raises DeviceError where QEMU can't load plugins.
        """
        after: list[str | Path] = [program.resolve(), *arguments]
        return qemu.count(self.program, self._options(), after, files or {}, self.timeout_seconds)

    def _options(self) -> list[str | Path]:
        return ["-cpu", self.model, "-L", self.sysroot]


def connect(_address: str, target: Target, timeout_seconds: float) -> QemuUser | QemuBoard:
    """Return the emulator of `target`; raises DeviceError where it has none, or a part isn't installed."""
    check_system("emulator", target)
    if target.emulator is None:
        raise DeviceError(f"target '{target.name}' has no emulator: run it with --device local")
    program = shutil.which(target.emulator.program)
    if program is None:
        raise DeviceError(f"{target.emulator.program} is not installed{_install(target.emulator.program)}")
    if isinstance(target.emulator, Board):
        machine, cpu = target.emulator.machine, target.emulator.cpu
        return QemuBoard(Path(program), machine, cpu, timeout_seconds)
    if not Path(target.emulator.sysroot).is_dir():
        raise DeviceError(f"{target.emulator.sysroot} is missing{_install(target.emulator.sysroot)}")
    return QemuUser(Path(program), target.emulator.cpu, target.emulator.sysroot, timeout_seconds)


def _install(part: str) -> str:
    return f": sudo apt install {_PACKAGES[part]}" if part in _PACKAGES else ""


SCHEME = Scheme("emulator", connect)
