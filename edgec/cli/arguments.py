"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that 'edgec build' made.")]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="local, emulator, ssh://HOST or serial:PATH; by default local if it runs here.",
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
TIMEOUT = "10m"
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")]
