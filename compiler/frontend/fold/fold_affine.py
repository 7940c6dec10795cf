"""Fold a per-channel scale or offset into the weights before it."""

from collections.abc import Callable

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.graph import (
    add_initializer,
    attribute,
    constant,
    fits,
    only_consumer,
    replace_value,
    shape_of,
)
from edgec.compiler.operators.product_form import bias_of, output_axis, scaled_weights, unscaled

_PRODUCERS = ("Conv", "ConvTranspose", "Gemm")


def fold_affine(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with arithmetic by per-channel constants folded into Conv, ConvTranspose and Gemm.

    Add(Mul(Conv(x, weights, bias), factor), offset) --> Conv(x, factor * weights, factor * bias + offset)
    Sub(Div(Conv(x, weights, bias), factor), offset) --> Conv(x, weights / factor, bias / factor - offset)
    Sub(offset, Conv(x, weights, bias))              --> Conv(x, -weights, offset - bias)

    What the weights' type can't hold isn't folded. Factors of quantized weights go into their scales.
    """
    model = model.clone()
    for node in list(model.graph):
        if node.op_type in _PRODUCERS and not node.domain:
            while _fold_consumer(node):
                pass
    return model


_Channels = NDArray[np.float64]
_Affine = tuple[_Channels | None, _Channels | None]
"""Factors and offsets, one per channel each; None for factors of 1 and offsets of 0."""


def _divided(channels: _Channels, first: bool) -> _Affine:
    return (1 / channels if first and np.all(channels) else None), None


_AFFINE: dict[str, Callable[[_Channels, bool], _Affine]] = {
    "Add": lambda channels, _first: (None, channels),
    "Div": _divided,
    "Mul": lambda channels, _first: (channels, None),
    "Sub": lambda channels, first: (None, -channels) if first else (-np.ones_like(channels), channels),
}
"""By operator: what it does with a result, by a constant of one number per channel; `first` tells whether the
result is its first input. Neither factors nor offsets where that can't be said."""


def _fold_consumer(node: onnx_ir.Node) -> bool:
    """Fold the one node that reads `node`, if it is affine per channel; return whether it was."""
    graph, weights = node.graph, constant(node.inputs[1])
    consumer = only_consumer(node.outputs[0])
    if consumer is None or consumer.op_type not in _AFFINE or consumer.domain:
        return False
    held = scaled_weights(node) if weights is None and node.op_type != "ConvTranspose" else None
    if weights is None and held is None:
        return False
    if not unscaled(node):
        return False  # a Gemm that normalize_gemm couldn't put in its one form
    first = consumer.inputs[0] is node.outputs[0]
    channels = _per_channel(
        constant(consumer.inputs[first]), shape_of(node.outputs[0]), shape_of(consumer.outputs[0])
    )
    if channels is None or not isinstance(graph, onnx_ir.Graph):
        return False
    factors, offsets = _AFFINE[consumer.op_type](channels, first)
    if factors is None and offsets is None:
        return False
    old = bias_of(node, len(channels))
    if old is None:
        return False
    new_weights = None if factors is None or weights is None else _scaled(node, weights, factors)
    new_bias = (old if factors is None else old * factors) + (0 if offsets is None else offsets)
    dtype = np.dtype(np.float32) if weights is None else weights.dtype
    if not all(fits(array, dtype) for array in (new_weights, new_bias) if array is not None):
        return False
    if held is not None and factors is not None:
        if not fits(factors, dtype) or not np.all(factors):
            return False
        held.write(node, factors)
    if new_weights is not None:
        value = add_initializer(graph, f"{node.name}_weights", new_weights.astype(dtype))
        node.replace_input_with(1, value)
    if (len(node.inputs) > 2 and node.inputs[2] is not None) or offsets is not None:
        node.resize_inputs(3)
        value = add_initializer(graph, f"{node.name}_bias", new_bias.astype(dtype))
        node.replace_input_with(2, value)
    replace_value(consumer.outputs[0], node.outputs[0])
    graph.remove(consumer, safe=True)
    return True


def _per_channel(
    array: Array | None, shape: tuple[int, ...] | None, result: tuple[int, ...] | None
) -> NDArray[np.float64] | None:
    """Return the constant operand as one float64 per channel (axis 1), or None where it isn't that."""
    if array is None or shape is None or shape != result:
        return None
    extents = (1,) * (len(shape) - array.ndim) + array.shape
    if len(extents) != len(shape) or any(extent != 1 for axis, extent in enumerate(extents) if axis != 1):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (shape[1],))


def _scaled(node: onnx_ir.Node, weights: Array, channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights in float64, each output channel multiplied by its factor."""
    wide = weights.astype(np.float64)
    if node.op_type != "ConvTranspose":
        return wide * channels.reshape([-1 if i == output_axis(node) else 1 for i in range(wide.ndim)])
    groups = attribute(node, "group", 1)  # weights [inputs, outputs / groups, ...]: an input's group decides
    per_input = np.repeat(channels.reshape(groups, -1), wide.shape[0] // groups, axis=0)
    return wide * per_input.reshape(*per_input.shape, *[1] * (wide.ndim - 2))
