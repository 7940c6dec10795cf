"""Pooling windows, means and softmax."""

import decimal
import math
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.operators import view, window
from edgec.compiler.operators.builder import Builder, Codes, S
from edgec.compiler.operators.row import Request, emit
from edgec.compiler.operators.view import View
from edgec.kernels.operations import AveragePool, MaxPool, Mean, Softmax


def refuses_pool(node: onnx_ir.Node) -> str | None:
    """Return why no kernel pools so, or None."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return "pooling that also returns indices has no integer kernel"
    if reason := window.refusal(node):
        return reason
    if any(step != 1 for step in attribute(node, "dilations", [1])):
        if node.op_type != "MaxPool":
            return "dilated averages have no integer kernel"
        return None if _all_inside(node) else "a window that lies in its padding alone has no integer kernel"
    return None


def _all_inside(node: onnx_ir.Node) -> bool:
    """Whether every window has an element inside the image: dilated ones can straddle a small one."""
    place = window.window(node, tuple(attribute(node, "kernel_shape", ())))
    shapes = (value and shape_of(value) for value in (node.inputs[0], node.outputs[0]))
    extents, results = ((1, *(shape or ())[2:])[-2:] for shape in shapes)
    axes = zip(extents, results, place.kernel, place.strides, place.pads[:2], place.dilations, strict=True)
    return all(
        any(0 <= start * stride - pad + i * apart < extent for i in range(kernel))
        for extent, count, kernel, stride, pad, apart in axes
        for start in range(count)
    )


def pooled(builder: Builder, node: onnx_ir.Node, source: S) -> tuple[S, dict[str, Any]]:
    """Return the input as NHWC and the geometry of the window, its dilations left aside."""
    source = window.image(builder, source, str(node.name))
    n, c, h, w = source.view.shape
    place = window.window(node, tuple(attribute(node, "kernel_shape", ())))
    *_, oh, ow = (1, *(shape_of(node.outputs[0]) or ())[2:])
    return source, {
        "input_shape": (n, h, w, c),
        "output_shape": (n, oh, ow, c),
        "kernel": place.kernel,
        "strides": place.strides,
        "pads": place.pads[:2],
    }


def dilations(node: onnx_ir.Node) -> tuple[int, int]:
    """Return those of a pooling window, height first."""
    return window.window(node, tuple(attribute(node, "kernel_shape", ()))).dilations


def max_pool(builder: Builder, request: Request) -> Codes:
    """MaxPool at its input's own scale."""
    source, geometry = pooled(builder, request.node, request.inputs[0])
    operation = MaxPool(**geometry, dilations=dilations(request.node))
    return emit(builder, request, operation, (source.tensor,), window.result(request.shape))


def average_pool(builder: Builder, request: Request) -> Codes:
    """Average over windows, as a mean where one covers the image."""
    node, source = request.node, request.sources[0]
    if covers_image(node):
        return mean(builder, request)
    codes, geometry = pooled(builder, request.node, request.inputs[0])
    counts = window_counts(node, geometry)
    operation = AveragePool(
        multiplier=(source.scale / (request.output.scale * counts)).astype(np.float32),
        input_zero_point=source.zero_point, output_zero_point=request.output.zero_point,
        low=request.low, high=request.high, dtype=request.output.dtype, **geometry,
    )  # fmt: skip
    return emit(builder, request, operation, (codes.tensor,), window.result(request.shape))


def covers_image(node: onnx_ir.Node) -> bool:
    """Whether an AveragePool has one window, which covers the image: a mean."""
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    kernel = tuple(attribute(node, "kernel_shape", ()))
    return shape is not None and kernel == shape[2:] and not any(attribute(node, "pads", [0]))


def window_counts(node: onnx_ir.Node, geometry: dict[str, Any]) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Return by how many positions each window divides, [OH, OW]."""
    pads = window.window(node, tuple(attribute(node, "kernel_shape", ()))).pads
    counted = bool(attribute(node, "count_include_pad", 0))
    per_axis = []
    for axis in range(2):
        extent, outputs = geometry["input_shape"][1 + axis], geometry["output_shape"][1 + axis]
        begin, end = pads[axis], pads[axis + 2]
        starts = np.arange(outputs) * geometry["strides"][axis] - begin
        first, last = (-begin, extent + end) if counted else (0, extent)
        ends = np.minimum(starts + geometry["kernel"][axis], last)
        per_axis.append(ends - np.maximum(starts, first))
    return np.outer(*per_axis)


def _reduced_axes(node: onnx_ir.Node) -> tuple[int, ...] | None:
    """Return the axes of a mean, or None where they are no constant."""
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None:
        return None
    rank = len(shape)
    if node.op_type != "ReduceMean":
        return tuple(range(2, rank))
    given = attribute(node, "axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant(node.inputs[1])
        if array is None:
            return None
        given = array.tolist()
    if not given:
        return () if attribute(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(axis % rank for axis in given))


def refuses_mean(node: onnx_ir.Node) -> str | None:
    """Return why no kernel computes this mean, or None."""
    return "its axes aren't known at compile time" if _reduced_axes(node) is None else None


@dataclass(frozen=True, eq=False)
class Averaged(Generic[S]):
    """A mean as one over the middle of [outer, reduced, inner]."""

    source: S
    outer: int
    reduced: int
    inner: int
    result: View
    """How the result lies."""


def averaged(builder: Builder, node: onnx_ir.Node, source: S) -> Averaged[S]:
    """Bring the dimensions that a mean reduces next to each other."""
    axes = _reduced_axes(node)
    assert axes is not None, "refuses() saw them"
    shape, name = source.view.shape, str(node.name)
    source = builder.dense(source, name)
    order = view.dense_order(source.view)
    assert order is not None, "dense() said so"
    if not _adjacent(shape, order, axes):
        order = (*(axis for axis in order if axis not in axes), *axes)
        source = builder.arranged(source, view.ordered(shape, order), name)
    places = [place for place, axis in enumerate(order) if axis in axes and shape[axis] > 1]
    first, last = (places[0], places[-1] + 1) if places else (0, 0)
    kept = view.ordered(tuple(1 if axis in axes else n for axis, n in enumerate(shape)), order)
    if len(shape_of(node.outputs[0]) or ()) != len(shape):
        kept = view.transpose(kept, tuple(axis for axis in range(len(shape)) if axis not in axes))
    return Averaged(
        source,
        math.prod(shape[axis] for axis in order[:first]),
        math.prod(shape[axis] for axis in axes),
        math.prod(shape[axis] for axis in order[last:]),
        kept,
    )


def mean(builder: Builder, request: Request) -> Codes:
    """Average over whole dimensions."""
    given = averaged(builder, request.node, request.inputs[0])
    source, output = request.sources[0], request.output
    operation = Mean(
        outer=given.outer, reduced=given.reduced, inner=given.inner,
        multiplier=float(np.float32(source.scale / (output.scale * given.reduced))),
        input_zero_point=source.zero_point, output_zero_point=output.zero_point,
        low=request.low, high=request.high, dtype=output.dtype,
    )  # fmt: skip
    return emit(builder, request, operation, (given.source.tensor,), given.result)


def _adjacent(shape: tuple[int, ...], order: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether the reduced dimensions lie next to each other in the buffer; extents of 1 lie anywhere."""
    reduced = [axis in axes for axis in order if shape[axis] > 1]
    return True not in reduced or all(reduced[reduced.index(True) :][: sum(reduced)])


def softmax(builder: Builder, request: Request) -> Codes:
    """Exponentials of a row, from a table, divided by their sum."""
    shape = request.inputs[0].view.shape
    axis = attribute(request.node, "axis", -1) % len(shape)
    codes = builder.dense(request.inputs[0], request.name)
    order = view.dense_order(codes.view)
    assert order is not None, "dense() said so"
    if order[-1] != axis:
        order = (*(other for other in range(len(shape)) if other != axis), axis)
        codes = builder.arranged(codes, view.ordered(shape, order), request.name)
    length = shape[axis]
    bits = min(30, ((2**31 - 1) // length).bit_length() - 1)  # the sum of a row stays below 2**31
    operation = Softmax(
        outer=math.prod(shape) // length, length=length,
        table=_exponentials(request.sources[0].scale, bits),
        inverse_scale=float(np.float32(1 / request.output.scale)),
        output_zero_point=request.output.zero_point, dtype=request.output.dtype,
    )  # fmt: skip
    return emit(builder, request, operation, (codes.tensor,), view.ordered(shape, order))


def _exponentials(scale: float, bits: int) -> "np.ndarray[Any, np.dtype[np.int32]]":
    """Return exp(-i * scale) for i from 0 to 255, in units of 2**-bits, to the nearest.

    In decimal: thirty bits are close to all that float64 has, and its last ones differ between CPUs.
    """
    with decimal.localcontext(prec=40):
        exact = [(decimal.Decimal(-i * scale).exp() * 2**bits).to_integral_value() for i in range(256)]
    return np.array([int(value) for value in exact], np.int32)
