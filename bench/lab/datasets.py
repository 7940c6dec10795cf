"""The samples that models are calibrated, evaluated and trained on; those that evaluate do nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from edgec.arrays import Array
from edgec.bench.lab import machine_sounds
from edgec.errors import DataError, PackageError

if TYPE_CHECKING:
    from PIL.Image import Image


DATA_ROOT = Path(__file__).resolve().parents[2].parent / "shared"
"""Beside the checkout."""
FIRST_INANIMATE = 398
"""ImageNet's classes are animals up to here."""
CIFAR10_ANIMALS = range(2, 8)
"""Bird, cat, deer, dog, frog, horse; the others are vehicles."""
CIFAR10_TRAINING = 1200
"""Images that train, of 2000; of ImageNet's, three in five do."""
ANIMALS_SIDE = 96
CALIBRATION_CLIPS, TRAINING_CLIPS, WHOLE_CLIPS, DAMAGED_CLIPS = 20, 200, 200, 200
"""Recordings of machines: those that calibrate are among those that train."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a model is calibrated and evaluated on."""

    calibration: Array
    """[samples, *input shape]."""
    images: Array
    """[S, *input shape]."""
    labels: Array
    """[S], or fewer: then so many images in a row share each."""


def keyword_spotting(root: Path) -> Dataset:
    """MLPerf Tiny keyword spotting: the first 100 of 500 recordings calibrate."""
    with np.load(_existing(root / "data/kws01_dev500.npz")) as data:
        features = (data["mfcc_int8"].astype(np.float64) - data["zero_point"]) * data["scale"]
        labels = data["label"]
    samples = features.astype(np.float32)[:, np.newaxis]
    return Dataset(samples[:100], samples[100:], labels[100:])


def cifar10(root: Path) -> Dataset:
    """CIFAR-10: the first 200 of 2000 images calibrate."""
    with np.load(_existing(root / "data/cifar10_dev2000.npz")) as data:
        images, labels = data["image"].astype(np.float32)[:, np.newaxis], data["label"]
    return Dataset(images[:200], images[200:], labels[200:])


def fashion_mnist(root: Path) -> Dataset:
    """Fashion-MNIST: the first 200 training images calibrate, 5000 test images evaluate."""
    with np.load(_existing(root / "data/fashion_mnist_dev.npz")) as data:
        train, test = (
            (data[name].astype(np.float32) / 255)[:, np.newaxis, np.newaxis]
            for name in ("train_image", "test_image")
        )
        return Dataset(train[:200], test, data["test_label"])


def imagenet(root: Path) -> Dataset:
    """ImageNet: every fifth of 500 images calibrates."""
    pixels, classes = _imagenet(root, 224)
    images = ((pixels.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)[:, np.newaxis]
    calibrates = np.arange(len(images)) % 5 == 0
    return Dataset(images[calibrates], images[~calibrates], classes[~calibrates])


def animals(root: Path) -> Dataset:
    """Whether there is an animal: of the images that didn't train 800 are CIFAR-10's, 200 ImageNet's.

    Every eighth of those that did calibrates.
    """
    pixels, labels, trains = _animals(root)
    images = (pixels.astype(np.float32) / 255)[:, np.newaxis]
    return Dataset(images[trains][::8], images[~trains], labels[~trains])


def animals_to_train(root: Path) -> tuple[Array, Array]:
    """Return what `animals` leaves: uint8 [S, 96, 96, 3], and 1 where there is an animal."""
    pixels, labels, trains = _animals(root)
    return pixels[trains], labels[trains]


def machines(root: Path) -> Dataset:
    """Synthesized toy cars, 1 where damaged: windows, a clip after the other; some that trained calibrate."""
    del root  # nothing is read
    clips = np.concatenate(
        [
            machine_sounds.clips(WHOLE_CLIPS, seed=1),
            machine_sounds.clips(DAMAGED_CLIPS, seed=1, damaged=True),
        ]
    )
    calibration = machine_sounds.clips(CALIBRATION_CLIPS, seed=0)[:, ::5]
    return Dataset(
        calibration.reshape(-1, 1, calibration.shape[-1]),
        clips.reshape(-1, 1, clips.shape[-1]),
        np.repeat((0, 1), (WHOLE_CLIPS, DAMAGED_CLIPS)),
    )


def machines_to_train() -> Array:
    """Return windows of whole cars: float32 [S, 640]."""
    clips = machine_sounds.clips(TRAINING_CLIPS, seed=0)
    return clips.reshape(-1, clips.shape[-1])


def _animals(root: Path) -> tuple[Array, Array, Array]:
    """Return uint8 [S, 96, 96, 3], 1 where there is an animal, and which images train."""
    with np.load(_existing(root / "data/cifar10_dev2000.npz")) as data:
        small, kinds = data["image"], data["label"]
    pillow = _pillow()
    enlarged = _scaled([pillow.fromarray(one) for one in small], ANIMALS_SIDE)
    pixels, classes = _imagenet(root, ANIMALS_SIDE)
    labels = np.concatenate([np.isin(kinds, CIFAR10_ANIMALS), classes < FIRST_INANIMATE])
    trains = np.concatenate([np.arange(len(small)) < CIFAR10_TRAINING, np.arange(len(pixels)) % 5 < 3])
    return np.concatenate([enlarged, pixels]), labels.astype(np.int64), trains


def _imagenet(root: Path, side: int) -> tuple[Array, Array]:
    """Return the 500 images, uint8 [500, side, side, 3], and their classes."""
    files = sorted(_existing(root / "data/imagenet_dev500").glob("*.jpg"))
    pillow = _pillow()
    images = [pillow.open(file).convert("RGB") for file in files]
    return _scaled(images, side), np.array([int(file.name[:4]) for file in files])


def _scaled(images: Sequence["Image"], side: int) -> Array:
    return np.stack(
        [np.asarray(image.resize((side, side), _pillow().Resampling.BILINEAR)) for image in images]
    )


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise PackageError("pillow, which reads images, isn't installed: pip install pillow") from error
    return Image


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path} isn't there: --data-root names the folder with models/ and data/")
    return path
