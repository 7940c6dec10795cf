"""Normalizations: of rows, of channels over an image, of groups of channels; all one operation."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.graph import attribute, shape_of
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, Codes, S, Seen
from edgec.compiler.operators.constants import known
from edgec.compiler.operators.row import FloatRequest, Request, emit, emit_float
from edgec.kernels.operations import LONGEST_NORMALIZED, FloatNormalize, Normalize, NormKind

_SMALLEST_EPSILON = 2.0**-40
"""Vanishes beside any sum of integers but 0, whose root it keeps from being divided by."""
_LARGEST_FACTOR = 1e30
"""Far out of int8 with any element but 0, which times a larger factor might be NaN."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """What a node normalizes, in ONNX's order of dimensions."""

    kind: NormKind
    axes: tuple[int, ...]
    """Those that the kernel normalizes together with, or behind, each other: the innermost ones."""
    groups: int
    """Into which the innermost axis is divided."""
    rows: tuple[int, ...]
    """Axes that are normalized over, outside of `axes`."""
    root: bool
    """Whether the squares' mean is divided by, and not their sum."""
    epsilon: float
    scale: NDArray[np.float64]
    """An array of the extents of `axes`."""
    bias: NDArray[np.float64]


def refuses(node: onnx_ir.Node) -> str | None:
    """Return why no kernel normalizes so, or None."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return "a normalization that also returns what it divided by has no integer kernel"
    if node.op_type == "LpNormalization" and attribute(node, "p", 2) not in (1, 2):
        return "a norm other than 1 or 2 has no integer kernel"
    source = node.inputs[0]
    shape = shape_of(source) if source is not None else None
    if shape is None or source is None or source.dtype != onnx_ir.DataType.FLOAT:
        return "its shape isn't known at compile time, or it isn't float"
    if any(value is not None and known(value) is None for value in node.inputs[1:]):
        return "its scale or bias isn't constant"
    try:
        found = normalization(node)
    except ValueError:
        return "its scale or bias doesn't fit what it normalizes"
    count = math.prod(shape[axis] for axis in (*found.rows, *found.axes)) // found.groups
    if count > LONGEST_NORMALIZED:
        return f"it normalizes {count} elements together, and {LONGEST_NORMALIZED} are the most"
    return None


def normalization(node: onnx_ir.Node) -> Normalization:
    """Return what a node normalizes; raises ValueError where its constants don't fit."""
    shape = (shape_of(node.inputs[0]) if node.inputs[0] is not None else None) or ()
    rank = len(shape)
    epsilon = float(attribute(node, "epsilon", 1e-5))
    if node.op_type == "LpNormalization":
        axis = attribute(node, "axis", -1) % rank
        kind: NormKind = "squares" if attribute(node, "p", 2) == 2 else "magnitudes"
        extent = shape[axis : axis + 1]
        return Normalization(kind, (axis,), 1, (), False, 0.0, np.ones(extent), np.zeros(extent))
    constants = [_constant(node, index) for index in (1, 2)]
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        axes = tuple(range(attribute(node, "axis", -1) % rank, rank))
        extents = tuple(shape[axis] for axis in axes)
        scale, bias = (
            np.broadcast_to(default if array is None else array, extents)
            for array, default in zip(constants, (np.ones(()), np.zeros(())), strict=True)
        )
        centred = node.op_type == "LayerNormalization"
        return Normalization(
            "variance" if centred else "squares", axes, 1, (), not centred, epsilon, scale, bias
        )
    channels = shape[1]
    groups = attribute(node, "num_groups", channels)  # InstanceNormalization: each channel
    scale, bias = (np.zeros(0) if array is None else array.reshape(-1) for array in constants)
    if scale.size != channels or bias.size != channels:
        raise ValueError  # before opset 21, where it is deprecated, groups have a scale each
    return Normalization("variance", (1,), groups, tuple(range(2, rank)), False, epsilon, scale, bias)


def _constant(node: onnx_ir.Node, index: int) -> NDArray[np.float64] | None:
    array = known(node.inputs[index]) if len(node.inputs) > index else None
    return None if array is None else array.astype(np.float64)


def normalize(builder: Builder, request: Request) -> Codes:
    """Normalize, with what is normalized together innermost."""
    found, shape = normalization(request.node), request.inputs[0].view.shape
    codes, order, places = _arranged(builder, request.inputs[0], found, request.name)
    rows, channels = (math.prod(shape[axis] for axis in axes) for axes in (found.rows, found.axes))
    count = rows * channels // found.groups
    source, output = request.sources[0].scale, request.output.scale
    per_mean = {"variance": count**2, "squares": count, "magnitudes": 1}[found.kind]
    factor = math.sqrt(count) if found.root else 1.0
    operation = Normalize(
        kind=found.kind, outer=math.prod(shape) // (rows * channels), rows=rows, groups=found.groups,
        length=channels // found.groups,
        epsilon=float(np.float32(max(found.epsilon * per_mean / source**2, _SMALLEST_EPSILON))),
        multiplier=_steps(found.scale.transpose(places) * factor, output),
        bias=_steps(found.bias.transpose(places), output),
        input_zero_point=request.sources[0].zero_point, output_zero_point=request.output.zero_point,
        low=request.low, high=request.high, dtype=request.output.dtype,
    )  # fmt: skip
    return emit(builder, request, operation, (codes.tensor,), view.ordered(shape, order))


def float_normalize(builder: Builder, request: FloatRequest) -> Seen:
    """Normalize rows of floats; of their constants the order is that of the axes."""
    found, shape = normalization(request.node), request.inputs[0].view.shape
    assert found.kind != "magnitudes", "rows of the table with a float form have none"
    source, order, places = _arranged(builder, request.inputs[0], found, request.name)
    scale, bias = (
        array.transpose(places).reshape(-1).astype(np.float32) for array in (found.scale, found.bias)
    )
    epsilon = float(np.float32(found.epsilon))
    operation = FloatNormalize(found.kind, math.prod(shape) // scale.size, scale.size, epsilon, scale, bias)
    return emit_float(builder, request, operation, (source.tensor,), view.ordered(shape, order))


def _arranged(
    builder: Builder, value: S, found: Normalization, name: str
) -> tuple[S, tuple[int, ...], tuple[int, ...]]:
    """Return an input as it is to lie, that order of its axes, and of its constants' axes likewise."""
    value = builder.dense(value, name)
    lies = view.dense_order(value.view)
    assert lies is not None, "dense() said so"
    order = _order(lies, found)
    places = tuple(found.axes.index(axis) for axis in order[len(order) - len(found.axes) :])
    return builder.arranged(value, view.ordered(value.view.shape, order), name), order, places


def _steps(values: NDArray[np.float64], step: float) -> NDArray[np.float32]:
    """Return numbers, flat, in steps of the result."""
    flat: Array = np.clip(values.reshape(-1) / step, -_LARGEST_FACTOR, _LARGEST_FACTOR)
    return flat.astype(np.float32)


def _order(lies: tuple[int, ...], found: Normalization) -> tuple[int, ...]:
    """Return how the input is to lie: as it does, but rows and then the normalized axes innermost."""
    outer = tuple(axis for axis in lies if axis not in (*found.rows, *found.axes))
    parts = outer, *(tuple(axis for axis in lies if axis in axes) for axes in (found.rows, found.axes))
    return tuple(axis for part in parts for axis in part)
