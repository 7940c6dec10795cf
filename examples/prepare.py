"""Make this folder's data from Fashion-MNIST: `python examples/prepare.py FASHION_MNIST.npz`.

Fashion-MNIST (Zalando Research, https://github.com/zalandoresearch/fashion-mnist) is under the MIT licence,
see README.md here. The file given holds uint8 arrays `train_image` [N, 28, 28], `test_image` [N, 28, 28] and
`test_label` [N], from the data set's two parts. The first images of each are taken, none is chosen.

The weights of fmnist_dscnn.onnx are this project's own, trained on Fashion-MNIST; its input is pixel / 255.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
CALIBRATION_IMAGES, TEST_IMAGES = 64, 200
CLASSES = 10


def model_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return images [S, 28, 28] as samples of the model's input: [S, 1, 1, 28, 28], 0 to 1."""
    return (pixels.astype(np.float32) / 255)[:, np.newaxis, np.newaxis]


def main(source: Path) -> None:
    """Write the calibration images, the test images with their labels, and a strip of one image per class."""
    with np.load(source) as data:
        train, test, labels = data["train_image"], data["test_image"], data["test_label"]
    np.savez_compressed(HERE / "fmnist_calibration.npz", image=model_input(train[:CALIBRATION_IMAGES]))
    np.savez_compressed(HERE / "fmnist_test.npz", image=model_input(test[:TEST_IMAGES]))
    np.savetxt(HERE / "fmnist_test_labels.txt", labels[:TEST_IMAGES], fmt="%d")
    strip = np.concatenate([test[np.flatnonzero(labels == label)[0]] for label in range(CLASSES)])
    header = f"P5\n{strip.shape[1]} {strip.shape[0]}\n255\n".encode()
    (HERE / "garments.pgm").write_bytes(header + strip.tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
