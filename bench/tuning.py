"""Tuning on a device: how the tuner measures there."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.arrays import Arrays
from edgec.bench.devices import CountingDevice, Device, checked
from edgec.bench.measure import cycles
from edgec.bench.measure.instructions import Block
from edgec.compiler.pipeline import Tuner
from edgec.compiler.records import records
from edgec.compiler.records.records import Records
from edgec.compiler.tune import tune
from edgec.compiler.tune.probe import Meter
from edgec.compiler.tune.tune import Tuning
from edgec.errors import DeviceError, TuningError
from edgec.kernels.operations import Network
from edgec.targets.descriptor import Target

_SCHEDULE = "schedule"


def tuner(
    device: Device,
    budget: float,
    progress: Callable[[float, str], None] = lambda _seconds, _text: None,
    found: Callable[[Tuning], None] = lambda _tuning: None,
    level: str | None = None,
) -> Tuner:
    """Return what tunes a network on `device` in `budget` seconds, and keeps what it finds for later builds.

    Of several instruction-set levels, `level` is tuned, or the best that the device has. `progress` is told
    the seconds gone and what is being done, `found` the result.
    """

    def run(network: Network, target: Target, inputs: Arrays, known: Records) -> Tuning:
        if not target.platform.loads_programs:
            raise TuningError(
                f"{target.device} runs no tuner's probe yet: its kernels are chosen by their models"
            )
        records.check_kept()
        tuned = _level(target, device, level)
        tuning = tune.tune(
            network, tuned, inputs, meter(device, tuned), budget, known, records.keep, progress
        )
        found(tuning)
        return tuning

    return run


def _level(target: Target, device: Device, name: str | None) -> Target:
    """Return the level named, or else the best that `device` has; an emulator's CPU is that of the last."""
    if name is not None:
        return next(level for level in target.levels if level.device == name)
    has = device.features
    if has is None:
        return target.levels[-1]
    return next((level for level in target.levels if level.features <= has), target.levels[-1])


def to_json(tuning: Tuning) -> dict[str, Any]:
    """Return `tuning` as plain data."""
    return {key: value for key, value in asdict(tuning).items() if key != "records"}


def meter(device: Device, target: Target) -> Meter:
    """Return how to measure on `device`: nanoseconds, or on an emulator modelled cycles.

    Where llvm-mca, which models them, isn't installed, executed instructions.
    """

    def words(mode: str, program: Path, schedule: bytes) -> list[str]:
        """One for each byte of the schedule: a step's time, or the hash of what it computed."""
        done = checked(device.execute(program, [mode, _SCHEDULE], {_SCHEDULE: schedule}))
        found = done.stdout.split()
        if len(found) != len(schedule) or not all(word.isdecimal() and len(word) <= 20 for word in found):
            raise DeviceError(f"'{done.device}': the tuner's probe says no {len(schedule)} numbers")
        return found

    def sums(program: Path, schedule: bytes) -> Sequence[str]:
        return words("sums", program, schedule)

    def times(program: Path, schedule: bytes) -> Sequence[float]:
        return list(map(float, words("times", program, schedule)))

    if not isinstance(device, CountingDevice):
        return Meter(device.cpu, "ns", exact=False, costs=times, sums=sums)
    counting, modelled = device, cycles.installed()
    known: dict[Block, float] = {}

    def counts(program: Path, schedule: bytes) -> Sequence[float]:
        regions = counting.count(program, ["marks", _SCHEDULE], {_SCHEDULE: schedule})
        if len(regions) != len(schedule):
            raise DeviceError(f"'{device.name}': {len(regions)} steps were counted, not {len(schedule)}")
        if modelled:
            return cycles.model_cycles(regions, target, known)
        return [float(region.instructions) for region in regions]

    unit = "modelled cycles" if modelled else "instructions"
    return Meter(device.cpu, unit, exact=True, costs=counts, sums=sums)
