"""What this machine is: the descriptor of the target `host`, in the keys of a TOML file."""

import platform
import re
from pathlib import Path
from typing import Any

from edgec.errors import TargetError
from edgec.targets.architectures import ARCHITECTURES, Arch

MACHINES: dict[str, Arch] = {
    machine: each.name for each in ARCHITECTURES.values() for machine in each.machines
}
"""`platform.machine()` -> architecture."""

SYSTEMS = {"Darwin": "macOS"}
"""`platform.system()` -> what users call it, where that is another name."""
CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

ARM_PARTS = {
    "0xd03": "cortex-a53",
    "0xd05": "cortex-a55",
    "0xd08": "cortex-a72",
    "0xd0b": "cortex-a76",
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd49": "neoverse-n2",
    "0xd4f": "neoverse-v2",
    "0xd81": "cortex-a720",
}
"""`CPU part` in /proc/cpuinfo (the part number of Arm's MIDR_EL1) -> LLVM CPU name."""

X86_WIDTHS = (("avx512f", 512, 32), ("avx2", 256, 16))
"""Feature -> bits and number of its vector registers, widest first; SSE2 has 16 of 128 bits."""


def system() -> str:
    """Return the operating system that edgec runs on: `Linux`, `macOS`, `Windows`."""
    return SYSTEMS.get(platform.system(), platform.system())


def is_linux() -> bool:
    """Whether programs of bundles, and emulators, can run here: they are all Linux's."""
    return system() == "Linux"


def host_arch() -> Arch:
    """Return this machine's architecture; raises TargetError where edgec has no code for it."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise TargetError(f"this machine is '{machine}', which edgec has no code for: name a target")
    return MACHINES[machine]


def host() -> dict[str, Any]:
    """Return this machine's descriptor; raises TargetError where it can't be detected."""
    if not is_linux():
        raise TargetError(
            f"target 'host' is a machine with Linux and this is {system()}: name a device, such as arm64; "
            "'edgec targets' lists them"
        )
    if not CPUINFO.is_file():
        raise TargetError(f"target 'host' is detected from {CPUINFO}, missing here: name a device")
    return describe(host_arch(), CPUINFO.read_text("utf-8"), CACHES)


def describe(arch: Arch, cpuinfo: str, caches: Path) -> dict[str, Any]:
    """Return a descriptor with `arch` as its base, from /proc/cpuinfo's text and sysfs's cache folder."""
    fields = _last_processor(cpuinfo)
    features = sorted(features_of(arch, cpuinfo))
    descriptor: dict[str, Any] = {"base": arch, "features": features, "cores": _cores(cpuinfo)} | _caches(
        caches
    )
    if arch == "arm64":
        descriptor["cpu"] = ARM_PARTS.get(fields.get("CPU part", ""), "generic")
        descriptor["emulator"] = {"cpu": "max"}  # whatever this machine has, QEMU's largest CPU has too
    for feature, bits, registers in X86_WIDTHS:
        if feature in features:
            return descriptor | {"vector_bits": bits, "vector_registers": registers}
    return descriptor


def features_of(arch: Arch, cpuinfo: str) -> frozenset[str]:
    """Return LLVM's names of what /proc/cpuinfo's text says the CPU has beside its architecture's base."""
    fields = _last_processor(cpuinfo)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return frozenset(name for name, flag in ARCHITECTURES[arch].features.items() if flag in flags)


def cpu_name() -> str:
    """Return what this machine calls its CPU, for reports: the model name, or Arm's part number."""
    return (cpu_of(CPUINFO.read_text("utf-8")) if CPUINFO.is_file() else "") or platform.machine()


def cpu_of(cpuinfo: str) -> str:
    """Return the CPU's name by /proc/cpuinfo's text, empty where that has none."""
    fields = _last_processor(cpuinfo)
    part = fields.get("CPU part", "")
    return fields.get("model name") or ARM_PARTS.get(part, part)


def _last_processor(cpuinfo: str) -> dict[str, str]:
    """Keys of the last processor listed; on big.LITTLE that is usually a big core, where work is sent."""
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cores(cpuinfo: str) -> int:
    """Cores of the machine, also where this process may use fewer: bundles for it must not differ by that."""
    return max(1, len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)))


def _caches(folder: Path) -> dict[str, int]:
    """Sizes of the data caches that sysfs lists; empty where it lists none (many Arm boards)."""
    sizes = {}
    for index in sorted(folder.glob("index*")):
        level, kind, size = ((index / name).read_text("utf-8").strip() for name in ("level", "type", "size"))
        key = {("1", "Data"): "l1d_bytes", ("2", "Unified"): "l2_bytes"}.get((level, kind))
        if key and size.endswith("K"):
            sizes[key] = int(size[:-1]) * 1024
    return sizes
