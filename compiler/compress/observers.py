"""Ranges of a float model's values over calibration samples."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.compress.calibration import Calibration
from edgec.errors import CalibrationError, ModelError
from edgec.kernels import oracle

Range = tuple[float, float]
"""Smallest and largest value to represent."""

Observer = Callable[[onnx_ir.Model, Sequence[str], Calibration], dict[str, Range]]

_PERCENTILE = 99.99
"""Share of a value's elements, in percent, that lie below the range's upper end (and above its lower end)."""

_BINS = 4096
"""Of a percentile's histogram: an end is exact to 1/4096 of the full range, finer than one int8 step."""


def min_max(model: onnx_ir.Model, names: Sequence[str], calibration: Calibration) -> dict[str, Range]:
    """Return the smallest and largest element of each named value."""
    ranges: dict[str, Range] = {}
    for values in _runs(model, names, calibration):
        for name, value in values.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
    for name, ends in ranges.items():
        if not np.all(np.isfinite(ends)):
            raise CalibrationError(f"value '{name}' is NaN or infinite on the calibration samples")
    return ranges


def percentile(model: onnx_ir.Model, names: Sequence[str], calibration: Calibration) -> dict[str, Range]:
    """Return ranges that leave out the outermost 0.01 % of each named value's elements at either end."""
    full = min_max(model, names, calibration)
    counts = {name: np.zeros(_BINS, np.int64) for name in full}
    for values in _runs(model, names, calibration):
        for name, value in values.items():
            low, high = full[name]
            if high > low:
                bins = ((value.ravel() - low) * (_BINS / (high - low))).astype(np.int64)
                counts[name] += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)
    return {name: _cut(full[name], counts[name]) for name in full}


def channel_means(
    model: onnx_ir.Model, names: Sequence[str], calibration: Calibration
) -> dict[str, NDArray[np.float64]]:
    """Return the mean of every channel (axis 1) of each named value, over all samples."""
    sums: dict[str, NDArray[np.float64]] = {}
    for values in _runs(model, names, calibration):
        for name, value in values.items():
            mean = value.mean(axis=tuple(axis for axis in range(value.ndim) if axis != 1), dtype=np.float64)
            sums[name] = sums.get(name, 0) + mean
    return {name: total / len(calibration) for name, total in sums.items()}


OBSERVERS: dict[str, Observer] = {"min-max": min_max, "percentile": percentile}
"""By the name that options and manifests use."""


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


def _runs(
    model: onnx_ir.Model, names: Sequence[str], calibration: Calibration
) -> Iterator[dict[str, NDArray[Any]]]:
    """Run the float model on one sample after the other; yield the named values of each.

    Raises ModelError when ONNX Runtime can't run it.
    """
    onnxruntime = oracle.runtime()
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, NotImplemented

    probe = model.clone()
    values = onnx_ir.convenience.create_value_mapping(probe.graph)
    inputs = {value.name for value in probe.graph.inputs}
    known = {value.name for value in probe.graph.outputs} | inputs
    probe.graph.outputs.extend(values[name] for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the same sums, in the same order, on every number of cores
    options.log_severity_level = 3
    serialized = onnx_ir.to_proto(probe).SerializeToString()
    try:
        session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, NotImplemented) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"can't be quantized: ONNX Runtime doesn't run the float model: {reason}") from error
    fetched = [name for name in names if name not in inputs]
    for sample in range(len(calibration)):
        feed = calibration.feed(sample)
        observed = session.run(fetched, feed) if fetched else []
        given = {name: feed[name] for name in names if name in inputs}
        yield dict(zip(fetched, observed, strict=True)) | given
