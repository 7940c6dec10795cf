"""Which of a bundle's instruction-set levels run on a device."""

from edgec.bench.bundle import Bundle
from edgec.bench.devices import TIMEOUT_SECONDS, Device, checked
from edgec.bench.said import missing_of, said
from edgec.compiler.emit import bundle as emit
from edgec.errors import DeviceError, printable


def missing_features(bundle: emit.Bundle, device: Device) -> dict[str, str | None]:
    """Return, per level and best first, the first feature that `device` lacks of it; None: it runs there."""
    done = checked(device.execute(bundle.bench, ["--levels"]))
    answer = said(done, levels=missing_of(bundle.levels))
    return {level["name"]: level["missing"] for level in answer["levels"]}


def running(bundle: emit.Bundle, device: Device) -> str:
    """Return the level that `bundle` runs on: its own, or the best that `device` has.

    Raises DeviceError where the device lacks a feature of it.
    """
    lacking = missing_features(bundle, device)
    *_, last = lacking
    chosen = bundle.level or next((level for level, missing in lacking.items() if not missing), last)
    if lacking[chosen]:
        raise DeviceError(
            f"'{device.name}' lacks '{printable(str(lacking[chosen]))}', which level '{chosen}' needs"
        )
    return chosen


def executable(
    bundle: Bundle, device: str | None, timeout_seconds: float = TIMEOUT_SECONDS
) -> tuple[list[tuple[Bundle, Device]], dict[str, str]]:
    """Return `bundle` at every level that `device` has, with the device, and why it doesn't run the others.

    An emulator has a CPU for each level. A bundle that is bound to a level has no other. Raises DeviceError
    where no level runs.
    """
    found: list[tuple[Bundle, Device]] = []
    lacking: dict[str, str] = {}
    for level in bundle.levels if bundle.level is None else (bundle.level,):
        one = bundle.at(level)
        try:
            connected = one.device(device, timeout_seconds)
            running(one, connected)
        except DeviceError as error:
            lacking[level] = str(error)
        else:
            found.append((one, connected))
    if not found:
        raise DeviceError(lacking[level])
    return found, lacking
