"""The machine edgec runs on."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.bench.devices import process
from edgec.bench.devices.device import TIMEOUT_SECONDS, Execution, check_system
from edgec.errors import DeviceError
from edgec.targets import detect
from edgec.targets.descriptor import Target

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True)
class Local:
    """The machine itself."""

    timeout_seconds: float = TIMEOUT_SECONDS
    name: str = "local"

    @property
    def cpu(self) -> str:
        """Its processor's model name."""
        return detect.cpu_name()

    @property
    def conditions(self) -> dict[str, str | float]:
        """System, one-minute load average, and the frequency governor where the kernel shows one."""
        found: dict[str, str | float] = {
            "system": f"{platform.system()} {platform.release()}",
            "load_average": round(os.getloadavg()[0], 2),
        }
        return found | ({"governor": _GOVERNOR.read_text("utf-8").strip()} if _GOVERNOR.is_file() else {})

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Mapping[str, int] | None = None,
    ) -> Execution:
        """See `Device.execute`."""
        return process.run(
            self.name, [program.resolve(), *arguments], files or {}, collect or {}, self.timeout_seconds
        )


def connect(target: Target, timeout_seconds: float) -> Local:
    """Return this machine; raises DeviceError where bundles for `target` can't run on it."""
    check_system("local", target)
    arch = detect.host_arch()
    if arch != target.arch:
        instead = "with --device emulator" if target.emulator else f"on a machine with {target.arch}"
        raise DeviceError(f"the bundle is for {target.arch} and this machine is {arch}: run it {instead}")
    return Local(timeout_seconds)
