"""What was measured, with the conditions it was measured under; `to_json` has the keys that stay stable."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgec.bench.measure.peak import Peak


@dataclass(frozen=True)
class Latency:
    """Time of one inference, in milliseconds, over all timed runs."""

    min: float
    median: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Layer:
    """One step of the network."""

    name: str
    kernel: str
    macs: int
    """Multiply-accumulates of one inference."""
    moved_bytes: int
    """Inputs, weights and outputs, each counted once."""
    ms: float | None = None
    """The shortest over all runs; None on an emulator."""
    instructions: int | None = None
    """Executed; None on a device with a clock."""
    mac_instructions: int | None = None
    """Those of `instructions` that multiply and accumulate."""
    modelled_cycles: float | None = None
    """By a scheduling model of the CPU, where asked for; no measurement."""
    cycles: int | None = None
    """By the core's own counter; None on all but microcontrollers."""

    @property
    def gmacs(self) -> float:
        """10**9 multiply-accumulates per second; 0 where there is no time."""
        return self.macs / self.ms / 1e6 if self.ms else 0.0

    @property
    def intensity(self) -> float:
        """Multiply-accumulates per byte moved."""
        return self.macs / max(self.moved_bytes, 1)


@dataclass(frozen=True)
class LevelMemory:
    """What one instruction-set level reads and executes, in bytes; levels may have some of it in common."""

    weights_bytes: int
    code_bytes: int
    """Kernels only."""


@dataclass(frozen=True)
class Memory:
    """What a bundle needs, in bytes."""

    arena_bytes: int
    """For the threads measured."""
    weights_bytes: int
    code_bytes: int
    """Code for all levels; the weights are those of all levels too."""
    peak_rss_bytes: int | None
    """The most memory that the bench program's process held; None on an emulator, whose own memory that would
    be."""
    levels: Mapping[str, LevelMemory]
    """Best first."""
    stack_bytes: int | None = None
    """Stack that one inference was measured to take; None under an operating system."""


@dataclass(frozen=True)
class Measurement:
    """One benchmark: times on a device with a clock, instructions on an emulator, never both."""

    bundle: str
    device: str
    cpu: str
    level: str
    """The instruction-set level that ran."""
    threads: int
    runs: int
    layers: tuple[Layer, ...]
    memory: Memory
    conditions: Mapping[str, str | float]
    latency_ms: Latency | None = None
    cycles: int | None = None
    """Cycles of one inference, by the core's own counter."""
    instructions: int | None = None
    mac_instructions: int | None = None
    instruction_classes: Mapping[str, int] | None = None
    cycle_model: str | None = None
    """The CPU whose scheduling model the modelled cycles are of."""
    peak: Peak | None = None
    """What the machine can do at most, where that was measured."""
    warnings: tuple[str, ...] = ()
    """What disturbed the device meanwhile: another load, a clock that was slowed."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    def share_of_peak(self, layer: Layer) -> float | None:
        """Return the layer's rate by the peak of its instruction set on all threads; None where unknown.

        It may exceed 1: Winograd's algorithm multiplies less than `macs` says.
        """
        name = self.peak.set_of(layer.kernel) if self.peak else None
        if self.peak is None or name is None or not layer.macs:
            return None
        return layer.gmacs / (self.peak.gmacs[name] * self.threads)

    @property
    def modelled_cycles(self) -> float | None:
        """Cycles that llvm-mca models for one inference; None where they weren't asked for."""
        return None if self.cycle_model is None else sum(layer.modelled_cycles or 0 for layer in self.layers)


def latency(nanoseconds: Sequence[int]) -> Latency:
    """Return the figures of several runs; percentiles are interpolated between neighbours."""
    low, median, p90, p99 = np.percentile(nanoseconds, [0, 50, 90, 99]) / 1e6
    return Latency(float(low), float(median), float(p90), float(p99))


def to_json(measurement: Measurement) -> dict[str, Any]:
    """Return `measurement` as plain data; what doesn't apply to its device is left out.

    `memory.peak_rss_bytes` alone is there in any case, as null on an emulator.
    """
    data = _without_none(asdict(measurement) | {"modelled_cycles": measurement.modelled_cycles})
    if measurement.memory.stack_bytes is None:
        del data["memory"]["stack_bytes"]
    data["layers"] = [_without_none(layer) for layer in data["layers"]]
    return data


def _without_none(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}
