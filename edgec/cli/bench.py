"""`edgec bench`."""

from pathlib import Path
from typing import Annotated

import typer

from edgec import spelling
from edgec.cli.arguments import TIMEOUT, AsJson, DeviceName, LevelName, Timeout
from edgec.errors import BundleError


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
    timeout: Timeout = TIMEOUT,
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
        connected = opened.device(device, spelling.seconds("--timeout", timeout))
        found = benchmark(opened, connected, threads, runs, cycles, wanted)
    tables.print_measurement(out, found)
    if plot is not None:
        draw(found, plot)
    if as_json:
        show.print_json(to_json(found))
