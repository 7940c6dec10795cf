"""The whole journey, from a model's file to a bundle: each step is a file of its own name."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from edgec.arrays import Array, Arrays
from edgec.compiler import names, npz
from edgec.compiler.accuracy import Accuracy, SamplesKind, measure
from edgec.compiler.compress.calibration import Calibration, load_calibration, synthetic
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.dumps import Dumps
from edgec.compiler.emit import bundle, contract, driver
from edgec.compiler.emit.entries import Source, source_of
from edgec.compiler.emit.expectations import expectations, to_tolerance
from edgec.compiler.emit.golden import Golden
from edgec.compiler.emit.manifest import IslandNode
from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.check import check
from edgec.compiler.lower.graph.floating import floating
from edgec.compiler.lower.graph.integer import integer
from edgec.compiler.lower.network.compact_weights import compact_weights
from edgec.compiler.lower.network.fuse_chains import fuse_chains
from edgec.compiler.lower.network.fuse_residuals import fuse_residuals
from edgec.compiler.lower.network.int8_io import as_real, int8_io, quantized_as
from edgec.compiler.lower.network.levels import common, levels, most_needed
from edgec.compiler.lower.network.place_concats import place_concats
from edgec.compiler.lower.network.plan import plan
from edgec.compiler.lower.network.share_multipliers import share_multipliers
from edgec.compiler.model import Model, is_qdq, serialize
from edgec.compiler.native.objects import compile_objects
from edgec.compiler.program import Program
from edgec.compiler.provenance import Provenance
from edgec.compiler.records.records import Records, encode, known, of_network, read
from edgec.compiler.tune.tune import Tuning
from edgec.errors import BundleError, LimitError, ModelError, UnsupportedError
from edgec.kernels import reference
from edgec.kernels.operations import Chain, Island, Network
from edgec.kernels.reference import precise
from edgec.options import BuildOptions, Optimize, Progress
from edgec.spelling import kib
from edgec.targets import loader
from edgec.targets.descriptor import Target

MOST_COMPARED = 32
"""Samples that a build is compared with the original on: figures are stable by then."""
_WORK, _WORK_PER_BYTE = 6e8, 8
"""Multiply-accumulates of the reference, in numpy, that a build has time for besides the golden run and one
more sample: a second, some tenth of what it takes. A byte moved takes as long as that many of them."""

Tuner = Callable[[Network, Target, Arrays, Records], Tuning]
"""Tunes a network for a target, computing on one input, from what records say already."""


@dataclass(frozen=True, eq=False)
class _Lowered:
    """A model that is ready to be compiled: what a build makes, and what a bundle still knows."""

    name: str
    network: Network
    target: Target
    options: BuildOptions
    """With whether inputs and outputs are int8."""
    samples: Sequence[Arrays]
    """Inputs as the network takes them: of the golden run, then more to compare with the original."""
    origin: Source
    feeds: Sequence[Arrays] = ()
    """The samples as the original takes them; none where `origin` knows the accuracy already."""
    sampled: SamplesKind = "synthetic"
    """What they are."""


def build(path: str | Path, options: BuildOptions, tune: Tuner | None = None) -> bundle.Bundle:
    """Compile the ONNX model at `path` as `options` say and return its bundle.

    A float model on an int8 target is quantized after training, on the calibration samples or else on seeded
    synthetic inputs. Inputs and outputs are int8 where the model has float if the options say so, or nothing
    while the target's core has no FPU. Kernels are those that `tune` finds fastest, in place of a search in
    `options.tune` seconds, which only who measures can make, or that records (by default all there are) say
    are. Raises an EdgecError that names what to mend; then nothing is written.
    """
    report = options.progress or _untold
    path, described = Path(path), _limited(loader.load(options.target), options)
    name = path.stem if options.name is None else options.name
    names.check(name)
    folder = Path(f"{name}-{described.name}.edgec" if options.output is None else options.output)
    bundle.check_output(folder)
    dumps = Dumps(Path(options.dump) if options.dump is not None else None)
    records = known() if options.records is None else read(Path(options.records))

    report("import", "")
    source = load(path, options.shapes, dumps.passes("frontend"))
    dumps.model("imported", source)
    if described.precision == "fp32" and is_qdq(source):
        raise ModelError(f"{path.name} is quantized: build it for '{described.device}-int8'")
    if options.reduce_range and (described.precision == "fp32" or is_qdq(source)):
        why = "it is quantized already" if is_qdq(source) else f"{described.name} doesn't quantize"
        raise ModelError(f"{path.name}: --reduce-range rounds weights, and {why}: leave it away")
    data = _samples(options.calibration, source)
    with _naming(path):
        check(source, described)
    half = ", float16 as float32" if source.widened else ""
    report("import", f"{source.source_nodes} nodes, opset {source.opset}{half}")

    model = source
    if described.precision == "int8":
        report("quantize", "")
        # Kernels for microcontrollers keep a multiplier of all channels once; others would gain nothing.
        per_tensor = options.optimize == "flash" and described.platform.memory_is_scarce
        if not is_qdq(source):
            model = quantize(
                source,
                data,
                reduce_range=options.reduce_range,
                dense_per_tensor=per_tensor,
                watch=dumps.passes("compress"),
            )
        dumps.model("quantized", model)
        report("quantize", _quantized(model, source, options.reduce_range, per_tensor))

    report("lower", "")
    with _naming(path):
        options = replace(options, int8_io=_int8_io(options, described))
        if options.arena_io and not described.platform.memory_is_scarce:
            raise UnsupportedError(
                f"--io arena is for firmware, and {described.device} is none: leave it away"
            )
        network = to_network(model, bool(options.int8_io), described)
        feeds = data.compared(MOST_COMPARED)
        samples = [
            {name: quantized_as(network.tensors[name], array) for name, array in feed.items()}
            for feed in feeds
        ]
        origin = _origin(source, model, network)
        sampled = data.kind(calibrates=model is not source)
        lowered = _Lowered(name, network, described, options, samples, origin, feeds, sampled)
        return _compile(lowered, records, tune, folder, dumps, report)


def retune(built: bundle.Bundle, tune: Tuner, progress: Progress | None = None) -> bundle.Bundle:
    """Put `built` in its own place again with the kernels that `tune` finds fastest; all else stays.

    Raises an EdgecError where a file of it is missing or was changed, or it can't be written.
    """
    bundle.check_output(built.path)
    built.check()
    options = built.manifest.options
    network = network_of(built.file("model.onnx"), bool(options.int8_io))
    samples = [npz.read(built.file("golden/inputs.npz"), BundleError)]
    origin = source_of(built.manifest, built.path)
    lowered = _Lowered(built.name, network, built.manifest.target, options, samples, origin)
    report = progress or _untold
    report("lower", "")
    return _compile(lowered, known(), tune, built.path, Dumps(None), report)


def _compile(
    lowered: _Lowered, records: Records, tune: Tuner | None, folder: Path, dumps: Dumps, report: Progress
) -> bundle.Bundle:
    """Choose kernels, plan, compile and write: from the network to the bundle."""
    target = lowered.target
    optimize, arena_io = lowered.options.optimize, lowered.options.arena_io
    network = arranged(lowered.network, target, records, optimize, arena_io)
    dumps.network(network)
    programs = levels(network, target, records)
    report("lower", _summary(network, programs))

    if tune is not None:
        report("tune", "")
        tuning = tune(network, target, lowered.samples[0], records)
        records = records + tuning.records
        programs = levels(network, target, records)
        report("tune", _tuned(tuning))

    report("plan", "")
    programs = tuple(replace(program, arena_io=arena_io) for program in programs)
    planned = plan(common(programs))
    contract.check_arena(common(programs), planned, optimize)
    dumps.programs(programs, planned)
    report("plan", _planned(planned.arena_bytes, planned.lower_bound_bytes, programs))

    report("compile", "")
    cached: list[bool] = []

    def compiled(symbol: str, from_cache: bool) -> None:
        del symbol
        cached.append(from_cache)
        report("compile", f"{len(cached)} of {sum(len(p.functions) for p in programs)} objects")

    objects = [compile_objects(program, compiled) for program in programs]
    report("compile", f"{len(cached)} objects ({sum(cached)} from the cache)")

    report("compare", "")
    values = _evaluated(network, programs[-1], lowered.samples[0])
    golden = _golden(network, programs[-1], lowered.samples[0], values)
    origin = lowered.origin
    if lowered.feeds:
        origin = replace(origin, accuracy=_accuracy(lowered, network, programs[-1], values))
    assert origin.accuracy is not None, "a bundle that is tuned again knows it"
    report("compare", origin.accuracy.summary)

    report("emit", "")
    used = Records.of(
        record for level in target.levels for record in of_network(records, network, level).entries.values()
    )
    written = bundle.write(
        lowered.name, programs, planned, objects, golden, origin, lowered.options, folder,
        encode(used),
    )  # fmt: skip
    report("emit", "libraries, header, manifest, golden vectors")
    return written


def arranged(
    network: Network,
    target: Target,
    records: Records,
    optimize: Optimize = "speed",
    arena_io: bool = False,
) -> Network:
    """Return a network that computes the same in less memory or time on `target`."""
    if optimize == "flash":
        network = compact_weights(network)
    if target.platform.memory_is_scarce:
        network = share_multipliers(network, target)
    network = fuse_chains(network, target, records, optimize, arena_io)
    if not target.platform.memory_is_scarce:
        return place_concats(network)
    # More kernels work in place there, if their results lie densely.
    return place_concats(network, lambda tried: most_needed(tried, target, records, arena_io))


def _untold(stage: str, detail: str) -> None:
    """Tell nobody what a build does."""


def _limited(target: Target, options: BuildOptions) -> Target:
    return replace(
        target,
        ram_bytes=target.ram_bytes if options.max_ram is None else options.max_ram,
        flash_bytes=target.flash_bytes if options.max_flash is None else options.max_flash,
    )


def _int8_io(options: BuildOptions, target: Target) -> bool:
    """Whether inputs and outputs are int8 where the model has float; raises UnsupportedError."""
    needed = target.requantization == "fixed-point"
    if needed and options.int8_io is False:
        raise UnsupportedError(f"{target.device} has no floating-point unit: leave --io float away")
    return needed if options.int8_io is None else options.int8_io


def network_of(path: Path, with_int8_io: bool = False) -> Network:
    """Return the network that a bundle's model.onnx was lowered to, with float ends or int8 ones."""
    return to_network(load(path), with_int8_io)


def to_network(model: Model, with_int8_io: bool = False, target: Target | None = None) -> Network:
    """Return the network that a model computes, as it is quantized; with float ends or int8 ones."""
    network = fuse_residuals(integer(model) if is_qdq(model) else floating(model))
    core = target.device if target is not None and target.requantization == "fixed-point" else ""
    return int8_io(network, core) if with_int8_io else network


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the model's file in front of what it holds that can't be compiled."""
    try:
        yield
    except (UnsupportedError, LimitError) as error:
        raise type(error)(f"{path.name}: {error}") from error


def _samples(given: str | Path | Arrays | None, model: Model) -> Calibration:
    if given is None:
        return synthetic(model)
    return load_calibration(Path(given) if isinstance(given, str) else given, model)


def _accuracy(lowered: _Lowered, network: Network, program: Program, first: Arrays) -> Accuracy:
    """Compare what the reference computes with the original, on as many samples as cost a build little.

    `first` is every tensor of the first sample.
    """
    work = sum(call.macs + _WORK_PER_BYTE * program.moved_bytes(call) for call in program.calls)
    count = min(len(lowered.samples), 2 + int(_WORK // max(work, 1)))
    runs = chain([first], (_evaluated(network, program, sample) for sample in lowered.samples[1:count]))
    computed = [
        {t.title or t.name: as_real(network.tensors[t.name], run[t.name]) for t in program.outputs}
        for run in runs
    ]
    return measure(lowered.origin.original, lowered.sampled, lowered.feeds[:count], computed)


def _golden(network: Network, program: Program, inputs: Arrays, values: Arrays) -> Golden:
    """Return one inference of the reference, on `inputs`; `values` is every tensor of it."""
    checksums, near = expectations(network, program, values)
    outputs = {
        tensor.title or tensor.name: to_tolerance(values[tensor.name])
        if tensor.name in near
        else values[tensor.name]
        for tensor in program.outputs
    }
    return Golden(dict(inputs), outputs, checksums, near)


def _evaluated(network: Network, program: Program, inputs: Arrays) -> dict[str, Array]:
    """Return every tensor of one inference: the same on every machine that builds."""
    form = program.target.requantization
    return reference.evaluate(network, inputs, requantization=form, onnx_says=precise.evaluate)


def _origin(source: Model, model: Model, network: Network) -> Source:
    """Return what the manifest says of the model."""
    kind = Provenance("qdq" if is_qdq(source) else "none")
    provenance = (model.calibration if model is not source else None) or kind
    return Source(
        file=source.source_name,
        sha256=source.source_sha256,
        nodes=source.source_nodes,
        operators=len(network.operators),
        calibration=provenance,
        compiled=serialize(model),
        original=source.original,
        islands=tuple(IslandNode(*node) for node in network.floats),
    )


def _quantized(model: Model, source: Model, reduce_range: bool, dense_per_tensor: bool) -> str:
    if model is source:
        return "as the model has it"
    provenance = model.calibration
    assert provenance is not None, "quantize() sets it"
    kind = "synthetic " if provenance.kind == "synthetic" else ""
    weights = ", dense layers per tensor" if dense_per_tensor else ""
    weights += ", reduced range" if reduce_range else ""
    held = f", {provenance.held_back} held back" if provenance.held_back else ""
    return f"int8 per channel{weights}, {provenance.samples} {kind}samples{held}"


def _summary(network: Network, programs: Sequence[Program]) -> str:
    islands = sum(isinstance(operator.operation, Island) for operator in network.operators)
    macs = sum(call.macs for call in programs[-1].calls)
    kernels = sum(operator.computes for operator in network.operators) - islands
    chains = [o.operation for o in network.operators if isinstance(o.operation, Chain)]
    layers = f" for {kernels + sum(len(chain.stages) - 1 for chain in chains)} layers" if chains else ""
    floats = sum(not call.checked for call in programs[-1].calls)
    millions = f"{macs / 1e6:.3g}" if macs < 100e6 else f"{macs / 1e6:.0f}"
    on = f" on {len(programs)} levels" if len(programs) > 1 else ""
    return f"{kernels} kernels{layers}{on}, {millions} MMAC" + (f", {floats} float steps" if floats else "")


def _tuned(tuning: Tuning) -> str:
    if not tuning.layers:
        return "nothing left to try" if tuning.known else "no layer has a choice"
    gain = 1 - tuning.cost / tuning.first_cost
    gained = f"{gain:.1%} less" if gain > 0 else "nothing gained"
    unit = "time" if tuning.unit == "ns" else tuning.unit
    return f"{gained} {unit}; {tuning.tried} kernels measured in {tuning.seconds:.0f} s"


def _planned(arena: int, bound: int, programs: Sequence[Program]) -> str:
    weights = len(driver.weights(programs).data)
    return f"arena {kib(arena)} (lower bound {kib(bound)}), weights {kib(weights)}"
