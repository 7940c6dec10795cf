"""Checking a bundle on a device, sample by sample.

Every layer is compared bit for bit with the reference, float convolutions and islands within a tolerance, and
the outputs with what the original model computes in ONNX Runtime.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgec.arrays import Array, Arrays
from edgec.bench.comparison import Mismatch, close, errors, exact, largest
from edgec.bench.devices import Device, checked
from edgec.bench.measure.levels import running
from edgec.bench.run import Described, count, pack, packed_bytes, read_arrays, real, stack, unpack
from edgec.bench.said import count as count_of
from edgec.bench.said import one_of, said, text
from edgec.compiler.accuracy import Accuracy, SamplesKind, measure
from edgec.compiler.emit.bundle import Bundle
from edgec.compiler.emit.manifest import Output
from edgec.errors import BundleError
from edgec.kernels import reference
from edgec.kernels.operations import INEXACT, Network
from edgec.targets.descriptor import Requantization

Tensors = dict[str, Array]
"""By name."""

_FILES = _INPUT, _OUTPUT, _TRACE = "input.bin", "output.bin", "trace.bin"
_BATCH_SECONDS = 5.0
"""What the samples of one process may take, by those before: whoever waits sees them counted."""
_LEAST_BATCHES = 10
"""That go into the time that --timeout gives to one run of a program: it is meant for a sample or few."""
_BATCH_BYTES = 32 << 20
"""What the steps of the samples of one process may write; a board keeps its files in memory or on a card."""


@dataclass(frozen=True)
class IslandError:
    """How far a float island is from ONNX Runtime, or a float convolution from float64, over all samples."""

    name: str
    max_absolute_error: float
    max_relative_error: float
    """The largest error as a share of the tensor's largest magnitude."""


@dataclass(frozen=True)
class Verification:
    """What was compared, and how it came out."""

    bundle: str
    device: str
    cpu: str
    level: str
    """The instruction-set level that ran."""
    samples: int
    exact_layers: int
    """Layers compared bit for bit."""
    islands: tuple[IslandError, ...]
    selftest: str
    """`ok`, or what the bundle's own self-test says."""
    mismatch: Mismatch | None
    """The first layer, in execution order, that differs."""
    accuracy: Accuracy
    """The outputs beside the original's, on these samples."""
    built: Accuracy | None
    """What the build found on its own samples; None where the user has samples of his own."""
    warnings: tuple[str, ...]
    """Which outputs are further from the original than they may be."""

    @property
    def passed(self) -> bool:
        """Whether every comparison that must hold does; accuracy is a matter of `warnings`."""
        return self.mismatch is None and self.selftest == "ok"


def verify(
    bundle: Bundle,
    device: Device,
    data: Arrays | None = None,
    on_sample: Callable[[int, int], None] | None = None,
    min_sqnr: float | None = None,
) -> Verification:
    """Compare `bundle` on `device` with its references, on `data` or else on the golden inputs.

    An output has to reach `min_sqnr` dB of signal to noise; None: what its precision has to, 0: anything.
    Without `data` what the build found, on more samples, has to as well: this shows that it holds here.
    The level is the bundle's own, or the best that the device has. `on_sample` is called with the number of
    samples done and their total. Raises BundleError where a file was changed, DataError where `data` don't
    fit, DeviceError where the device fails.
    """
    bundle.check()
    level = running(bundle, device)
    samples = stack(bundle, read_arrays(bundle.file("golden/inputs.npz")) if data is None else data)
    network = _network(bundle)
    form = bundle.manifest.target.requantization
    outputs: list[Tensors] = []
    islands: dict[str, IslandError] = {}
    mismatch: Mismatch | None = None
    for sample, traced, produced in _runs(bundle, device, samples):
        inputs = _sample(samples, sample)
        outputs.append(produced)
        expected, close_to = _evaluate(network, inputs, traced, form)
        within = {tensor: array for tensors in close_to.values() for tensor, array in tensors.items()}
        mismatch = mismatch or _first_mismatch(bundle, sample, (traced, produced), expected, within)
        for name, tensors in close_to.items():
            error = _island_error(name, traced, tensors)
            islands[name] = _worst(islands.get(name, error), error)
        if on_sample:
            on_sample(sample + 1, count(samples))
    built = bundle.manifest.accuracy.figures if data is None else None
    accuracy = _accuracy(bundle, "given" if built is None else built.on, samples, outputs)
    precision = bundle.manifest.target.precision
    compared = [one for one in (accuracy, built) if one is not None]
    warnings = dict.fromkeys(warning for one in compared for warning in one.warnings(precision, min_sqnr))
    return Verification(
        bundle=bundle.name,
        device=device.name,
        cpu=device.cpu,
        level=level,
        samples=count(samples),
        exact_layers=sum(step.checked for step in bundle.steps),
        islands=tuple(islands.values()),
        selftest=_selftest(bundle, device),
        mismatch=mismatch,
        accuracy=accuracy,
        built=built,
        warnings=tuple(warnings),
    )


def to_json(verifications: Sequence[Verification], lacking: Mapping[str, str]) -> dict[str, Any]:
    """Return what was found on each level as plain data, and why other levels weren't run."""
    levels = [asdict(one) | {"passed": one.passed} for one in verifications]
    passed = all(one.passed for one in verifications)
    accurate = not any(one.warnings for one in verifications)
    return {"passed": passed, "accurate": accurate, "levels": levels, "not_run": dict(lacking)}


def _network(bundle: Bundle) -> Network:
    """Return what model.onnx says; raises BundleError where the manifest says that tensors are others."""
    from edgec.compiler.pipeline import network_of  # onnx_ir, which a benchmark does without

    network = network_of(bundle.file("model.onnx"), bundle.manifest.int8_io)
    ends = [*bundle.inputs, *bundle.outputs]
    if unknown := [tensor.name for tensor in ends if tensor.name not in network.tensors]:
        raise BundleError(f"{bundle.path}: '{unknown[0]}' is no tensor of model.onnx: build the bundle again")
    tensors: Described = [*ends, *(tensor for step in bundle.steps for tensor in step.outputs)]
    for tensor in tensors:
        known = network.tensors.get(tensor.name)
        if known is not None and (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
            given = f"{tensor.dtype} {list(tensor.shape)} in the manifest"
            expected = f"{known.dtype} {list(known.shape)} in model.onnx"
            raise BundleError(f"{bundle.path}: '{tensor.name}' is {given} and {expected}: build it again")
    return network


def _runs(bundle: Bundle, device: Device, samples: Tensors) -> Iterator[tuple[int, Tensors, Tensors]]:
    """Run all samples, several in a process; yields for each every step's outputs, and the model's."""
    seconds = min(_BATCH_SECONDS, device.timeout_seconds / _LEAST_BATCHES)
    first, size = 0, 1
    while first < count(samples):
        batch = {name: array[first : first + size] for name, array in samples.items()}
        started = time.monotonic()
        traced, produced = _run(bundle, device, batch)
        taken = (time.monotonic() - started) / size
        for index in range(count(batch)):
            yield first + index, _sample(traced, index), _sample(produced, index)
        first += size
        size = max(1, min(_BATCH_BYTES // packed_bytes(_traced(bundle), 1), int(seconds / taken)))


def _sample(tensors: Tensors, index: int) -> Tensors:
    return {name: array[index] for name, array in tensors.items()}


def _traced(bundle: Bundle) -> list[Output]:
    return [tensor for step in bundle.steps for tensor in step.outputs]


def _run(bundle: Bundle, device: Device, samples: Tensors) -> tuple[Tensors, Tensors]:
    """Run samples in one process; returns every step's outputs, and the model's, as [S, *shape] each."""
    files = [word for file in _FILES for word in (f"--{file.removesuffix('.bin')}", file)]
    arguments = [*bundle.options, *files]
    tensors: dict[str, Described] = {_OUTPUT: bundle.outputs, _TRACE: _traced(bundle)}
    sizes = {file: packed_bytes(of_file, count(samples)) for file, of_file in tensors.items()}
    content = pack(bundle.inputs, samples)
    done = checked(device.execute(bundle.bench, arguments, files={_INPUT: content}, collect=sizes))
    produced, traced = (unpack(of_file, done, file, count(samples)) for file, of_file in tensors.items())
    return traced, produced


def _evaluate(
    network: Network, inputs: Tensors, traced: Tensors, requantization: Requantization
) -> tuple[Tensors, dict[str, Tensors]]:
    """Return what every tensor must be, bit for bit, and what each island's outputs must be close to.

    The device's own island outputs take the reference's place, so that the layers behind an island are
    compared bit for bit again, and the island itself on the very inputs it had on the device.
    """
    islands = [operator for operator in network.operators if isinstance(operator.operation, INEXACT)]
    overrides = {name: traced[name] for operator in islands for name in operator.outputs}
    expected = reference.evaluate(network, inputs, overrides, requantization)
    close_to: dict[str, Tensors] = {}
    for operator in islands:
        results = reference.compute(operator.operation, [expected[name] for name in operator.inputs])
        shaped = (y.reshape(expected[name].shape) for name, y in zip(operator.outputs, results, strict=True))
        close_to[operator.name] = dict(zip(operator.outputs, shaped, strict=True))
    return expected, close_to


def _first_mismatch(
    bundle: Bundle, sample: int, device: tuple[Tensors, Tensors], expected: Tensors, close_to: Tensors
) -> Mismatch | None:
    """Return the first step's output, in execution order, that isn't what it must be."""
    traced, produced = device
    for step in bundle.steps:
        for name in (tensor.name for tensor in step.outputs):
            if name in close_to:
                found = close(step.name, name, sample, traced[name], close_to[name])
            elif name in expected:
                found = exact(step.name, name, sample, traced[name], expected[name])
            elif step.checked:
                raise BundleError(f"{bundle.path}: '{step.name}' writes '{name}', unknown to model.onnx")
            else:
                continue  # inside an island
            if found:
                return found
    checks = (exact("output", name, sample, output, expected[name]) for name, output in produced.items())
    return next((found for found in checks if found), None)


def _island_error(name: str, traced: Tensors, close_to: Tensors) -> IslandError:
    absolute = {name: float(errors(traced[name], array).max(initial=0.0)) for name, array in close_to.items()}
    relative = [error / (largest(close_to[name]) or 1.0) for name, error in absolute.items()]
    return IslandError(name, max(absolute.values()), max(relative))


def _worst(a: IslandError, b: IslandError) -> IslandError:
    return IslandError(
        a.name,
        max(a.max_absolute_error, b.max_absolute_error),
        max(a.max_relative_error, b.max_relative_error),
    )


def _selftest(bundle: Bundle, device: Device) -> str:
    """Return `ok`, or the self-test's finding in words."""
    done = device.execute(bundle.bench, [*bundle.options, "--selftest"])
    if done.returncode == 0:
        said(done, selftest=one_of("ok"))
        return "ok"
    if done.returncode != 1:
        checked(done)
    found = said(done, selftest=one_of("differs", "overrun"), layer=text, threads=count_of)
    return f"{found['selftest']} at layer '{found['layer']}' on {found['threads']} thread(s)"


def _accuracy(bundle: Bundle, on: SamplesKind, samples: Arrays, outputs: list[Tensors]) -> Accuracy:
    """Compare all outputs with those of the model as it was given."""
    fed = {tensor.name: real(bundle, tensor, samples[tensor.name]) for tensor in bundle.inputs}
    feeds = [{name: array[sample] for name, array in fed.items()} for sample in range(count(samples))]
    runs = [
        {tensor.name: real(bundle, tensor, output[tensor.name]) for tensor in bundle.outputs}
        for output in outputs
    ]
    return measure(bundle.file("original.onnx").read_bytes(), on, feeds, runs)
