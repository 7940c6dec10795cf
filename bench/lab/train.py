"""Networks of MLPerf Tiny to train: `python -m edgec.bench.lab.train FOLDER --data-root DIR` writes them.

Visual wake words (MobileNetV1-0.25, 96x96), trained to tell images with an animal from others, and the dense
autoencoder, trained on the sounds of `machine_sounds.py`. Those in `examples/` were made by it.
"""

from pathlib import Path
from typing import Annotated

import typer

from edgec.bench.lab.datasets import DATA_ROOT
from edgec.errors import DataError, PackageError, reported
from edgec.output import console, stages


def main(
    folder: Annotated[Path, typer.Argument(help="Where the .onnx files go; made if missing.")],
    names: Annotated[
        list[str] | None, typer.Argument(help="vww_mobilenetv1, anomaly_autoencoder; by default both.")
    ] = None,
    data_root: Annotated[Path, typer.Option(help="Folder with data/.")] = DATA_ROOT,
) -> None:
    """Train MLPerf Tiny's visual wake words and anomaly detection networks; minutes each, on one core."""
    try:
        from edgec.bench.lab.training import TASKS, train
    except ModuleNotFoundError as error:
        raise PackageError(f"{error.name} isn't installed: pip install 'edgec[bench]'") from error
    for name in names or TASKS:
        if name not in TASKS:
            raise DataError(f"no network '{name}' to train: choose {' or '.join(TASKS)}")
    folder.mkdir(parents=True, exist_ok=True)
    with stages(console(as_json=False)) as shown:
        for name in names or TASKS:
            shown("train", name)

            def progress(done: int, steps: int, loss: float, name: str = name) -> None:
                shown.bar(steps, done, f"{name}, loss {loss:.3f}")

            shown("train", f"{train(name, folder, data_root, progress)}")
            shown.finish()


if __name__ == "__main__":
    with reported():
        typer.run(main)
