"""The command line: one file per command, which imports what it needs when it runs, to start fast."""

import sys
from typing import Annotated, Any, NoReturn

import typer

from edgec.cli import bench, build, run, targets, tune, verify
from edgec.cli.arguments import Command
from edgec.errors import UsageError, reported

COMMANDS = (build.build, tune.tune, run.run, verify.verify, bench.bench, targets.targets)
"""In the order of `edgec --help`."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich's takes 0.1 s to import
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command(cls=Command)(command)

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
