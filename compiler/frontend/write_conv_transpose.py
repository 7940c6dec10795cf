"""A transposed convolution is a convolution of as many results as there are positions between its pixels.

Shi et al., "Is the deconvolution layer the same as a convolutional layer?", arXiv 1609.07009.
"""

import math
from dataclasses import dataclass, replace
from itertools import product, starmap

import numpy as np
import onnx_ir

from edgec.arrays import Array
from edgec.compiler.graph import (
    add_initializer,
    add_node,
    attribute,
    constant,
    replace_value,
    reshaped,
    shape_of,
    transposed,
)
from edgec.compiler.operators.constants import known
from edgec.compiler.operators.nodes import tail
from edgec.compiler.operators.product_form import ScaledWeights, scaled_weights
from edgec.compiler.operators.window import transposed_pads

_RANKS = (3, 4)
"""Dimensions of signals and images, for which there are kernels."""


@dataclass(frozen=True)
class _Axis:
    """One spatial dimension. Result o = q * stride + phase is the sum over taps t of x[q + first + t]."""

    extent: int
    """How many elements the result has, with those in front that are cut off."""
    stride: int
    pad: int
    dilation: int
    kernel: int
    skipped: int = 0
    """Elements that are cut off in front."""

    @property
    def aligned(self) -> "_Axis":
        """The same axis, begun where a pixel's own elements begin: no other start has fewer taps."""
        more = self.pad % self.stride
        return replace(self, extent=self.extent + more, pad=self.pad - more, skipped=more)

    def phase(self, k: int) -> int:
        """Return the position between pixels that element k of the kernel adds to."""
        return (k * self.dilation - self.pad) % self.stride

    def offset(self, k: int) -> int:
        """Return which pixel it adds there, from that of the same number."""
        return (self.phase(k) + self.pad - k * self.dilation) // self.stride

    @property
    def first(self) -> int:
        """The first pixel of a window, none later than that of the same number."""
        return min(0, *map(self.offset, range(self.kernel)))

    @property
    def taps(self) -> int:
        """How many pixels a window has."""
        return max(0, *map(self.offset, range(self.kernel))) - self.first + 1

    @property
    def windows(self) -> int:
        """Windows that make up the result."""
        return -(-self.extent // self.stride)


def write_conv_transpose(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with ConvTranspose by constant weights as Conv, its results put between each other.

    ConvTranspose(x, w[C, M, 2, 2], strides=2)
      --> Reshape(Transpose(Reshape(Conv(x, w'[4 * M, C, 1, 1]), [N, 2, 2, M, H, W])), [N, M, 2 * H, 2 * W])

    A window of Conv has the taps of all four; those that one hasn't are 0. Limits behind it come before the
    movement. What has no static shape, or isn't of float32, stays.
    """
    model = model.clone()
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "ConvTranspose":
            _rewrite(node)
    return model


def _rewrite(node: onnx_ir.Node) -> None:
    graph, source, weights = node.graph, node.inputs[0], node.inputs[1]
    given = constant(weights) if weights is not None else None
    scaled = scaled_weights(node) if given is None else None
    bias = known(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    shapes = [shape_of(value) if value is not None else None for value in (source, weights, node.outputs[0])]
    if not isinstance(graph, onnx_ir.Graph) or source is None or source.dtype != onnx_ir.DataType.FLOAT:
        return
    if (given is None and scaled is None) or (len(node.inputs) > 2 and node.inputs[2] and bias is None):
        return
    if shapes[0] is None or shapes[1] is None or shapes[2] is None or len(shapes[0]) not in _RANKS:
        return
    if 0 in (*shapes[0], *shapes[1], *shapes[2]) or len(shapes[2]) != len(shapes[0]):
        return  # ONNX's inference breaks off where output_shape is less than the input's
    groups, outputs = attribute(node, "group", 1), shapes[2][1]
    axes = _axes(node, shapes[0], shapes[1], shapes[2])
    phases = math.prod(axis.stride for axis in axes)
    name = str(node.name)
    if given is not None:
        inputs: list[onnx_ir.Value | None] = [
            source, add_initializer(graph, f"{name}_weights", _arranged(given, np.zeros(1), groups, axes))
        ]  # fmt: skip
    else:
        assert scaled is not None, "one or the other"
        inputs = [source, _dequantized(node, scaled, groups, axes)]
    if bias is not None:
        each = np.tile(bias, phases) if groups == 1 else np.repeat(bias, phases)
        inputs.append(add_initializer(graph, f"{name}_bias", each.astype(np.float32)))
    begins = [-axis.first for axis in axes]
    ends = [
        max(0, axis.windows - extent - begin + axis.taps - 1)
        for axis, extent, begin in zip(axes, shapes[0][2:], begins, strict=True)
    ]
    extents = [
        extent + begin + end - axis.taps + 1
        for axis, extent, begin, end in zip(axes, shapes[0][2:], begins, ends, strict=True)
    ]
    shape = (shapes[0][0], outputs * phases, *extents)
    result = add_node(
        node, "Conv", inputs, {"group": groups, "pads": [*begins, *ends]}, name, shape, source.dtype
    )
    clips = tail(node)
    for clip in clips:
        limits = list(clip.inputs[1:])
        clip_name = f"{clip.name}_before"
        result = add_node(
            node, clip.op_type, [result, *limits], dict(clip.attributes), clip_name, shape, source.dtype
        )
    last = clips[-1] if clips else node
    result = _between(node, result, axes, groups, shape, shapes[2])
    replace_value(last.outputs[0], result)
    graph.remove([*reversed(clips), node], safe=True)


def _axes(
    node: onnx_ir.Node, source: tuple[int, ...], weights: tuple[int, ...], result: tuple[int, ...]
) -> list[_Axis]:
    """Return the spatial dimensions of a node, aligned with its results or with its input."""
    count = len(source) - 2
    strides, dilations = (attribute(node, name, [1] * count) for name in ("strides", "dilations"))
    more = attribute(node, "output_padding", [0] * count)
    totals = [
        max(0, stride * (extent - 1) + (window - 1) * dilation + 1 + added - wanted)
        for stride, extent, window, dilation, added, wanted in zip(
            strides, source[2:], weights[2:], dilations, more, result[2:], strict=True
        )
    ]
    given = None if "output_shape" in node.attributes else attribute(node, "pads", [0] * 2 * count)
    pads = transposed_pads(attribute(node, "auto_pad", "NOTSET"), given, totals)
    parts = zip(result[2:], strides, pads, dilations, weights[2:], strict=True)
    return [min(axis, axis.aligned, key=lambda one: one.taps) for axis in starmap(_Axis, parts)]


def _arranged(weights: Array, filling: Array, groups: int, axes: list[_Axis]) -> Array:
    """Return weights [inputs, outputs of a group, *kernel] as those of the convolution.

    [results, inputs of a group, *taps]; phases are outermost, or innermost where there are groups. `filling`,
    one number or one for each output of a group, is where there is nothing.
    """
    split = weights.reshape(groups, -1, *weights.shape[1:])
    extents = *(axis.stride for axis in axes), groups, split.shape[2], split.shape[1]
    made = np.empty((*extents, *(axis.taps for axis in axes)), weights.dtype)
    made[...] = filling.reshape(-1, 1, *[1] * len(axes))
    for place in product(*(range(axis.kernel) for axis in axes)):
        phase = tuple(axis.phase(k) for axis, k in zip(axes, place, strict=True))
        tap = tuple(axis.offset(k) - axis.first for axis, k in zip(axes, place, strict=True))
        every = slice(None), slice(None), slice(None)
        made[phase + every + tap] = split[every + place].swapaxes(1, 2)
    if groups > 1:
        made = np.moveaxis(made, range(len(axes)), range(2, 2 + len(axes)))
    return np.ascontiguousarray(made.reshape(-1, split.shape[1], *(axis.taps for axis in axes)))


def _dequantized(node: onnx_ir.Node, weights: ScaledWeights, groups: int, axes: list[_Axis]) -> onnx_ir.Value:
    """Return quantized weights so arranged, dequantized again with a scale for each result."""
    graph, name = node.graph, f"{node.name}_weights"
    integers = constant(weights.dequantize.inputs[0])
    assert isinstance(graph, onnx_ir.Graph)
    assert integers is not None, "scaled_weights() saw them"
    zeros = np.zeros(1) if weights.zero_points is None else weights.zero_points
    arranged = _arranged(integers, zeros, groups, axes)
    phases = math.prod(axis.stride for axis in axes)

    def each(values: Array) -> Array:
        spread = np.tile(values, groups)
        return np.tile(spread, phases) if groups == 1 else np.repeat(spread, phases)

    inputs: list[onnx_ir.Value | None] = [
        add_initializer(graph, f"{name}_quantized", arranged),
        add_initializer(graph, f"{name}_scales", each(weights.scales).astype(np.float32)),
    ]
    if weights.zero_points is not None:
        inputs.append(add_initializer(graph, f"{name}_zeros", each(weights.zero_points)))
    old = weights.dequantize.outputs[0]
    return add_node(node, "DequantizeLinear", inputs, {"axis": 0}, name, arranged.shape, old.dtype)


def _between(
    node: onnx_ir.Node, value: onnx_ir.Value, axes: list[_Axis], groups: int, shape: tuple[int, ...],
    wanted: tuple[int, ...],
) -> onnx_ir.Value:  # fmt: skip
    """Put the results of each pixel between those of its neighbours, and cut off what is too many."""
    count, name = len(axes), str(node.name)
    strides, extents = [axis.stride for axis in axes], shape[2:]
    if any(stride > 1 for stride in strides):
        if groups == 1:
            split = (shape[0], *strides, wanted[1], *extents)
            phase, channels = 1, 1 + count
        else:
            split = (shape[0], wanted[1], *strides, *extents)
            phase, channels = 2, 1
        order = [0, channels]
        for i in range(count):
            order += [2 + count + i, phase + i]
        value = reshaped(node, value, split, "phases")
        value = transposed(node, value, order, "between")
        whole = (shape[0], wanted[1], *(e * s for e, s in zip(extents, strides, strict=True)))
        value = reshaped(node, value, whole, "whole")
        extents = whole[2:]
    if extents == wanted[2:]:
        return value
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph)
    starts = np.array([axis.skipped for axis in axes])
    numbers = [starts, starts + wanted[2:], np.arange(2, 2 + count)]
    given = [
        add_initializer(graph, f"{name}_{what}", array)
        for what, array in zip(("starts", "ends", "axes"), numbers, strict=True)
    ]
    return add_node(node, "Slice", [value, *given], {}, f"{name}_cut", wanted, value.dtype)
