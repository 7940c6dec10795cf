"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

DEVICES = "{devices}"
"""Stands in a help text for how devices' names are spelt (`Command`)."""


class Command(TyperCommand):
    """A command whose help reads the table of devices, which takes too long to import for anything else."""

    def get_help(self, ctx: Any) -> str:  # the context of click's, or of Typer's own copy
        """Return the text of `--help`."""
        from edgec.bench.devices import forms

        for option in self.params:
            text = getattr(option, "help", None) or ""
            if DEVICES in text:
                vars(option)["help"] = text.replace(DEVICES, forms())
        return super().get_help(ctx)


BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that 'edgec build' made.")]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help=f"{DEVICES}; by default local if it runs here.",
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
