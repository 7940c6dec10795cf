"""The command line. What a command needs is imported inside it, so that each starts as fast as it can."""

import math
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from edgec.errors import BundleError, LimitError, ModelError, TuningError, UsageError, reported

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich's takes 0.1 s to import
    context_settings={"help_option_names": ["-h", "--help"]},
)

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that 'edgec build' made.")]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="local, emulator or serial:/dev/ttyACM0; by default local if it runs here.",
    ),
]
LevelName = Annotated[
    str | None,
    typer.Option("--level", metavar="NAME", help="Run on this instruction-set level of the bundle."),
]
Timeout = Annotated[
    str,
    typer.Option(metavar="TIME", help="How long the device's program may take for one run: 90s, 1h, ..."),
]
_TIMEOUT = "10m"
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")]


_LONGEST = 1000 * 3600
"""Seconds of tuning, or of a run: six weeks, for whoever means it."""
_ELEMENTS = 2**31 - 1
"""Kernels count them in 32 bits."""
_DIGITS = len(str(_ELEMENTS))

_ClickException: Any = typer.BadParameter.mro()[2]
"""Base of what Typer raises for a wrong command line: click's, or that of the copy that newer ones have."""


def main() -> NoReturn:
    """Run the command line.

    Exit code 2 for a user's mistake, 1 for a mismatch or a bug, 3 for outputs far from the original's, 130
    for Ctrl-C.
    """
    arguments = sys.argv[1:]
    code = 0 if arguments else 2
    with reported():
        try:
            command = typer.main.get_command(app)
            with command.make_context("edgec", arguments or ["--help"]) as context:
                command.invoke(context)
        except typer.Exit as end:
            code = code or end.exit_code
        except _ClickException as error:
            within = error.ctx.command_path if getattr(error, "ctx", None) else "edgec"
            raise UsageError(f"{error.format_message().rstrip('.')}; see '{within} --help'") from error
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    try:
        print(f"edgec {metadata.version('edgec')}")
    except metadata.PackageNotFoundError:
        print("edgec, run from a checkout that isn't installed")
    raise typer.Exit


@app.callback()
def edgec(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compile trained ONNX models into exact int8 C libraries for edge devices."""


@app.command()
def build(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float or QDQ model.")],
    target: Annotated[str, typer.Option(help="DEVICE-int8 or DEVICE-fp32; 'edgec targets' lists devices.")],
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DATA.npz", help="Samples by input name, to choose int8 scales from."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Bundle to write; by default NAME-TARGET.edgec here.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=1x3x224x224", help="Fix the shape of an input; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; by default that of its file.")] = None,
    optimize: Annotated[
        Literal["speed", "ram", "flash"],
        typer.Option(help="What goes first where faster code takes more memory."),
    ] = "speed",
    reduce_range: Annotated[
        bool,
        typer.Option("--reduce-range", help="Smaller weights, larger steps: faster on AVX2 without VNNI."),
    ] = False,
    max_ram: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Fail if arena, stack and context take more: 64K, 1M, ..."),
    ] = None,
    max_flash: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Fail if code and weights take more.")
    ] = None,
    io: Annotated[
        str | None,
        typer.Option(metavar="int8,arena", help="Inputs and outputs in int8, in the arena, or both."),
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the model after every stage there.")
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(metavar="BUDGET", help="Search for faster kernels, on this machine: 60s, 5m, ..."),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Choose kernels by these records alone: a bundle's tuning.jsonl."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile a model into a bundle.

    A bundle is a folder with a library, a header, a manifest and golden vectors.
    """
    from edgec import output as show
    from edgec.targets import loader

    described = loader.load(target)  # a wrong name fails at once, not after the compiler's import
    budget = None if tune is None else _parse_seconds(tune)
    limits = {"--max-ram": max_ram, "--max-flash": max_flash}
    ram, flash = (None if text is None else _parse_bytes(option, text) for option, text in limits.items())
    int8_io, arena_io = _parse_io(io or "")
    device = None
    if budget is not None:
        from edgec.bench import devices

        device = devices.connect(None, described)
    out = show.console(as_json)
    with show.stages(out) as progress:
        progress("start", "")  # the spinner is there while the compiler is being imported
        from edgec.bench import tuning
        from edgec.bench.report import tables
        from edgec.compiler import pipeline
        from edgec.compiler.optimize import Optimize
        from edgec.compiler.records.records import read
        from edgec.compiler.tune.tune import Tuning

        found: list[Tuning] = []
        tuner = None
        if device is not None and budget is not None:
            bar = partial(progress.bar, budget)
            tuner = tuning.tuner(device, budget, bar, found.append)
        bundle = pipeline.build(
            model,
            target=target,
            calibration=calibration,
            output=output,
            shapes=dict(map(_parse_shape, shape or [])),
            name=name,
            optimize=Optimize(optimize),
            reduce_range=reduce_range,
            max_ram=ram,
            max_flash=flash,
            with_int8_io=int8_io,
            arena_io=arena_io,
            dump=dump,
            records=None if records is None else read(records),
            tune=tuner,
            progress=progress,
        )
    for result in found:
        tables.print_tuning(out, result)
    show.print_build(out, str(bundle.path), bundle.manifest, bundle.digest)
    if as_json:
        data = {"bundle": str(bundle.path), "sha256": bundle.digest, "manifest": bundle.manifest}
        show.print_json(data | ({"tuning": tuning.to_json(found[0])} if found else {}))


@app.command()
def tune(
    bundle: BundlePath,
    budget: Annotated[str, typer.Option(metavar="BUDGET", help="60s, 5m, ...")] = "60s",
    device: DeviceName = None,
    level: LevelName = None,
    timeout: Timeout = _TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Search for faster kernels for a bundle, on a device, and build it anew with them in its place.

    Of several instruction-set levels the best that the device has is tuned, or the one named. The results
    stay the same, bit for bit.
    """
    from edgec import output as show
    from edgec.bench.bundle import Bundle

    seconds = _parse_seconds(budget)
    opened = Bundle.load(bundle)
    chosen = opened if level is None else opened.at(level)
    connected = chosen.device(device, _parse_seconds(timeout, "--timeout"))
    out = show.console(as_json)
    with show.stages(out) as progress:
        progress("start", "")
        from edgec.bench import tuning
        from edgec.bench.measure.levels import running
        from edgec.bench.report import tables
        from edgec.compiler import pipeline
        from edgec.compiler.tune.tune import Tuning

        found: list[Tuning] = []
        level = level and running(chosen, connected)
        tuner = tuning.tuner(connected, seconds, partial(progress.bar, seconds), found.append, level)
        rebuilt = pipeline.retune(opened, tuner, progress)
    tables.print_tuning(out, found[0])
    show.print_build(out, str(rebuilt.path), rebuilt.manifest, rebuilt.digest)
    if as_json:
        data = {"bundle": str(rebuilt.path), "sha256": rebuilt.digest, "manifest": rebuilt.manifest}
        show.print_json(data | {"tuning": tuning.to_json(found[0])})


@app.command()
def run(
    bundle: BundlePath,
    input: Annotated[Path, typer.Option(metavar="IN.npz", help="Inputs by name: one sample each, or S.")],
    output: Annotated[Path, typer.Option(metavar="OUT.npz", help="Outputs by name.")],
    device: DeviceName = None,
    timeout: Timeout = _TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Run a bundle's model on samples."""
    from edgec import files
    from edgec import output as show
    from edgec.bench.bundle import Bundle
    from edgec.bench.run import read_arrays, run
    from edgec.compiler import npz

    files.check_writable(output)
    opened = Bundle.load(bundle)
    connected = opened.device(device, _parse_seconds(timeout, "--timeout"))
    results = run(opened, connected, read_arrays(input))
    files.write(output, npz.encode(results))
    shapes = {name: list(array.shape) for name, array in results.items()}
    for name, result in shapes.items():
        show.line(show.console(as_json), name, f"{'x'.join(map(str, result))} {results[name].dtype}")
    if as_json:
        report = {"device": connected.name, "cpu": connected.cpu, "output": str(output), "outputs": shapes}
        show.print_json(report)


@app.command()
def verify(
    bundle: BundlePath,
    device: DeviceName = None,
    level: LevelName = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="IN.npz", help="Samples to compare on; by default the bundle's golden inputs."),
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option(
            metavar="DB", help="How near outputs must come to the original's: 10 (int8) or 60 (fp32); 0: any."
        ),
    ] = None,
    timeout: Timeout = _TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Compare a bundle with its references, layer by layer, and with the original model.

    Integer layers bit for bit, float ones within a tolerance; exit code 1 where a layer differs, 3 where an
    output is too far from the original's. Without --level, on every instruction-set level of the bundle that
    the device has.
    """
    from edgec import output as show
    from edgec.bench.bundle import Bundle
    from edgec.bench.measure.levels import executable
    from edgec.bench.report import tables
    from edgec.bench.run import read_arrays
    from edgec.bench.verify import to_json, verify

    opened = Bundle.load(bundle)
    seconds = _parse_seconds(timeout, "--timeout")
    runs, lacking = executable(opened if level is None else opened.at(level), device, seconds)
    arrays = None if data is None else read_arrays(data)
    out = show.console(as_json)
    found = []
    for one, connected in runs:
        with out.status("") as status:
            told = partial(_tell_sample, status.update, one.level)
            found.append(verify(one, connected, arrays, told, min_sqnr))
        tables.print_verification(out, found[-1])
    for name, reason in lacking.items():
        show.line(out, "not run", f"level {name}: {reason}")
    show.line(out, "root", f"sha256 {opened.digest}")
    if as_json:
        show.print_json(to_json(found, lacking) | {"sha256": opened.digest})
    if not all(one.passed for one in found):
        raise typer.Exit(1)
    if any(one.warnings for one in found):
        raise typer.Exit(3)


@app.command()
def bench(
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="Folder that 'edgec build' made; --peak needs none."),
    ] = None,
    device: DeviceName = None,
    level: LevelName = None,
    threads: Annotated[
        int, typer.Option(min=1, max=10**6, metavar="N", help="Threads of the model's own pool.")
    ] = 1,
    runs: Annotated[
        int, typer.Option(min=1, max=10**9, metavar="N", help="Timed runs, after warm-up.")
    ] = 100,
    cycles: Annotated[
        bool, typer.Option("--cycles", help="Model an emulated CPU's cycles too, by llvm-mca.")
    ] = False,
    peak: Annotated[
        bool,
        typer.Option("--peak", help="Measure what this machine can do at most, and compare layers with it."),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw layers under that peak: a roofline.")
    ] = None,
    timeout: Timeout = _TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Measure a bundle on a device.

    Time and memory; on an emulator executed instructions, exact and by class.
    """
    from dataclasses import asdict

    from edgec import output as show
    from edgec.bench.bundle import Bundle
    from edgec.bench.measure.benchmark import benchmark
    from edgec.bench.measure.measurement import to_json
    from edgec.bench.measure.peak import measure_peak
    from edgec.bench.report import tables
    from edgec.bench.report.plot import check, draw
    from edgec.targets import loader

    out = show.console(as_json)
    if bundle is None:
        if not peak:
            raise BundleError("name a bundle to measure, or say --peak to measure this machine")
        with out.status("peak ..."):
            machine = measure_peak(loader.load("host-int8"))
        tables.print_peak(out, machine)
        if as_json:
            show.print_json(asdict(machine))
        return
    if plot is not None:
        check(plot)
    opened = Bundle.load(bundle)
    opened = opened if level is None else opened.at(level)
    with out.status("bench ..."):
        wanted = peak or plot is not None
        connected = opened.device(device, _parse_seconds(timeout, "--timeout"))
        found = benchmark(opened, connected, threads, runs, cycles, wanted)
    tables.print_measurement(out, found)
    if plot is not None:
        draw(found, plot)
    if as_json:
        show.print_json(to_json(found))


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="A device, a target, or a path to a TOML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices edgec knows, or describe one."""
    from edgec import output as show
    from edgec.targets import loader

    out = show.console(as_json=False)
    if name is None:
        known, problems = loader.listed("int8")
        if as_json:
            show.print_json({"targets": [show.describe(target) for target in known]})
        else:
            show.print_targets(out, known, problems)
        return
    device = re.sub(rf"-({'|'.join(loader.PRECISIONS)})$", "", name)
    target = loader.describe(device, "int8")
    if as_json:
        show.print_json(show.describe(target))
    else:
        show.print_target(out, target)


def _parse_seconds(text: str, what: str = "budget") -> float:
    """Read `60s`, `5m` or `1h`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", text, re.ASCII)
    if not found or not float(found[1]):
        raise TuningError(f"{what} '{text}': write a time above zero as 60s, 5m or 1h")
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
    if seconds > _LONGEST:
        raise TuningError(f"{what} '{text}': {_LONGEST // 3600}h at most")
    return seconds


def _parse_io(text: str) -> tuple[bool | None, bool]:
    """Read `int8`, `float`, `arena`, and any of these with commas between: is it int8, is it in the arena."""
    words = set(text.split(",")) - {""}
    if words - {"int8", "float", "arena"} or {"int8", "float"} <= words:
        raise ModelError(f"--io {text}: write int8 or float, and arena, with commas between")
    return {"int8": True, "float": False}.get(next(iter(words - {"arena"}), "")), "arena" in words


def _parse_bytes(option: str, text: str) -> int:
    """Read `65536`, `64K` or `1M`."""
    found = re.fullmatch(r"(\d{1,15})([KM]?)", text, re.ASCII)
    if not found or not int(found[1]):
        raise LimitError(f"{option} {text}: write a number of bytes as 65536, 64K or 1M")
    return int(found[1]) * {"": 1, "K": 1024, "M": 1024 * 1024}[found[2]]


def _tell_sample(update: Callable[[Any], None], level: str | None, done: int, total: int) -> None:
    from edgec.output import plain

    update(plain(f"verify level {level}: sample {done} of {total}"))


def _parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read `NAME=1x3x224x224`; the name itself may hold an equals sign."""
    name, _, shape = text.rpartition("=")
    if not name or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape, re.ASCII):
        raise ModelError(f"--shape {text}: write the input's name and shape as NAME=1x3x224x224")
    extents = shape.split("x")
    if any(len(extent) > _DIGITS for extent in extents) or math.prod(map(int, extents)) > _ELEMENTS:
        raise ModelError(f"--shape {text}: an input has {_ELEMENTS} elements at most")
    return name, tuple(map(int, extents))
