"""QEMU's user mode with the target's CPU: the same bytes as the device, and exact instruction counts."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs

from edgec.bench import instructions
from edgec.bench.devices import process
from edgec.bench.devices.device import TIMEOUT_SECONDS, Execution, checked
from edgec.bench.instructions import Region
from edgec.compiler.emit import toolchain
from edgec.errors import DeviceError
from edgec.targets import detect, loader
from edgec.targets.descriptor import Emulator, Target

_PACKAGES = {
    "qemu-aarch64": "qemu-user libc6-arm64-cross",
    "/usr/aarch64-linux-gnu": "libc6-arm64-cross",
}
"""What a descriptor names -> Debian and Ubuntu packages with it, and what running a bundle needs besides."""

_COUNTER = Path(__file__).with_name("qemu_counter.c")
_INTERFACES = (((9, 1), 3), ((9, 0), 2), ((4, 2), 1))
"""From which QEMU on -> version of its plugin interface; 7.2 is the one that is tested."""


@dataclass(frozen=True)
class QemuUser:
    """A program of QEMU's user mode, standing in for one CPU."""

    program: Path
    model: str
    """CPU as QEMU calls it."""
    sysroot: str
    name: str = "emulator"

    @property
    def cpu(self) -> str:
        """The emulated CPU."""
        return f"{self.model} (emulated)"

    @property
    def conditions(self) -> dict[str, str | float]:
        """Which emulator it is."""
        return {"emulator": f"{self.program.name} {'.'.join(map(str, self.version))}"}

    @cached_property
    def version(self) -> tuple[int, int]:
        """Major and minor version of QEMU."""
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout
        found = re.search(r"version (\d+)\.(\d+)", said)
        if not found:
            raise DeviceError(f"{self.program}: does not say which version of QEMU it is")
        return int(found[1]), int(found[2])

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
        timeout: float = TIMEOUT_SECONDS,
    ) -> Execution:
        """See `Device.execute`."""
        command = [*self._command(), program.resolve(), *arguments]
        return process.run(command, files or {}, collect, timeout)

    def count(
        self, program: Path, arguments: Sequence[str], files: Mapping[str, bytes] | None = None
    ) -> tuple[Region, ...]:
        """See `CountingDevice.count`; raises DeviceError where QEMU can't load plugins."""
        counter = str(_built_counter(self.version)).replace(",", ",,")  # QEMU's way to escape a comma
        command = [*self._command(), "-plugin", f"{counter},out=counts", program.resolve(), *arguments]
        done = process.run(command, files or {}, ["counts"], TIMEOUT_SECONDS)
        if "counts" not in done.files:
            why = done.stderr.strip() or "no reason given"
            raise DeviceError(f"{self.program} can't load plugins ({why}): install qemu-user, not -static")
        checked(done)
        return instructions.parse(done.files["counts"].decode())

    def _command(self) -> list[str | Path]:
        return [self.program, "-cpu", self.model, "-L", self.sysroot]


def connect(target: Target) -> QemuUser:
    """Return the emulator of `target`; raises DeviceError where it has none, or a part isn't installed."""
    if target.emulator is None:
        raise DeviceError(f"target '{target.name}' has no emulator: run it with --device local")
    if not isinstance(target.emulator, Emulator):
        raise DeviceError(f"target '{target.name}': bundles for {target.emulator.machine} don't run yet")
    program = shutil.which(target.emulator.program)
    if program is None:
        raise DeviceError(f"{target.emulator.program} is not installed{_install(target.emulator.program)}")
    if not Path(target.emulator.sysroot).is_dir():
        raise DeviceError(f"{target.emulator.sysroot} is missing{_install(target.emulator.sysroot)}")
    return QemuUser(Path(program), target.emulator.cpu, target.emulator.sysroot)


def _install(part: str) -> str:
    return f": sudo apt install {_PACKAGES[part]}" if part in _PACKAGES else ""


def _built_counter(version: tuple[int, int]) -> Path:
    """Return the instruction counter built for that QEMU: once per user, kept in the cache folder."""
    interface = next((interface for since, interface in _INTERFACES if version >= since), None)
    if interface is None:
        raise DeviceError(f"QEMU {version[0]}.{version[1]} has no plugins: 4.2 or later is needed")
    header = _COUNTER.with_name("qemu_plugin.h").read_text()
    source = f"#define QEMU_PLUGIN_INTERFACE {interface}\n{_COUNTER.read_text()}"
    digest = hashlib.sha256((header + source).encode()).hexdigest()[:16]
    built = platformdirs.user_cache_path("edgec") / f"qemu-counter-{digest}.so"
    if built.is_file():
        return built
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as name:
        folder = Path(name)
        (folder / "qemu_plugin.h").write_text(header)
        (folder / "qemu_counter.c").write_text(source)
        machine = loader.describe(detect.host_arch(), "fp32")
        toolchain.compile_c(machine, ["qemu_counter.c"], "qemu_counter.o", folder)
        toolchain.link_shared(machine, ["qemu_counter.o"], built.name, folder)
        (folder / built.name).replace(built)  # in one step: another edgec may be looking for it
    return built
