"""Networks to measure: `python -m edgec.bench.lab.models FOLDER` writes them as ONNX.

MobileNetV2, ResNet-18 and ResNet-50. Weights are random and seeded (`networks.py` says how), the input is
`image`, 1x3x224x224, NCHW, float32.
"""

from pathlib import Path
from typing import Annotated

import typer

from edgec.errors import PackageError, reported


def main(folder: Annotated[Path, typer.Argument(help="Where the .onnx files go; made if missing.")]) -> None:
    """Write MobileNetV2, ResNet-18 and ResNet-50 with random weights as ONNX."""
    try:
        from edgec.bench.lab.networks import NETWORKS, write
    except ModuleNotFoundError as error:
        raise PackageError(f"{error.name} isn't installed: pip install 'edgec[bench]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        print(write(name, folder))


if __name__ == "__main__":
    with reported():
        typer.run(main)
