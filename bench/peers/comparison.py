"""edgec and its peers on one model: built, quantized, timed in turns, and their outputs compared."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec import api
from edgec.arrays import Array
from edgec.bench.bundle import Bundle
from edgec.bench.devices import checked
from edgec.bench.measure.levels import running
from edgec.bench.peers.engines import PEERS, Engine, Sample
from edgec.bench.peers.processes import quantize, start
from edgec.bench.peers.turns import Contender, Timing, take_turns
from edgec.bench.peers.worker import write_samples
from edgec.bench.said import counts, said
from edgec.compiler.accuracy import compare as compare_outputs
from edgec.compiler.compress.calibration import load_calibration, synthetic
from edgec.compiler.frontend.load import load
from edgec.errors import DeviceError, ModelError
from edgec.targets import loader
from edgec.targets.descriptor import Precision

EDGEC = "edgec"
SYNTHETIC_SAMPLES = 24
COMPARED_SHARE, MOST_COMPARED = 1 / 3, 64
"""Samples that outputs are compared on, as a share and at most: the last ones, which calibrate nothing."""


@dataclass(frozen=True)
class Settings:
    """How a comparison is made."""

    target: str
    threads: int = 1
    turns: int = 7
    turn_seconds: float = 0.3
    repeat: int = 1
    isa: str | None = None
    """A key of ISA_LIMITS; None for all that the CPU has."""
    cpu_time: bool = False
    """Count the processor's time, which other programs hardly lengthen, instead of the time that passes."""
    data: Path | None = None
    """Samples by input name, as for `edgec build --calibration`; None for noise."""
    level: str | None = None
    """Instruction-set level of edgec's bundle; None for the best that the CPU has."""
    reduce_range: bool = False
    """Quantize edgec's model as `edgec build --reduce-range`."""

    @property
    def precision(self) -> Precision:
        """The target's: int8 or fp32."""
        return loader.load(self.target).precision


@dataclass(frozen=True)
class Outputs:
    """What an engine computed, over all compared samples."""

    exact: bool | None
    """Whether they are the integer reference's, bit for bit; None for an engine with another model."""
    differing: float | None
    """Share of the elements that differ from it."""
    sqnr_db: float | None
    """Against ONNX Runtime's float model; None for that model itself, or without any noise."""
    top1_agreement: float | None
    """With the same; None for an output that is no vector."""


@dataclass(frozen=True)
class Result:
    """One model on every engine, edgec first."""

    model: str
    macs: int
    runs: tuple[Mapping[str, Timing], ...]
    """One per repetition: engine -> its times."""
    outputs: Mapping[str, Outputs]
    peers: tuple[str, ...]
    """The engines that count for the ratio: those of edgec's precision."""
    notes: tuple[str, ...]
    """Engines that are missing, and why."""

    def ratio(self, run: int) -> float:
        """Return the best peer's time by edgec's."""
        times = self.runs[run]
        return times[self.best_peer(run)].best / times[EDGEC].best

    def best_peer(self, run: int) -> str:
        """Return the peer that was fastest."""
        return min(self.peers, key=lambda name: self.runs[run][name].best)


def compare(path: Path, settings: Settings, progress: Callable[[str], None]) -> Result:
    """Build `path` for the target and measure it beside every peer that can run it; raises EdgecError."""
    with tempfile.TemporaryDirectory(prefix="edgec-peers-") as name, ExitStack() as workers:
        folder = Path(name)
        calibrating, compared = _samples(path, settings.data)
        progress(f"{path.stem}: edgec build")
        bundle = api.build(
            path,
            target=settings.target,
            calibration=_stack(calibrating),
            output=folder / "model.edgec",
            reduce_range=settings.reduce_range,
        )
        if settings.level is not None:
            bundle = bundle.at(settings.level)
        if settings.precision == "int8" and bundle.manifest.model.calibration.kind == "qdq":
            raise ModelError(f"{path}: quantized already: give the float model, which each engine quantizes")
        files = {
            "calibrating": write_samples(folder / "calibrating.npz", calibrating),
            "compared": write_samples(folder / "compared.npz", compared),
        }
        contenders: dict[str, Contender] = {EDGEC: _edgec(bundle, settings)}
        computed: dict[str, list[Array]] = {EDGEC: list(bundle.run_samples(_stack(compared)).values())}
        notes = [f"edgec ran on level {running(bundle, bundle.device('local'))}"]
        for engine in PEERS:
            source = _source(engine, path, bundle)
            if not source.is_file() or (engine.precision == "int8" and settings.precision == "fp32"):
                continue
            if not engine.installed:
                notes.append(f"{engine.name} isn't installed: pip install 'edgec[peers]'")
                continue
            progress(f"{path.stem}: {engine.name}")
            outputs = folder / f"{engine.name}.npz"
            try:
                if engine.quantize is not None:
                    source = quantize(engine, source, files["calibrating"], folder)
                contenders[engine.name] = workers.enter_context(
                    start(
                        engine,
                        source,
                        files["compared"],
                        outputs,
                        settings.threads,
                        settings.isa,
                        settings.cpu_time,
                    )
                )
            except DeviceError as error:
                notes.append(f"{engine.name} can't run {path.stem}: {error}")
                continue
            with np.load(outputs) as stacked:
                computed[engine.name] = [stacked[key] for key in stacked]
        exact = settings.precision == "int8" and _selftest(bundle)
        runs = []
        for index in range(settings.repeat):
            progress(f"{path.stem}: run {index + 1} of {settings.repeat}, {len(contenders)} engines in turns")
            runs.append(take_turns(contenders, settings.turns, settings.turn_seconds))
    names = {engine.name for engine in PEERS if engine.precision == settings.precision}
    return Result(
        model=path.stem,
        macs=sum(step.macs for step in bundle.steps),
        runs=tuple(runs),
        outputs=_compare(computed, exact, settings.precision),
        peers=tuple(name for name in contenders if name in names),
        notes=tuple(notes),
    )


def _samples(path: Path, data: Path | None) -> tuple[list[Sample], list[Sample]]:
    """Return the samples that calibrate, and those on which outputs are compared."""
    model = load(path)
    found = load_calibration(data, model) if data else synthetic(model, samples=SYNTHETIC_SAMPLES)
    compared = min(max(round(COMPARED_SHARE * len(found)), 1), MOST_COMPARED)
    samples = [found.feed(index) for index in range(len(found))]
    return samples[:-compared] or samples, samples[-compared:]


def _stack(samples: Sequence[Sample]) -> dict[str, Array]:
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _source(engine: Engine, path: Path, bundle: Bundle) -> Path:
    """Return the file an engine starts from, which need not be there."""
    files = {"given": path, "float": bundle.path / "original.onnx", "qdq": bundle.path / "model.onnx"}
    return files.get(engine.model, path.with_name(f"{path.stem}_{engine.model}"))


def _edgec(bundle: Bundle, settings: Settings) -> Contender:
    """Return the bundle's own bench program."""
    device, times = bundle.device("local"), "cpu_ns" if settings.cpu_time else "latency_ns"

    def run(warmup: int, runs: int) -> Sequence[int]:
        numbers = ["--threads", str(settings.threads), "--runs", str(runs), "--warmup", str(warmup)]
        done = checked(device.execute(bundle.bench, [*bundle.options, *numbers]))
        taken: list[int] = said(done, **{times: counts(runs)})[times]
        return taken

    return run


def _selftest(bundle: Bundle) -> bool:
    """Whether every integer layer of the golden run is the reference's, bit for bit."""
    return bundle.device("local").execute(bundle.bench, [*bundle.options, "--selftest"]).returncode == 0


def _compare(computed: Mapping[str, list[Array]], exact: bool, precision: Precision) -> dict[str, Outputs]:
    """Compare every engine's outputs; those of ORT s8s8, which runs edgec's model, with edgec's as well."""
    reference = computed.get("ORT float")
    integers = computed[EDGEC]
    found = {}
    for name, outputs in computed.items():
        same = None
        if precision == "int8" and name in (EDGEC, "ORT s8s8"):
            same = np.concatenate([(a == b).reshape(-1) for a, b in zip(outputs, integers, strict=True)])
        noise, agreement = None, None
        if reference is not None and name != "ORT float" and outputs[0].size == reference[0].size:
            first, *_ = compare_outputs("", reference[0], outputs[0].reshape(reference[0].shape))
            noise, agreement = first.sqnr_db, first.top1_agreement
        found[name] = Outputs(
            exact=None if same is None else bool(exact and same.all()),
            differing=None if same is None else float(1 - same.mean()),
            sqnr_db=noise,
            top1_agreement=agreement,
        )
    return found
