"""The command `python -m edgec.bench.peers`."""

import os
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from edgec import output as show
from edgec.bench.peers.comparison import Settings, compare
from edgec.bench.peers.engines import PEERS
from edgec.bench.peers.processes import ISA_LIMITS
from edgec.bench.peers.report import print_results, to_json
from edgec.errors import DeviceError, TargetError, reported
from edgec.targets import detect, loader
from edgec.targets.architectures import INT8

REPORT_WIDTH = 180
"""Columns, where stdout is no terminal."""


def main(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL.onnx...", help="Float models.")],
    target: Annotated[str, typer.Option(help="DEVICE-int8 or DEVICE-fp32 that runs here.")] = "host-int8",
    threads: Annotated[int, typer.Option(min=1, help="Threads of every engine.")] = 1,
    turns: Annotated[int, typer.Option(min=1, help="Turns of every engine.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.001, help="Length of a turn.")] = 0.3,
    repeat: Annotated[int, typer.Option(min=1, help="Measure R times; quote the median run.")] = 1,
    isa: Annotated[
        str | None, typer.Option(help="avx2: hide later instruction sets where peers can.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(metavar="NAME", help="Level of edgec's bundle; by default the CPU's best.")
    ] = None,
    reduce_range: Annotated[
        bool, typer.Option("--reduce-range", help="Build edgec's bundle with it.")
    ] = False,
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="Count CPU time: for a busy machine, with one thread.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA.npz", help="Samples to calibrate all engines with and compare outputs on."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare latency and outputs with ONNX Runtime's, OpenVINO's and LiteRT's.

    Each engine quantizes the same float model and runs it, in turns. LiteRT takes MODEL_int8.tflite and
    MODEL_fp32.tflite beside MODEL.onnx, where there are any.
    """
    if isa is not None and isa not in ISA_LIMITS:
        raise TargetError(f"--isa {isa}: choose {' or '.join(ISA_LIMITS)}, or leave it out")
    if cpu_time and threads > 1:
        raise DeviceError("--cpu-time sums the time of all threads: leave --threads at 1")
    levels = [described.device for described in loader.load(target).levels]  # a wrong name fails at once
    if level is not None and level not in levels:
        raise TargetError(f"--level {level}: bundles for {target} have {', '.join(levels)}")
    if isa is not None and level is None and len(levels) > 1:
        raise TargetError(f"--isa {isa} binds peers alone: name edgec's --level too, of {', '.join(levels)}")
    settings = Settings(target, threads, turns, seconds, repeat, isa, cpu_time, data, level, reduce_range)
    out = show.console(as_json, REPORT_WIDTH)
    before = os.getloadavg()[0]
    with out.status("") as status:
        results = [compare(model, settings, lambda text: status.update(show.plain(text))) for model in models]
    conditions = _conditions(settings, before)
    print_results(out, results, settings, conditions)
    if as_json:
        show.print_json(to_json(results, settings, conditions))


def _conditions(settings: Settings, load_before: float) -> dict[str, Any]:
    here = loader.describe("host", "int8")
    features = [feature for feature in INT8 if feature in here.features]
    packages = dict.fromkeys(package for engine in PEERS if engine.installed for package in (engine.package,))
    limited = ", ".join(engine.name for engine in PEERS if engine.isa_variables)
    limit = {"instruction_sets": f"up to {settings.isa} in {limited}; all in others"} if settings.isa else {}
    return {
        "CPU": detect.cpu_name(),
        "cores": here.cores,
        "with": " ".join(features) or "no int8 extension",
        **limit,
        "load_average": f"{load_before:.2f} before and {os.getloadavg()[0]:.2f} after",
        **{package: metadata.version(package) for package in packages},
        "edgec": _edgec_version(),
    }


def _edgec_version() -> str:
    try:
        return metadata.version("edgec")
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    with reported():
        typer.run(main)
