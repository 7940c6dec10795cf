"""Measuring a bundle on a device: times where there is a clock, executed instructions on an emulator."""

from dataclasses import replace

from edgec.bench.devices import CountingDevice, Device, checked
from edgec.bench.devices.local import Local
from edgec.bench.devices.machine import Conditions, during, warnings
from edgec.bench.measure.cycles import model_cycles, model_of
from edgec.bench.measure.instructions import total
from edgec.bench.measure.levels import running
from edgec.bench.measure.measurement import Layer, LevelMemory, Measurement, Memory, latency
from edgec.bench.measure.peak import measure_peak
from edgec.bench.said import count, counts, said
from edgec.compiler.emit.bundle import Bundle
from edgec.compiler.emit.manifest import LevelStep
from edgec.errors import BundleError, DeviceError

RUNS = 100
WARMUP_RUNS = 10
"""Enough for caches, branch predictors and the frequency governor to settle."""


def benchmark(
    bundle: Bundle,
    device: Device,
    threads: int = 1,
    runs: int = RUNS,
    cycles: bool = False,
    peak: bool = False,
) -> Measurement:
    """Return what one inference of `bundle` costs on `device`; raises DeviceError.

    With `cycles` those of an emulated CPU are modelled too; with `peak` this machine's peak is measured.
    """
    level = running(bundle, device)
    if isinstance(device, CountingDevice):
        if peak:
            raise DeviceError(f"'{device.name}' has no clock: a peak is measured on this machine alone")
        return _count(bundle, level, device, threads, cycles)
    if peak and not isinstance(device, Local):
        raise DeviceError(f"'{device.name}' is another machine: a peak is measured on this machine alone")
    if cycles:
        raise DeviceError(f"'{device.name}' has a clock: --cycles is for devices that are emulated")
    if not bundle.described(level).platform.loads_programs:
        return _cycles(bundle, level, device)
    found = _time(bundle, level, device, threads, runs)
    return replace(found, peak=measure_peak(bundle.described(level))) if peak else found


def _time(bundle: Bundle, level: str, device: Device, threads: int, runs: int) -> Measurement:
    options = {"--threads": threads, "--runs": runs, "--warmup": WARMUP_RUNS}
    arguments = [str(word) for option in options.items() for word in option]
    before = device.conditions
    done = checked(device.execute(bundle.bench, [*bundle.options, *arguments, "--layers"]))
    after = device.conditions
    steps = bundle.at(level).steps
    answer = said(done, latency_ns=counts(runs, least=1), layers_ns=counts(len(steps)), peak_rss_bytes=count)
    layers = tuple(
        Layer(step.name, step.kernel, step.macs, step.moved_bytes, ms=nanoseconds / 1e6)
        for step, nanoseconds in zip(steps, answer["layers_ns"], strict=True)
    )
    return Measurement(
        bundle=bundle.name,
        device=device.name,
        cpu=device.cpu,
        level=level,
        threads=threads,
        runs=runs,
        layers=layers,
        memory=_memory(bundle, threads, answer["peak_rss_bytes"]),
        conditions=_conditions(bundle, during(before, after)) | {"warmup_runs": WARMUP_RUNS},
        warnings=warnings(before, after),
        latency_ms=latency(answer["latency_ns"]),
    )


def _cycles(bundle: Bundle, level: str, device: Device) -> Measurement:
    """Return what a microcontroller's own counter says."""
    done = checked(device.execute(bundle.bench, [*bundle.options, "--cycles"]))
    steps = bundle.at(level).steps
    answer = said(done, cycles=count, layers_cycles=counts(len(steps)))
    if not answer["cycles"]:
        raise DeviceError(f"the cycle counter of '{device.name}' stands still: it has none, or is emulated")
    layers = tuple(
        Layer(step.name, step.kernel, step.macs, step.moved_bytes, cycles=cycles)
        for step, cycles in zip(steps, answer["layers_cycles"], strict=True)
    )
    return Measurement(
        bundle=bundle.name,
        device=device.name,
        cpu=device.cpu,
        level=level,
        threads=1,
        runs=1,
        layers=layers,
        memory=replace(_memory(bundle, 1, None), stack_bytes=_stack(bundle, device)),
        conditions=_conditions(bundle, device.conditions),
        cycles=answer["cycles"],
    )


def _count(bundle: Bundle, level: str, device: CountingDevice, threads: int, cycles: bool) -> Measurement:
    if threads != 1:
        raise DeviceError(f"'{device.name}' counts the instructions of one thread: leave --threads at 1")
    target = bundle.described(level)
    regions = device.count(bundle.bench, [*bundle.options, "--markers"])
    modelled = model_cycles(regions, target) if cycles else [None] * len(regions)
    layers = tuple(
        Layer(
            step.name,
            step.kernel,
            step.macs,
            step.moved_bytes,
            instructions=region.instructions,
            mac_instructions=region.mac_instructions,
            modelled_cycles=taken,
        )
        for step, region, taken in zip(_steps(bundle, level, len(regions)), regions, modelled, strict=True)
    )
    everything = total(regions)
    stack = _stack(bundle, device) if target.platform.memory_is_scarce else None
    return Measurement(
        bundle=bundle.name,
        device=device.name,
        cpu=device.cpu,
        level=level,
        threads=threads,
        runs=1,  # a second run executes the same instructions
        layers=layers,
        memory=replace(_memory(bundle, threads, None), stack_bytes=stack),
        conditions=_conditions(bundle, device.conditions),
        instructions=everything.instructions,
        mac_instructions=everything.mac_instructions,
        instruction_classes=everything.counts,
        cycle_model=model_of(target) if cycles else None,
    )


def _stack(bundle: Bundle, device: Device) -> int:
    """Return what one inference takes of a microcontroller's stack, by paint."""
    done = checked(device.execute(bundle.bench, ["--markers"]))
    return int(said(done, stack_bytes=count)["stack_bytes"])


def _steps(bundle: Bundle, level: str, measured: int) -> tuple[LevelStep, ...]:
    steps = bundle.at(level).steps
    if len(steps) != measured:
        lists = f"the manifest has {len(steps)} steps and the bench program {measured}"
        raise BundleError(f"{bundle.path}: {lists}: build the bundle again")
    return steps


def _memory(bundle: Bundle, threads: int, peak_rss_bytes: int | None) -> Memory:
    memory = bundle.memory
    return Memory(
        arena_bytes=memory.arena_bytes + (threads - 1) * memory.thread_scratch_bytes,
        weights_bytes=memory.weights_bytes,
        code_bytes=memory.code_bytes,
        peak_rss_bytes=peak_rss_bytes,
        levels={
            name: LevelMemory(level.weights_bytes, level.code_bytes) for name, level in bundle.levels.items()
        },
    )


def _conditions(bundle: Bundle, device: Conditions) -> dict[str, str | float]:
    return {"edgec": bundle.manifest.versions.edgec, "target": bundle.target, **device}
