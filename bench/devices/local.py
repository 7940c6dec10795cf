"""The machine edgec runs on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.bench.devices import machine, process
from edgec.bench.devices.device import TIMEOUT_SECONDS, Execution, Scheme, check_system
from edgec.errors import DeviceError
from edgec.targets import detect
from edgec.targets.descriptor import Target

_DESCRIBE_SECONDS = 10.0
"""To read some files."""


@dataclass(frozen=True)
class Local:
    """The machine itself."""

    timeout_seconds: float = TIMEOUT_SECONDS
    name: str = "local"

    @property
    def cpu(self) -> str:
        """Model name of this machine's processor."""
        return detect.cpu_name()

    @property
    def features(self) -> frozenset[str]:
        """What its processor has."""
        return self._described().features

    @property
    def conditions(self) -> dict[str, str | float]:
        """What it is and how busy, hot and fast it is now."""
        return dict(self._described().conditions)

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Mapping[str, int] | None = None,
    ) -> Execution:
        """Run a program on this machine, in an empty folder with `files`, as `Device.execute` says."""
        return process.run(
            self.name, [program.resolve(), *arguments], files or {}, collect or {}, self.timeout_seconds
        )

    def _described(self) -> machine.Machine:
        command = ["sh", "-c", f"{machine.SCRIPT}\ndescribe"]
        return machine.parse(process.run(self.name, command, {}, {}, _DESCRIBE_SECONDS).stdout)


def connect(_address: str, target: Target, timeout_seconds: float) -> Local:
    """Return this machine; raises DeviceError where bundles for `target` can't run on it."""
    check_system("local", target)
    arch = detect.host_arch()
    if arch != target.arch:
        instead = "with --device emulator" if target.emulator else f"on a machine with {target.arch}"
        raise DeviceError(f"the bundle is for {target.arch} and this machine is {arch}: run it {instead}")
    return Local(timeout_seconds)


SCHEME = Scheme("local", connect)
