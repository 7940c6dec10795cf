"""Devices that bundles run on. A new kind is one file here and one line in the table."""

from edgec.bench.devices import adb, emulator, local, serial, ssh
from edgec.bench.devices.device import (
    TIMEOUT_SECONDS,
    CountingDevice,
    Device,
    Execution,
    Scheme,
    checked,
)
from edgec.errors import DeviceError
from edgec.targets import detect
from edgec.targets.descriptor import Target

SCHEMES: dict[str, Scheme] = {
    "local": local.SCHEME,
    "emulator": emulator.SCHEME,
    "serial": serial.SCHEME,
    "ssh": ssh.SCHEME,
    "adb": adb.SCHEME,
}
"""What is before the first colon of a device's name -> the kind of device."""

__all__ = [
    "SCHEMES",
    "TIMEOUT_SECONDS",
    "CountingDevice",
    "Device",
    "Execution",
    "Scheme",
    "checked",
    "connect",
    "forms",
]


def forms() -> str:
    """Return how devices' names are spelt."""
    return ", ".join(scheme.form for scheme in SCHEMES.values())


def connect(name: str | None, target: Target, timeout_seconds: float = TIMEOUT_SECONDS) -> Device:
    """Return the device called `name`; with None this machine where it can run the bundle, else the emulator.

    No program may run longer there than `timeout_seconds`. Raises DeviceError where there is no such device,
    or it can't run bundles for `target`.
    """
    if name is None:
        name = "local" if target.arch == detect.host_arch() or target.emulator is None else "emulator"
    word, colon, address = name.partition(":")
    scheme = SCHEMES.get(word)
    if scheme is None or (colon and scheme.form == word):
        raise DeviceError(f"no device '{name}': choose one of {forms()}")
    return scheme.connect(address, target, timeout_seconds)
