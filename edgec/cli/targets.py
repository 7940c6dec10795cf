"""`edgec targets`."""

import re
from typing import Annotated

import typer

from edgec.cli.arguments import AsJson


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
