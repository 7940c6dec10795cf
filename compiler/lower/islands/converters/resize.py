"""Resize and Upsample, in all their modes: every dimension by itself, as a few weighted elements of it.

The formulas are those of ONNX's page of Resize, in float32 as ONNX Runtime evaluates them. A scale that is
no constant is read when it runs; how many elements a result has, its declared shape says.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr
from tvm.te import Tensor

from edgec.compiler.lower.islands.converters.given import Converter, Given, array, is_float, shape_of

Float = Any
"""A float32 expression, or number."""


@dataclass(frozen=True, eq=False)
class _Axis:
    """One dimension to resize."""

    axis: int
    extent: int
    result: int
    scale: float | None
    """None where it is read when it runs."""
    entry: int
    """Which of the scales it is."""
    region: tuple[float, float]
    """First and last place of a crop, from 0 to 1."""


def _f(value: float) -> Expr:
    return tirx.const(float(np.float32(value)), "float32")


_SOURCES: dict[str, Callable[[_Axis, Float, Float], Float]] = {
    "half_pixel": lambda a, s, x: (x + _f(0.5)) / s - _f(0.5),
    "half_pixel_symmetric": lambda a, s, x: (
        _f(a.extent / 2) * (_f(1) - _f(a.result) / (s * _f(a.extent))) + (x + _f(0.5)) / s - _f(0.5)
    ),
    "pytorch_half_pixel": lambda a, s, x: (x + _f(0.5)) / s - _f(0.5) if a.result > 1 else _f(0),
    "align_corners": lambda a, s, x: x * _f(a.extent - 1) / _f(a.result - 1) if a.result > 1 else _f(0),
    "asymmetric": lambda a, s, x: x / s,
    "tf_crop_and_resize": lambda a, s, x: (
        _f(a.region[0]) * _f(a.extent - 1)
        + x * (_f(a.region[1]) - _f(a.region[0])) * _f(a.extent - 1) / _f(a.result - 1)
        if a.result > 1
        else _f(0.5) * (_f(a.region[0]) + _f(a.region[1])) * _f(a.extent - 1)
    ),
}
"""By coordinate_transformation_mode: where a result's place lies in the source."""

_NEAREST: dict[str, Callable[[Float], Float]] = {
    "round_prefer_floor": lambda x: te.ceil(x - _f(0.5)),
    "round_prefer_ceil": lambda x: te.floor(x + _f(0.5)),
    "floor": te.floor,
    "ceil": te.ceil,
}


def _linear(distance: Float, _: float) -> Float:
    return tirx.max(_f(0), _f(1) - distance)


def _cubic(distance: Float, a: float) -> Float:
    """Keys' cubic convolution."""
    d = distance
    near = ((_f(a + 2) * d - _f(a + 3)) * d) * d + _f(1)
    far = ((_f(a) * d - _f(5 * a)) * d + _f(8 * a)) * d - _f(4 * a)
    return tirx.Select(d <= _f(1), near, tirx.Select(d < _f(2), far, _f(0)))


_FILTERS: dict[str, tuple[int, Callable[[Float, float], Float]]] = {
    "linear": (1, _linear),
    "cubic": (2, _cubic),
}
"""By mode: how far the filter reaches, and its weight at a distance."""


def _resize(given: Given) -> Expr:
    attributes = given.attributes
    mode = attributes.get("mode", "nearest")
    upsample = given.kind == "Upsample" or given.opset < 11
    default = "asymmetric" if upsample else "half_pixel"
    transformation = attributes.get("coordinate_transformation_mode", default)
    axes, scales = _axes(given, upsample, transformation)
    if transformation == "align_corners" and mode != "nearest" and any(map(_is_rounded, axes)):
        raise NotImplementedError("ONNX Runtime and ONNX's reference differ")
    if mode == "nearest":
        rounding = attributes.get("nearest_mode", "floor" if upsample else "round_prefer_floor")
        result = _gathered(given, axes, scales, transformation, rounding)
    elif not is_float(given.dtype) or given.dtype == "float64":
        raise NotImplementedError("interpolation of other types")
    else:
        result = given.data
        for axis in sorted(axes, key=lambda axis: axis.result / axis.extent):
            result = _filtered(given, result, axis, scales, transformation)
    if transformation == "tf_crop_and_resize":
        result = _extrapolated(given, result, axes)
    return result


def _axes(given: Given, upsample: bool, transformation: str) -> tuple[list[_Axis], Any]:
    """Return the dimensions that change, and the tensor of scales where it is no constant."""
    source, result = shape_of(given.data), given.shape
    listed = [int(a) % len(source) for a in given.attributes.get("axes", range(len(source)))]
    roi, sizes = given.constant(1), given.constant(3)
    index = 1 if upsample else 2
    scales: Any = given.constant(index)
    if scales is None and "scales" in given.attributes:
        scales = np.asarray(given.attributes["scales"], np.float32)
    variable = given.input(index) if scales is None and given.input(3) is None else None
    if transformation == "tf_crop_and_resize" and roi is None:
        raise NotImplementedError("a region that is no constant")
    policy = given.attributes.get("keep_aspect_ratio_policy", "stretch")
    if given.input(3) is not None:
        if policy != "stretch":
            if sizes is None:
                raise NotImplementedError("sizes that are no constant")
            ratios = [int(n) / source[a] for n, a in zip(sizes, listed, strict=True)]
            scales = np.full(len(listed), min(ratios) if policy == "not_larger" else max(ratios))
        else:
            scales = np.array([result[a] / source[a] for a in listed])
    made = []
    for entry, axis in enumerate(listed):
        region = (
            (0.0, 1.0)
            if roi is None or not roi.size
            else (float(roi[entry]), float(roi[entry + len(listed)]))
        )
        scale = None if variable is not None else float(np.float32(scales[entry]))
        if scale == 1.0 and transformation != "tf_crop_and_resize":
            continue
        if variable is not None and source[axis] == result[axis] and axis < 2:
            continue  # batch and channels
        made.append(_Axis(axis, source[axis], result[axis], scale, entry, region))
    return made, variable


def _is_rounded(axis: _Axis) -> bool:
    """Whether a scale leads to no whole number of elements, or may."""
    return axis.scale is None or abs(axis.scale * axis.extent - axis.result) > 1e-3


def _scale(axis: _Axis, scales: Sequence[Tensor]) -> Float:
    return _f(axis.scale) if axis.scale is not None else scales[0](axis.entry)


def _gathered(given: Given, axes: list[_Axis], scales: Expr, transformation: str, rounding: str) -> Expr:
    """Read the nearest element, of all dimensions at once."""

    def gather(x: Tensor, *variable: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            index = list(position)
            for axis in axes:
                place = position[axis.axis].astype("float32")
                source = _SOURCES[transformation](axis, _scale(axis, variable), place)
                nearest = _NEAREST[rounding](source).astype("int32")
                index[axis.axis] = tirx.max(tirx.min(nearest, axis.extent - 1), 0)
            return x(*index)

        return te.compute(given.shape, at)

    return given.compute(gather, given.data, *([] if scales is None else [scales]))


def _filtered(given: Given, data: Expr, axis: _Axis, scales: Expr, transformation: str) -> Expr:
    """Replace one dimension by weighted sums along it."""
    attributes = given.attributes
    reach, weigh = _FILTERS[attributes.get("mode", "nearest")]
    a = attributes.get("cubic_coeff_a", -0.75)
    antialias = bool(attributes.get("antialias", 0)) and axis.result < axis.extent
    taps = 2 * (math.ceil(reach * axis.extent / axis.result) + 1 if antialias else reach)
    inside_only = bool(attributes.get("exclude_outside", 0))

    def first(i: Expr, scale: Float) -> tuple[Float, Any]:
        place = _SOURCES[transformation](axis, scale, i.astype("float32"))
        return place, te.floor(place).astype("int32") - (taps // 2 - 1)

    def weights(*variable: Tensor) -> Expr:
        scale = _scale(axis, variable)

        def at(i: Expr, k: Expr) -> Expr:
            place, begin = first(i, scale)
            distance = te.abs(place - (begin + k).astype("float32"))
            weight: Expr = weigh(distance * scale if antialias else distance, a)
            if not inside_only:
                return weight
            inside = tirx.all(begin + k >= 0, begin + k < axis.extent)
            return tirx.Select(inside, weight, _f(0))

        return te.compute((axis.result, taps), at)

    def normal(weight: Tensor) -> Expr:
        k = te.reduce_axis((0, taps), "k")
        total = te.compute((axis.result,), lambda i: te.sum(weight(i, k), axis=[k]))
        return te.compute(weight.shape, lambda i, j: weight(i, j) / total(i))

    variable = [] if scales is None else [scales]
    table = given.compute(weights, *variable) if variable else given.compute(weights)
    if inside_only or antialias:
        table = given.compute(normal, table)
    shape = list(shape_of(data))
    shape[axis.axis] = axis.result
    dtype = given.dtype

    def sums(x: Tensor, weight: Tensor, *variable: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            i = position[axis.axis]
            _, begin = first(i, _scale(axis, variable))

            def term(k: Expr | int) -> Expr:
                index = list(position)
                index[axis.axis] = tirx.max(tirx.min(begin + k, axis.extent - 1), 0)
                return x(*index).astype("float32") * weight(i, k)

            total = term(0)
            for k in range(1, taps):
                total = total + term(k)
            return total.astype(dtype)

        return te.compute(shape, at)

    return given.compute(sums, data, table, *variable)


def _extrapolated(given: Given, data: Expr, axes: list[_Axis]) -> Expr:
    """Put a value wherever a place is outside of the source."""
    value = array(given.attributes.get("extrapolation_value", 0.0), given.dtype)

    def choose(x: Tensor, filling: Tensor) -> Expr:
        def at(*position: Expr) -> Expr:
            outside = []
            for axis in axes:
                place = position[axis.axis].astype("float32")
                source = _SOURCES["tf_crop_and_resize"](axis, _f(1), place)
                outside += [source < _f(0), source > _f(axis.extent - 1)]
            return tirx.Select(tirx.any(*outside), filling(), x(*position))

        return te.compute(given.shape, at)

    return given.compute(choose, data, value)


RESIZES: dict[str, Converter] = {"Resize": _resize, "Upsample": _resize}
