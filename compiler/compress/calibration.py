"""The samples that a float model is observed on to choose its scales."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.arrays import Array, Arrays
from edgec.compiler import npz
from edgec.compiler.accuracy import SamplesKind
from edgec.compiler.graph import shape_of
from edgec.compiler.model import Model
from edgec.compiler.provenance import Provenance
from edgec.errors import CalibrationError

SYNTHETIC_SAMPLES = 8
HELD_BACK_EVERY, HELD_BACK_FROM = 10, 20
"""Every tenth sample chooses no scales, where there are 20 or more: it shows what the others led to."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Samples for every input of a model."""

    samples: dict[str, Array]
    """Those that scales are chosen from: per input, [samples, *shape of the input], in the input's dtype."""
    held_back: dict[str, Array]
    """Those that are kept for comparing, likewise; there may be none."""
    provenance: Provenance

    def __len__(self) -> int:
        """Return the number of samples that scales are chosen from."""
        return self.provenance.samples

    def feed(self, sample: int) -> dict[str, Array]:
        """Return one of them as the model takes it."""
        return _feed(self.samples, sample)

    def kind(self, calibrates: bool) -> SamplesKind:
        """Return what `compared` gives."""
        if self.provenance.kind == "synthetic":
            return "synthetic"
        return "held back" if self.provenance.held_back else "calibrated" if calibrates else "given"

    def compared(self, most: int) -> list[dict[str, Array]]:
        """Return at most so many samples to compare a model on, evenly chosen; held back, if any are."""
        among = self.held_back if self.provenance.held_back else self.samples
        count = self.provenance.held_back or self.provenance.samples
        picked = sorted({index * count // most for index in range(most)})
        return [_feed(among, sample) for sample in picked]


def load_calibration(source: Path | Arrays, model: Model) -> Calibration:
    """Read calibration samples from an .npz file (or take arrays) and check them against the model's inputs.

    Every input needs one array of its name, shaped like the input (one sample), with a leading sample axis,
    or with the samples in the place of a batch dimension of 1. Raises CalibrationError.
    """
    arrays, origin = _arrays(source)
    inputs = {str(value.name): value for value in model.ir.graph.inputs}
    if set(arrays) != set(inputs):
        given, expected = _listed(arrays), _listed(inputs)
        raise CalibrationError(f"{origin}: has arrays {given}; the model's inputs are {expected}")
    samples = {}
    for name, value in inputs.items():
        shape, dtype = shape_of(value), value.dtype
        assert shape is not None, "the frontend made every input static"
        assert dtype is not None, "a valid model's inputs have types"
        samples[name] = _checked(f"{origin}: array '{name}'", arrays[name], shape, dtype.numpy())
    counts = {name: len(array) for name, array in samples.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise CalibrationError(f"{origin}: numbers of samples differ between inputs: {listed}")
    return _split(samples, next(iter(counts.values())))


def _split(samples: dict[str, Array], count: int) -> Calibration:
    """Hold back every tenth sample, where there are enough."""
    held = np.zeros(count, bool)
    if count >= HELD_BACK_FROM:
        held[HELD_BACK_EVERY - 1 :: HELD_BACK_EVERY] = True
    provenance = Provenance("data", int(np.sum(~held)), _digest(samples), held_back=int(np.sum(held)))
    chosen, kept = ({name: array[which] for name, array in samples.items()} for which in (~held, held))
    return Calibration(chosen, kept, provenance)


def synthetic(model: Model, seed: int = 0, samples: int = SYNTHETIC_SAMPLES) -> Calibration:
    """Make up samples: standard normal for float inputs, 0 and 1 for integers and booleans.

    They stand in for real data so that every model can be built and timed; accuracy needs real data.
    """
    generator = np.random.default_rng(seed)
    made = {}
    for value in model.ir.graph.inputs:
        shape = shape_of(value)
        assert shape is not None, "the frontend made every input static"
        assert value.dtype is not None, "a valid model's inputs have types"
        dtype = value.dtype.numpy()
        if value.dtype.is_floating_point():
            made[str(value.name)] = generator.standard_normal((samples, *shape)).astype(dtype)
        else:  # valid as token, mask and class alike
            made[str(value.name)] = generator.integers(0, 2, (samples, *shape)).astype(dtype)
    return Calibration(made, {}, Provenance("synthetic", samples, _digest(made), seed))


def _arrays(source: Path | Arrays) -> tuple[dict[str, Array], str]:
    """Return the arrays and what messages call them."""
    if isinstance(source, Mapping):
        try:
            return {name: np.asarray(array) for name, array in source.items()}, "calibration"
        except ValueError as error:
            raise CalibrationError(f"calibration: {error}") from error
    return npz.read(source, CalibrationError), source.name


def _checked(what: str, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return the array as [samples, *shape] of `dtype`.

    Raises CalibrationError.
    """
    if array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise CalibrationError(f"{what} is {array.dtype}, expected {dtype}")
    if array.shape == shape:
        array = array[np.newaxis]
    elif shape and shape[0] == 1 and array.ndim == len(shape) and array.shape[1:] == shape[1:]:
        array = array[:, np.newaxis]
    elif array.shape[1:] != shape or array.ndim != len(shape) + 1:
        expected = ", ".join(map(str, shape))
        raise CalibrationError(
            f"{what} has shape {list(array.shape)}, expected [{expected}] or [samples, {expected}]"
        )
    if len(array) == 0:
        raise CalibrationError(f"{what} holds no samples")
    with np.errstate(over="ignore"):  # to infinity, which is refused
        array = np.ascontiguousarray(array, dtype)
    if not np.all(np.isfinite(array)):
        raise CalibrationError(f"{what} holds NaN or infinity, or more than {dtype} can hold")
    return array


def _feed(samples: Arrays, sample: int) -> dict[str, Array]:
    return {name: np.asarray(array[sample]) for name, array in samples.items()}


def _listed(names: Mapping[str, object]) -> str:
    """Return quoted names, or `none`."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def _digest(samples: Arrays) -> str:
    """Return a hash of names, shapes, types and values."""
    digest = hashlib.sha256()
    for name, array in sorted(samples.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
