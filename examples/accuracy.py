"""Accuracy of bundles on the test images: `python examples/accuracy.py BUNDLE...`."""

import sys
from pathlib import Path

import numpy as np

import edgec
from edgec.errors import DeviceError
from edgec.kernels.reference import oracle

HERE = Path(__file__).parent


def main(bundles: list[str]) -> None:
    """Print one line for the float model in ONNX Runtime and one per bundle, each on the device it is for."""
    with np.load(HERE / "fmnist_test.npz") as data:
        images = data["image"]
    labels = np.loadtxt(HERE / "fmnist_test_labels.txt", dtype=np.int64)

    def show(what: str, logits: np.ndarray) -> None:
        right = logits.reshape(len(labels), -1).argmax(axis=1) == labels
        print(f"  {what:<24} {right.mean():6.1%} of {len(labels)} images right")

    session = oracle.runtime().InferenceSession(
        HERE / "fmnist_dscnn.onnx", providers=["CPUExecutionProvider"]
    )
    show("float, ONNX Runtime", np.stack([session.run(["logits"], {"image": image})[0] for image in images]))
    first: np.ndarray | None = None
    for path in map(Path, bundles):
        try:
            logits = edgec.load(path).run({"image": images})["logits"]
        except DeviceError as error:
            print(f"  {path.stem:<24} {error}")
            continue
        show(path.stem, logits)
        if first is not None:
            differing = np.count_nonzero(logits != first)
            print(f"  {'':<24} {differing} of {logits.size} logits differ from the first bundle's")
        first = logits if first is None else first


if __name__ == "__main__":
    main(sys.argv[1:])
