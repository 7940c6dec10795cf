"""`edgec build`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edgec.cli.arguments import AsJson
from edgec.cli.from_fields import with_build_options
from edgec.options import BuildOptions


@with_build_options
def build(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="Float or quantized model, or a .tflite file.")
    ],
    build_options: BuildOptions,
    as_json: AsJson = False,
) -> None:
    """Compile a model into a bundle.

    A bundle is a folder with a library, a header, a manifest and golden vectors.
    """
    from edgec import output as show
    from edgec.targets import loader

    loader.load(build_options.target)  # a wrong name fails at once, not after the compiler's import
    out = show.console(as_json)
    with show.stages(out) as progress:
        progress("start", "")  # the spinner is there while the compiler is being imported
        from edgec.bench import building, tuning
        from edgec.bench.report import tables
        from edgec.compiler.emit.manifest import to_data
        from edgec.compiler.tune.tune import Tuning

        found: list[Tuning] = []
        told = replace(build_options, progress=progress)
        bundle = building.build(model, told, progress.bar, found.append)
    for result in found:
        tables.print_tuning(out, result)
    show.print_build(out, str(bundle.path), bundle.manifest, bundle.digest)
    if as_json:
        data = {"bundle": str(bundle.path), "sha256": bundle.digest, "manifest": to_data(bundle.manifest)}
        show.print_json(data | ({"tuning": tuning.to_json(found[0])} if found else {}))
