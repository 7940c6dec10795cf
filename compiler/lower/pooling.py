"""Pooling windows, means and softmax."""

import math
from typing import Any

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.lower import view
from edgec.compiler.lower.builder import Builder, Codes
from edgec.compiler.lower.layer import Layer, Request, emit
from edgec.compiler.lower.view import View
from edgec.kernels.operators import AveragePool, MaxPool, Mean, Softmax


def _accepts_pool(node: onnx_ir.Node) -> str | None:
    shape = shape_of(node.outputs[0])
    if shape is None or len(shape) != 4:
        return "only 2-D pooling has an integer kernel"
    if any(step != 1 for step in attribute(node, "dilations", [1])):
        return "dilated pooling has no integer kernel"
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "auto_pad isn't explicit"
    if len([output for output in node.outputs if output is not None and output.uses()]) > 1:
        return "pooling that also returns indices has no integer kernel"
    return None


def _pool(builder: Builder, request: Request) -> tuple[Codes, dict[str, Any]]:
    """Return the input as NHWC and the geometry of the window."""
    node = request.node
    source = builder.natural(request.inputs[0], request.name)
    n, c, h, w = source.view.shape
    shape = shape_of(node.outputs[0])
    assert shape is not None, "accepts() saw it"
    pads = attribute(node, "pads", [0, 0, 0, 0])
    return source, {
        "input_shape": (n, h, w, c),
        "output_shape": (shape[0], shape[2], shape[3], shape[1]),
        "kernel": tuple(attribute(node, "kernel_shape", [1, 1])),
        "strides": tuple(attribute(node, "strides", [1, 1])),
        "pads": (pads[0], pads[1]),
    }


def _max_pool(builder: Builder, request: Request) -> Codes:
    """MaxPool at its input's own scale."""
    source, geometry = _pool(builder, request)
    shape = shape_of(request.node.outputs[0])
    assert shape is not None, "accepts() saw it"
    return emit(builder, request, MaxPool(**geometry), source.tensor, view.natural(shape))


def _average_pool(builder: Builder, request: Request) -> Codes:
    node = request.node
    pads = attribute(node, "pads", [0, 0, 0, 0])
    if tuple(attribute(node, "kernel_shape", ())) == request.inputs[0].view.shape[2:] and not any(pads):
        return _mean(builder, request)  # one window that covers the image
    source, geometry = _pool(builder, request)
    counts = []
    for axis, (extent, pad) in enumerate(zip(geometry["input_shape"][1:3], ((0, 2), (1, 3)), strict=True)):
        starts = np.arange(geometry["output_shape"][1 + axis]) * geometry["strides"][axis] - pads[pad[0]]
        ends = starts + geometry["kernel"][axis]
        first, last = (-pads[pad[0]], extent + pads[pad[1]]) if attribute(node, "count_include_pad", 0) else (0, extent)
        counts.append(np.minimum(ends, last) - np.maximum(starts, first))
    ratio = request.source.scale / request.output.scale
    multiplier = (ratio / np.outer(*counts)).astype(np.float32)
    operation = AveragePool(
        multiplier=multiplier, input_zero_point=request.source.zero_point,
        output_zero_point=request.output.zero_point, low=request.low, high=request.high, **geometry,
    )  # fmt: skip
    shape = shape_of(node.outputs[0])
    assert shape is not None, "accepts() saw it"
    return emit(builder, request, operation, source.tensor, view.natural(shape))


def _reduced_axes(node: onnx_ir.Node) -> tuple[int, ...] | None:
    """Return the axes of a mean, or None where they are no constant."""
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None:
        return None
    rank = len(shape)
    if node.op_type in ("GlobalAveragePool", "AveragePool"):
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


def _accepts_mean(node: onnx_ir.Node) -> str | None:
    return None if _reduced_axes(node) else "its axes aren't known at compile time"


def _mean(builder: Builder, request: Request) -> Codes:
    axes = _reduced_axes(request.node)
    assert axes, "accepts() saw them"
    shape = request.inputs[0].view.shape
    source = builder.dense(request.inputs[0], request.name)
    order = view.dense_order(source.view)
    assert order is not None, "dense() said so"
    reduced = [i for i, axis in enumerate(order) if axis in axes and shape[axis] > 1]
    if reduced and reduced[-1] - reduced[0] + 1 != len(
        [i for i in range(reduced[0], reduced[-1] + 1) if order[i] in axes or shape[order[i]] == 1]
    ):
        order = (*(axis for axis in order if axis not in axes), *axes)
        source = builder.arranged(source, view.ordered(shape, order), request.name)
        reduced = [i for i, axis in enumerate(order) if axis in axes]
    first, last = (reduced[0], reduced[-1]) if reduced else (0, -1)
    count = math.prod(shape[axis] for axis in axes)
    extents = [shape[axis] for axis in order]
    operation = Mean(
        outer=math.prod(extents[:first]), reduced=count, inner=math.prod(extents[last + 1 :]),
        multiplier=float(np.float32(request.source.scale / (request.output.scale * count))),
        input_zero_point=request.source.zero_point, output_zero_point=request.output.zero_point,
        low=request.low, high=request.high,
    )  # fmt: skip
    kept = view.ordered(tuple(1 if axis in axes else n for axis, n in enumerate(shape)), order)
    wanted = shape_of(request.node.outputs[0])
    assert wanted is not None, "the frontend leaves static shapes only"
    if len(wanted) != len(shape):
        keeping = [axis for axis in range(len(shape)) if axis not in axes]
        kept = View(tuple(shape[a] for a in keeping), tuple(kept.strides[a] for a in keeping))
    return emit(builder, request, operation, source.tensor, kept)


def _softmax(builder: Builder, request: Request) -> Codes:
    shape = request.inputs[0].view.shape
    axis = attribute(request.node, "axis", -1) % len(shape)
    source = builder.dense(request.inputs[0], request.name)
    order = view.dense_order(source.view)
    assert order is not None, "dense() said so"
    if order[-1] != axis:
        order = (*(a for a in range(len(shape)) if a != axis), axis)
        source = builder.arranged(source, view.ordered(shape, order), request.name)
    length = shape[axis]
    bits = math.floor(math.log2((2**31 - 1) / length))
    exponents = np.exp(-np.arange(256) * np.float64(request.source.scale))
    operation = Softmax(
        outer=math.prod(shape) // length, length=length,
        table=np.rint(exponents * 2.0 ** min(bits, 30)).astype(np.int32),
        inverse_scale=float(np.float32(1 / request.output.scale)),
        output_zero_point=request.output.zero_point,
    )  # fmt: skip
    return emit(builder, request, operation, source.tensor, view.ordered(shape, order))


REDUCTIONS = {
    "AveragePool": Layer(_average_pool, _accepts_pool),
    "GlobalAveragePool": Layer(_mean, _accepts_mean),
    "ReduceMean": Layer(_mean, _accepts_mean),
    "Softmax": Layer(_softmax),
}

MAX_POOLS = {"MaxPool": Layer(_max_pool, _accepts_pool)}
