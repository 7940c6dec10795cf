"""What a Linux machine is, and what in its state decides a measurement: here or at a distance."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import TargetError, printable
from edgec.targets import detect, loader
from edgec.targets.architectures import Arch

SCRIPT = Path(__file__).with_name("machine.sh").read_text(encoding="utf-8")
"""Defines `describe`, whose output `parse` reads."""
Conditions = Mapping[str, str | float]
"""Name, with its unit unless it is a text -> value; names stay stable, as keys of --json."""

_UNITS = {
    "load_average": ("load_average", 1),
    "frequency": ("frequency_mhz", 1000),
    "max_frequency": ("max_frequency_mhz", 1000),
    "temperature": ("temperature_celsius", 1000),
    "throttle_count": ("throttle_count", 1),
}
"""What the script says in numbers -> name, and how much of the kernel's unit is one of it."""
_TEXTS = ("system", "board", "governor")
_THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Raspberry Pi's `vcgencmd get_throttled`, what its bits mean: from 0 on now, from 16 on since its start."""
_SINCE_START = 16
_TEXT = 100
"""Characters of a text."""
_BUSY_LOAD = 1.0
"""A load average from which on other programs take time or memory's bandwidth from what is measured."""


@dataclass(frozen=True)
class Machine:
    """A machine as it was at one moment."""

    arch: Arch | None
    """As targets call it; None: edgec has no code for it."""
    uname: str
    """As the system calls it."""
    cpu: str
    features: frozenset[str]
    """LLVM's names of what the CPU has, its architecture's base included."""
    conditions: Conditions


def parse(text: str) -> Machine:
    """Return what machine.sh says; lines that make no sense are left out."""
    said, _, cpuinfo = text.partition("\ncpuinfo\n")
    found = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    uname = found.get("machine", "")
    arch = detect.MACHINES.get(uname)
    conditions: dict[str, str | float] = {name: _text(found[name]) for name in _TEXTS if name in found}
    for key, (name, scale) in _UNITS.items():
        value = _number(found.get(key))
        if value is not None:
            conditions[name] = round(value / scale, 2)
    if "throttled" in found:
        conditions["throttled"] = _throttled(found["throttled"])
    cpu = _text(detect.cpu_of(cpuinfo) or uname)
    return Machine(arch, _text(uname), cpu, _features(arch, cpuinfo), conditions)


def during(before: Conditions, after: Conditions) -> dict[str, str | float]:
    """Return the conditions of a measurement: those before it, and as `..._after` what changed."""
    return dict(before) | {
        f"{key}_after": value for key, value in after.items() if before.get(key) != value and key in before
    }


def warnings(before: Conditions, after: Conditions) -> tuple[str, ...]:
    """Return what makes a measurement taken between the two one of a disturbed machine, one sentence each."""
    found = []
    load = before.get("load_average", 0.0)
    if isinstance(load, float) and load >= _BUSY_LOAD:
        found.append(f"other programs load the device: its load average was {load:g} before the measurement")
    state = {str(conditions.get("throttled", "no")) for conditions in (before, after)} - {"no"}
    found += [f"the device's clock is slowed: {text}" for text in sorted(state) if "since" not in text]
    if before.get("throttle_count") != after.get("throttle_count"):
        found.append("the device's clock was slowed meanwhile: it is too hot")
    return tuple(found)


def _text(text: str) -> str:
    return printable(text.strip())[:_TEXT]


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _throttled(text: str) -> str:
    """Return `no`, or why the clock is slowed or, if it isn't now, was since the start."""
    try:
        bits = int(text.strip().rpartition("=")[2], 16)
    except ValueError:
        return "unknown"
    now, once = (
        ", ".join(name for bit, name in enumerate(_THROTTLED) if bits >> first + bit & 1)
        for first in (0, _SINCE_START)
    )
    return now or (f"not now; since it started: {once}" if once else "no")


def _features(arch: Arch | None, cpuinfo: str) -> frozenset[str]:
    if arch is None:
        return frozenset()
    try:
        return loader.describe(arch, "int8").features | detect.features_of(arch, cpuinfo)
    except TargetError:
        return frozenset()
