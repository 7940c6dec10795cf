"""Operators in numpy, for `precise`: where ONNX's reference is slow, or isn't float64 throughout."""

import itertools
import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as ReferenceMaxPool

Array = Any
"""An array: numpy's types know no index that is put together, and onnx.reference has none."""
Pads = Sequence[tuple[int, int]]
"""Padding of every spatial axis: before and behind the image."""

_BLOCK = 1 << 16
"""Elements that are gathered for one product of matrices: half a megabyte, what a core's cache holds."""

_ERF_STEP, _ERF_END, _ERF_TERMS = 1 / 64, 6.0, 8
"""erf is 1 beyond 6; eight terms of its series, 1/128 away, leave 1e-19."""


class Conv(OpRun):
    """Products of matrices, of some groups or rows of the image at a time."""

    def _run(self, x: Array, weights: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        groups, rank = attributes.get("group") or 1, x.ndim - 2
        read = _windows(x, weights.shape[2:], attributes, 0)
        n, outputs, positions = len(x), len(weights), read.shape[2 + rank :]
        read = read.reshape(n, groups, -1, *read.shape[2:])
        matrices = weights.reshape(groups, outputs // groups, -1)
        total = np.empty((n, groups, outputs // groups, *positions), x.dtype)
        per_row = matrices.shape[2] * math.prod(positions[1:])
        rows = max(1, _BLOCK // max(1, per_row))
        some = max(1, _BLOCK // max(1, per_row * positions[0]))
        for group, row in itertools.product(range(0, groups, some), range(0, positions[0], rows)):
            of_groups, of_rows = slice(group, group + some), slice(row, row + rows)
            gathered = read[:, of_groups, ..., of_rows, *[slice(None)] * (rank - 1)]
            part = total[:, of_groups, :, of_rows]
            columns = gathered.reshape(*gathered.shape[:2], matrices.shape[2], -1)
            part[...] = (matrices[of_groups] @ columns).reshape(part.shape)
        return (_with_bias(total.reshape(n, outputs, *positions), bias),)


class ConvTranspose(OpRun):
    """One product of matrices for each position in the kernel, added where it belongs."""

    def _run(self, x: Array, weights: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        groups, rank = attributes.get("group") or 1, x.ndim - 2
        strides, dilations, extra = (
            attributes.get(name) or [default] * rank
            for name, default in (("strides", 1), ("dilations", 1), ("output_padding", 0))
        )
        n, image, per_group = len(x), x.shape[2:], weights.shape[1]
        reach = [
            (count - 1) * s + (k - 1) * d + 1
            for count, s, k, d in zip(image, strides, weights.shape[2:], dilations, strict=True)
        ]
        asked, same = attributes.get("output_shape"), str(attributes.get("auto_pad"))
        if asked is None and same.startswith("SAME"):
            asked = [count * s for count, s in zip(image, strides, strict=True)]
        if asked is not None:
            left = [r + e - count for r, e, count in zip(reach, extra, asked[-rank:], strict=True)]
            halves = [(count // 2, count - count // 2) for count in left]
            pads: Pads = halves if same == "SAME_UPPER" else [(more, less) for less, more in halves]
        else:
            pads = _pairs(attributes.get("pads"), rank)
        extents = [r + e - a - b for r, e, (a, b) in zip(reach, extra, pads, strict=True)]
        whole = [max(r, a + count) for r, (a, _), count in zip(reach, pads, extents, strict=True)]
        total: Array = np.zeros((n, groups, per_group, *whole), x.dtype)
        images = x.reshape(n, groups, -1, math.prod(image))
        matrices = np.swapaxes(weights.reshape(groups, -1, *weights.shape[1:]), 1, 2)
        for tap in itertools.product(*map(range, weights.shape[2:])):
            each = zip(tap, dilations, strides, image, strict=True)
            written = [slice(t * d, t * d + (count - 1) * s + 1, s) for t, d, s, count in each]
            products = matrices[(..., *tap)] @ images
            total[(..., *written)] += products.reshape(n, groups, per_group, *image)
        kept = [slice(a, a + count) for (a, _), count in zip(pads, extents, strict=True)]
        total = total[(..., *kept)]
        return (_with_bias(total.reshape(n, groups * per_group, *extents), bias),)


class MaxPool(ReferenceMaxPool):
    """One position in the window after the other."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:  # type: ignore[override]
        if len(self.onnx_node.output) > 1:  # where the largest lie
            return tuple(super()._run(x, **attributes))  # type: ignore[no-untyped-call]
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        return (_over_taps(np.maximum, _windows(x, attributes["kernel_shape"], attributes, lowest)),)


class AveragePool(OpRun):
    """As MaxPool; what lies under a window is counted by pooling ones."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        kernel = attributes["kernel_shape"]
        total = _over_taps(np.add, _windows(x, kernel, attributes, 0))
        counted = np.ones((1, 1, *x.shape[2:]))
        if attributes.get("count_include_pad"):
            pads = _pads(x.shape[2:], kernel, attributes)
            counted = np.pad(counted, [(0, 0), (0, 0), *pads], constant_values=1)
            attributes = attributes | {"pads": None, "auto_pad": None}
        counts = _over_taps(np.add, _windows(counted, kernel, attributes, 0))
        return (total / counts[(..., *map(slice, total.shape[2:]))],)


class Erf(OpRun):
    """The error function, in float64."""

    def _run(self, x: Array) -> tuple[Array]:
        return (erf(x),)


class GatherElements(OpRun):
    """Elements along an axis; the reference takes no tables of more than 64 along it."""

    def _run(self, data: Array, indices: Array, **attributes: Any) -> tuple[Array]:
        axis = (attributes.get("axis") or 0) % data.ndim
        rows = [slice(None if i == axis else count) for i, count in enumerate(indices.shape)]
        return (np.take_along_axis(data[tuple(rows)], indices, axis),)


class GroupNormalization(OpRun):
    """As the reference's, without its step through float32."""

    def _run(self, x: Array, scale: Array, bias: Array, **attributes: Any) -> tuple[Array]:
        groups = x.reshape(len(x), attributes["num_groups"], -1)
        centred = groups - groups.mean(axis=2, keepdims=True)
        variance = (centred * centred).mean(axis=2, keepdims=True)
        normal = (centred / np.sqrt(variance + attributes["epsilon"])).reshape(x.shape)
        repeats = x.shape[1] // len(scale)  # before opset 21 one for each group
        each = [np.repeat(array, repeats).reshape(-1, *[1] * (x.ndim - 2)) for array in (scale, bias)]
        return (normal * each[0] + each[1],)


class MeanVarianceNormalization(OpRun):
    """The reference has float32 constants in it, and refuses float64."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        axes = tuple(attributes.get("axes") or (0, 2, 3))
        centred = x - x.mean(axis=axes, keepdims=True)
        return (centred / (np.sqrt((centred * centred).mean(axis=axes, keepdims=True)) + 1e-9),)


class BatchNormalization(OpRun):
    """At inference, as it is before opset 14 always; the reference trains there."""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, variance: Array, **attributes: Any
    ) -> tuple[Array]:
        if attributes.get("training_mode"):
            raise NotImplementedError("training mode")
        channels = (-1, *[1] * (x.ndim - 2))
        scale, bias, mean, variance = (part.reshape(channels) for part in (scale, bias, mean, variance))
        epsilon = 1e-5 if attributes.get("epsilon") is None else attributes["epsilon"]
        return ((scale * (x - mean) / np.sqrt(variance + epsilon) + bias).astype(x.dtype),)


class Softsign(OpRun):
    """Softsign of scalars, too, which ONNX's reference fails on."""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.asarray(x / (1 + np.abs(x))),)


OPERATORS = (
    BatchNormalization, Conv, ConvTranspose, MaxPool,
    AveragePool, Erf, GatherElements, GroupNormalization, MeanVarianceNormalization, Softsign,
)  # fmt: skip
"""To put in the place of the reference's."""


def erf(x: Array) -> Array:
    """Return the error function to 1e-16, by its Taylor series around the nearest multiple of 1/64."""
    near = np.rint(np.clip(np.nan_to_num(x, nan=0.0), -_ERF_END, _ERF_END) / _ERF_STEP)
    away = np.clip(x, -_ERF_END, _ERF_END) - near * _ERF_STEP
    table = _erf_series()[:, (near + _ERF_END / _ERF_STEP).astype(np.int64)]
    total = np.zeros_like(away)
    for term in reversed(table):
        total = total * away + term
    return total


def _erf_series() -> NDArray[np.float64]:
    """Return derivative / factorial of erf at the multiples of 1/64 in [-6, 6], [terms, points].

    The derivatives are those of 2/sqrt(pi) exp(-x**2) times a Hermite polynomial:
    h[k+1] = -2 x h[k] - 2 k h[k-1].
    """
    steps = round(_ERF_END / _ERF_STEP)
    points = np.arange(-steps, steps + 1) * _ERF_STEP
    slope = 2 / math.sqrt(math.pi) * np.exp(-points * points)
    rows, before, now = [np.array([math.erf(point) for point in points])], np.zeros_like(points), slope
    for order in range(1, _ERF_TERMS):
        rows.append(now / math.factorial(order))
        before, now = now, -2 * points * now - 2 * (order - 1) * before
    return np.array(rows)


def _with_bias(total: Array, bias: Array | None) -> Array:
    """Add one number to each channel (axis 1)."""
    return total if bias is None else total + bias.reshape(-1, *[1] * (total.ndim - 2))


def _over_taps(combine: np.ufunc, read: Array) -> Array:
    """Combine what a window reads: [N, C, *kernel, *outputs] --> [N, C, *outputs]."""
    kernel = read.shape[2 : 2 + (read.ndim - 2) // 2]
    taps = itertools.product(*map(range, kernel))
    return reduce(combine, (read[(slice(None), slice(None), *tap)] for tap in taps))


def _windows(x: Array, kernel: Sequence[int], attributes: dict[str, Any], fill: float) -> Array:
    """Return what each window reads, as a view of the padded image: [N, C, *kernel, *outputs]."""
    rank = len(kernel)
    strides, dilations = (attributes.get(name) or [1] * rank for name in ("strides", "dilations"))
    pads = _pads(x.shape[2:], kernel, attributes)
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    outputs = []
    for count, (a, b), reach, s in zip(x.shape[2:], pads, reaches, strides, strict=True):
        room = count + a + b - reach
        found = (-(-room // s) if attributes.get("ceil_mode") else room // s) + 1
        outputs.append(found - ((found - 1) * s >= count + a))  # no window starts behind the image
    behind = [
        max(0, (found - 1) * s + reach - count - a)
        for found, s, reach, count, (a, _) in zip(outputs, strides, reaches, x.shape[2:], pads, strict=True)
    ]
    widths = [(0, 0), (0, 0), *((a, more) for (a, _), more in zip(pads, behind, strict=True))]
    padded = np.pad(x, widths, constant_values=fill) if np.any(widths) else x
    read = sliding_window_view(padded, reaches, axis=tuple(range(2, 2 + rank)))
    starts = [slice(0, (found - 1) * s + 1, s) for found, s in zip(outputs, strides, strict=True)]
    read = read[(slice(None), slice(None), *starts, *(slice(None, None, d) for d in dilations))]
    return np.moveaxis(read, range(2 + rank, 2 + 2 * rank), range(2, 2 + rank))


def _pads(image: Sequence[int], kernel: Sequence[int], attributes: dict[str, Any]) -> Pads:
    rank, auto = len(kernel), str(attributes.get("auto_pad"))
    if not auto.startswith("SAME"):
        return _pairs(None if auto == "VALID" else attributes.get("pads"), rank)
    strides, dilations = (attributes.get(name) or [1] * rank for name in ("strides", "dilations"))
    pads = []
    for count, k, s, d in zip(image, kernel, strides, dilations, strict=True):
        missing = max(0, (-(-count // s) - 1) * s + (k - 1) * d + 1 - count)
        less, more = missing // 2, missing - missing // 2
        pads.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return pads


def _pairs(pads: Sequence[int] | None, rank: int) -> Pads:
    """[begins, ends] as ONNX writes it, by axis."""
    given = list(pads or [0] * 2 * rank)
    return list(zip(given[:rank], given[rank:], strict=True))
