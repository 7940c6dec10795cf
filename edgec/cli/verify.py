"""`edgec verify`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from edgec import spelling
from edgec.cli.arguments import TIMEOUT, AsJson, BundlePath, DeviceName, LevelName, Timeout


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
    timeout: Timeout = TIMEOUT,
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
    seconds = spelling.seconds("--timeout", timeout)
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


def _tell_sample(update: Callable[[Any], None], level: str | None, done: int, total: int) -> None:
    from edgec.output import plain

    update(plain(f"verify level {level}: sample {done} of {total}"))
