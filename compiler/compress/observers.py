"""Ranges and means of a float model's values over calibration samples, the same on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.compress.calibration import Calibration
from edgec.errors import CalibrationError
from edgec.kernels.reference.precise import Precise, rounded

Range = tuple[float, float]
"""Smallest and largest value to represent."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What calibration found, by the values' names."""

    ranges: dict[str, Range]
    means: dict[str, NDArray[np.float64]]
    """Mean of every channel (axis 1), over all samples. Not rounded: biases, which are made of them, are."""


_PERCENTILE = 99.99
"""Share of a value's elements, in percent, that lie below the range's upper end (and above its lower end)."""

_BITS = 20
"""Bits that are kept of a range's ends: exact to 1/8000 of an int8 step, and too few to show what machine
computed them."""

_BINS = 4096
"""Bins of the histogram that a percentile is read from: an end is exact to 1/4096 of the full
range, finer than one int8 step."""


def observe(
    model: onnx_ir.Model,
    ranged: Sequence[str],
    averaged: Sequence[str],
    calibration: Calibration,
    observer: str,
) -> Observed:
    """Run the float model on every sample; return ranges and channel means of the values named.

    `observer` is one of OBSERVERS. Raises CalibrationError where a value doesn't stay finite, ModelError
    where an operator can't be evaluated.
    """
    precise = Precise(onnx_ir.to_proto(model).SerializeToString(), [*ranged, *averaged])
    low, high = dict.fromkeys(ranged, np.inf), dict.fromkeys(ranged, -np.inf)
    sums: dict[str, Any] = dict.fromkeys(averaged, 0)
    for sample in range(len(calibration)):
        for name, value in precise.values(calibration.feed(sample)):
            if name in low:
                low[name] = np.minimum(low[name], value.min())  # a NaN stays
                high[name] = np.maximum(high[name], value.max())
            if name in sums:
                sums[name] = sums[name] + value.mean(axis=tuple(a for a in range(value.ndim) if a != 1))
    for name in ranged:
        if not max(-low[name], high[name]) <= np.finfo(np.float32).max:  # nor a NaN
            raise CalibrationError(f"value '{name}' is NaN or infinite on the calibration samples")
    ranges = {name: (float(rounded(low[name], _BITS)), float(rounded(high[name], _BITS))) for name in ranged}
    if observer == "percentile":
        ranges = _percentiles(precise, ranges, calibration)
    return Observed(ranges, {name: total / len(calibration) for name, total in sums.items()})


OBSERVERS = ("min-max", "percentile")
"""What a range covers: every element, or all but the outermost 0.01 % at either end."""


def _percentiles(precise: Precise, full: dict[str, Range], calibration: Calibration) -> dict[str, Range]:
    """Return, of the full ranges, what is left without the outermost elements."""
    counts = {name: np.zeros(_BINS, np.int64) for name in full}
    for sample in range(len(calibration)):
        for name, value in precise.values(calibration.feed(sample)):
            low, high = full.get(name, (0.0, 0.0))
            if high > low:
                bins = ((value.ravel() - low) * (_BINS / (high - low))).astype(np.int64)
                counts[name] += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)
    return {name: _cut(full[name], counts[name]) for name in full}


def _cut(full: Range, counts: NDArray[np.int64]) -> Range:
    """Return the range between the two percentiles of a histogram over `full`."""
    low, high = full
    total = int(counts.sum())
    if total == 0:
        return full
    step, cumulative = (high - low) / _BINS, np.cumsum(counts)
    outside = total * (100 - _PERCENTILE) / 100
    first = int(np.searchsorted(cumulative, outside, side="right"))
    last = int(np.searchsorted(cumulative, total - outside, side="left"))
    return low + first * step, min(low + (last + 1) * step, high)
