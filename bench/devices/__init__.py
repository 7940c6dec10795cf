"""Devices that bundles run on. A new kind is one file here and one line in the table."""

from collections.abc import Callable

from edgec.bench.devices import emulator, local, serial
from edgec.bench.devices.device import CountingDevice, Device, Execution, checked
from edgec.errors import DeviceError
from edgec.targets import detect
from edgec.targets.descriptor import Target

DEVICES: dict[str, Callable[[Target], Device]] = {
    "local": local.connect,
    "emulator": emulator.connect,
}
"""Name -> function that returns the device, ready to run bundles for a target, or raises DeviceError."""

SERIAL = "serial:"
"""Before the path of a serial line, in the name of the board at its other end."""

__all__ = ["DEVICES", "CountingDevice", "Device", "Execution", "checked", "connect"]


def connect(name: str | None, target: Target) -> Device:
    """Return the device called `name`; with None this machine where it can run the bundle, else the emulator.

    `serial:/dev/ttyACM0` is a microcontroller that was flashed with the bundle's bench image.

    Raises DeviceError where there is no such device, or it can't run bundles for `target`.
    """
    if name is not None and name.startswith(SERIAL):
        return serial.connect(name.removeprefix(SERIAL), target)
    if name is None:
        name = "local" if target.arch == detect.host_arch() or target.emulator is None else "emulator"
    if name not in DEVICES:
        raise DeviceError(f"no device '{name}': choose one of {', '.join(DEVICES)}, {SERIAL}PATH")
    return DEVICES[name](target)
