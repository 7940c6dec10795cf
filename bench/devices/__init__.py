"""Devices that bundles run on. A new kind is one file here and one line in the table."""

from collections.abc import Callable

from edgec.bench.devices import emulator, local, serial
from edgec.bench.devices.device import TIMEOUT_SECONDS, CountingDevice, Device, Execution, checked
from edgec.errors import DeviceError
from edgec.targets import detect
from edgec.targets.descriptor import Target

DEVICES: dict[str, Callable[[Target, float], Device]] = {
    "local": local.connect,
    "emulator": emulator.connect,
}
"""Name -> function that returns the device, ready to run bundles for a target, or raises DeviceError; the
number is how many seconds a run may take."""

SERIAL = "serial:"
"""Before the path of a serial line, in the name of the board at its other end."""

__all__ = ["DEVICES", "TIMEOUT_SECONDS", "CountingDevice", "Device", "Execution", "checked", "connect"]


def connect(name: str | None, target: Target, timeout_seconds: float = TIMEOUT_SECONDS) -> Device:
    """Return the device called `name`; with None this machine where it can run the bundle, else the emulator.

    `serial:/dev/ttyACM0` is a microcontroller that was flashed with the bundle's bench image. No program may
    run longer there than `timeout_seconds`.

    Raises DeviceError where there is no such device, or it can't run bundles for `target`.
    """
    if name is not None and name.startswith(SERIAL):
        return serial.connect(name.removeprefix(SERIAL), target, timeout_seconds)
    if name is None:
        name = "local" if target.arch == detect.host_arch() or target.emulator is None else "emulator"
    if name not in DEVICES:
        raise DeviceError(f"no device '{name}': choose one of {', '.join(DEVICES)}, {SERIAL}PATH")
    return DEVICES[name](target, timeout_seconds)
