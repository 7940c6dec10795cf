"""`edgec tune`."""

from functools import partial
from typing import Annotated

import typer

from edgec import spelling
from edgec.cli.arguments import TIMEOUT, AsJson, BundlePath, DeviceName, LevelName, Timeout


def tune(
    bundle: BundlePath,
    budget: Annotated[str, typer.Option(metavar="BUDGET", help="60s, 5m, ...")] = "60s",
    device: DeviceName = None,
    level: LevelName = None,
    timeout: Timeout = TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Search for faster kernels for a bundle, on a device, and build it anew with them in its place.

    Of several instruction-set levels the best that the device has is tuned, or the one named. The results
    stay the same, bit for bit.
    """
    from edgec import output as show
    from edgec.bench.bundle import Bundle

    seconds = spelling.budget("--budget", budget)
    opened = Bundle.load(bundle)
    chosen = opened if level is None else opened.at(level)
    connected = chosen.device(device, spelling.seconds("--timeout", timeout))
    out = show.console(as_json)
    with show.stages(out) as progress:
        progress("start", "")
        from edgec.bench import tuning
        from edgec.bench.devices import machine
        from edgec.bench.measure.levels import running
        from edgec.bench.report import tables
        from edgec.compiler import pipeline
        from edgec.compiler.emit.manifest import to_data
        from edgec.compiler.tune.tune import Tuning

        found: list[Tuning] = []
        before = connected.conditions
        level = level and running(chosen, connected)
        tuner = tuning.tuner(connected, seconds, partial(progress.bar, seconds), found.append, level)
        rebuilt = pipeline.retune(opened, tuner, progress)
        after = connected.conditions
    conditions, warnings = machine.during(before, after), machine.warnings(before, after)
    tables.print_tuning(out, found[0])
    tables.print_conditions(out, conditions, warnings)
    show.print_build(out, str(rebuilt.path), rebuilt.manifest, rebuilt.digest)
    if as_json:
        data = {"bundle": str(rebuilt.path), "sha256": rebuilt.digest, "manifest": to_data(rebuilt.manifest)}
        measured = tuning.to_json(found[0]) | {"conditions": conditions, "warnings": warnings}
        show.print_json(data | {"tuning": measured})
