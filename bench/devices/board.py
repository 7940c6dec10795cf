"""QEMU's machines for microcontrollers: a bundle's image is all that runs, and files go by semihosting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.bench.devices import process, qemu
from edgec.bench.devices.device import TIMEOUT_SECONDS, Execution
from edgec.bench.measure.instructions import Region


@dataclass(frozen=True)
class QemuBoard:
    """A board of QEMU's, with the core that its chip has."""

    program: Path
    machine: str
    """Board as QEMU calls it."""
    model: str
    """Core of the board, as QEMU calls it."""
    timeout_seconds: float = TIMEOUT_SECONDS
    name: str = "emulator"

    @property
    def cpu(self) -> str:
        """The emulated core."""
        return f"{self.model.partition(',')[0]} (emulated)"

    @property
    def features(self) -> None:
        """None: QEMU doesn't say, programs find out at their start."""
        return None

    @property
    def conditions(self) -> dict[str, str | float]:
        """Which emulator it is."""
        version = ".".join(map(str, qemu.version(self.program)))
        return {"emulator": f"{self.program.name} {version}, {self.machine}"}

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Mapping[str, int] | None = None,
    ) -> Execution:
        """Run an image on the board, in an empty folder with `files`, as `Device.execute` says.

        `arguments` hold no spaces.
        """
        command = [self.program, *self._options(program, arguments)]
        return process.run(self.name, command, files or {}, collect or {}, self.timeout_seconds)

    def count(
        self, program: Path, arguments: Sequence[str], files: Mapping[str, bytes] | None = None
    ) -> tuple[Region, ...]:
        """Run an image and return the instructions that were executed between its markers.

        Raises DeviceError where QEMU can't load plugins.
        """
        options = self._options(program, arguments)
        return qemu.count(self.program, [], options, files or {}, self.timeout_seconds)

    def _options(self, program: Path, arguments: Sequence[str]) -> list[str | Path]:
        words = ",".join(f"arg={word.replace(',', ',,')}" for word in (program.name, *arguments))
        semihosting = f"enable=on,target=native,{words}"
        quiet = ("-display", "none", "-monitor", "none", "-serial", "none")
        machine = ("-M", self.machine, "-cpu", self.model, "-bios", "none")
        return [*machine, *quiet, "-semihosting-config", semihosting, "-kernel", program.resolve()]
