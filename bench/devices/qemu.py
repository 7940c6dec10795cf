"""QEMU itself, whichever of its programs: its version, and the plugin that counts instructions."""

import functools
import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec import cache, files
from edgec.bench.devices import process
from edgec.bench.devices.device import checked
from edgec.bench.measure import instructions, riscv, thumb
from edgec.bench.measure.instructions import Region
from edgec.compiler.native import toolchain
from edgec.errors import DeviceError, printable
from edgec.targets import detect, loader

_COUNTER = Path(__file__).with_name("qemu_counter.c")
_INTERFACES = (((9, 1), 3), ((9, 0), 2), ((4, 2), 1))
"""From which QEMU on -> version of its plugin interface; 7.2 is the one that is tested."""
_COUNTS_BYTES = 1 << 30
"""What the counter may write; some megabytes are usual."""
_VERSION_SECONDS = 10
"""To say which QEMU it is."""
_CLASSES = {
    "qemu-aarch64": instructions.classify,
    "qemu-system-arm": thumb.classify,
    "qemu-system-riscv32": riscv.classify,
}
"""Program -> what tells the class of its CPUs' encodings."""


@functools.cache
def version(program: Path) -> tuple[int, int]:
    """Return the major and minor version of QEMU."""
    said = process.run("emulator", [program.resolve(), "--version"], {}, {}, _VERSION_SECONDS).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    if not found:
        raise DeviceError(f"{program}: does not say which version of QEMU it is")
    return int(found[1]), int(found[2])


def count(
    program: Path,
    before: Sequence[str | Path],
    after: Sequence[str | Path],
    files: Mapping[str, bytes],
    timeout_seconds: float,
) -> tuple[Region, ...]:
    """Run QEMU with the plugin between two lists of arguments, in a folder with `files`; return its regions.

    Raises DeviceError where QEMU can't load plugins, what it runs fails, or the counts make no sense.
    """
    counter = str(_built_counter(version(program))).replace(",", ",,")  # QEMU's way to escape a comma
    command = [program, *before, "-plugin", f"{counter},out=counts", *after]
    done = process.run("emulator", command, files, {"counts": _COUNTS_BYTES}, timeout_seconds)
    if "counts" not in done.files:
        why = printable(done.stderr.strip())[:300] or "no reason given"
        package = "qemu-system-arm" if "system" in program.name else "qemu-user, not -static"
        raise DeviceError(f"{program} can't load plugins ({why}): install {package}")
    checked(done)
    try:
        text = done.files["counts"].decode()
        return instructions.parse(text, _CLASSES.get(program.name, instructions.classify))
    except ValueError as error:
        raise DeviceError(f"'emulator': the instruction counter's output makes no sense: {error}") from error


def _built_counter(version: tuple[int, int]) -> Path:
    """Return the instruction counter built for that QEMU: once per user, kept in the cache folder."""
    interface = next((interface for since, interface in _INTERFACES if version >= since), None)
    if interface is None:
        raise DeviceError(f"QEMU {version[0]}.{version[1]} has no plugins: 4.2 or later is needed")
    header = _COUNTER.with_name("qemu_plugin.h").read_text("utf-8")
    source = f"#define QEMU_PLUGIN_INTERFACE {interface}\n" + _COUNTER.read_text("utf-8")
    digest = hashlib.sha256((header + source).encode()).hexdigest()[:16]
    built = cache.folder() / f"qemu-counter-{digest}.so"
    if built.is_file():
        return built
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        folder = Path(name)
        (folder / "qemu_plugin.h").write_text(header, "utf-8", newline="\n")
        (folder / "qemu_counter.c").write_text(source, "utf-8", newline="\n")
        machine = loader.describe(detect.host_arch(), "fp32")
        toolchain.compile_c(machine, ["qemu_counter.c"], "qemu_counter.o", folder)
        toolchain.link_shared(machine, ["qemu_counter.o"], built.name, folder)
        files.write(built, (folder / built.name).read_bytes(), DeviceError)
    return built
