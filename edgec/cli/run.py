"""`edgec run`."""

from pathlib import Path
from typing import Annotated

import typer

from edgec import spelling
from edgec.cli.arguments import TIMEOUT, AsJson, BundlePath, DeviceName, Timeout


def run(
    bundle: BundlePath,
    input: Annotated[Path, typer.Option(metavar="IN.npz", help="Inputs by name: one sample each, or S.")],
    output: Annotated[Path, typer.Option(metavar="OUT.npz", help="Outputs by name.")],
    device: DeviceName = None,
    timeout: Timeout = TIMEOUT,
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
    connected = opened.device(device, spelling.seconds("--timeout", timeout))
    results = run(opened, connected, read_arrays(input))
    files.write(output, npz.encode(results))
    shapes = {name: list(array.shape) for name, array in results.items()}
    for name, result in shapes.items():
        show.line(show.console(as_json), name, f"{'x'.join(map(str, result))} {results[name].dtype}")
    if as_json:
        report = {"device": connected.name, "cpu": connected.cpu, "output": str(output), "outputs": shapes}
        show.print_json(report)
