"""ONNX operators that only move elements, as changes of a view."""

from collections.abc import Callable

import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.lower import view
from edgec.compiler.lower.view import View


def _to_output_shape(node: onnx_ir.Node, source: View) -> list[View] | None:
    shape = shape_of(node.outputs[0])
    assert shape is not None, "the frontend leaves static shapes only"
    reshaped = view.reshape(source, shape)
    return None if reshaped is None else [reshaped]


def _transpose(node: onnx_ir.Node, source: View) -> list[View]:
    rank = len(source.shape)
    return [view.transpose(source, tuple(attribute(node, "perm", list(reversed(range(rank))))))]


def _slice(node: onnx_ir.Node, source: View) -> list[View]:
    starts, ends, axes, steps = (
        None if array is None else [int(i) for i in array]
        for array in (constant(value) for value in (*node.inputs[1:], None, None)[:4])
    )
    assert starts is not None, "accepts() saw constants"
    assert ends is not None, "accepts() saw constants"
    for i, axis in enumerate(axes or range(len(starts))):
        step = (steps or [1] * len(starts))[i]
        indices = range(source.shape[axis])[starts[i] : ends[i] : step]
        source = view.take(source, axis % len(source.shape), indices.start, len(indices), step)
    return [source]


def _split(node: onnx_ir.Node, source: View) -> list[View]:
    axis = attribute(node, "axis", 0) % len(source.shape)
    parts, start = [], 0
    for output in node.outputs:
        shape = shape_of(output)
        assert shape is not None, "the frontend leaves static shapes only"
        parts.append(view.take(source, axis, start, shape[axis]))
        start += shape[axis]
    return parts


def _gather(node: onnx_ir.Node, source: View) -> list[View]:
    index = constant(node.inputs[1])
    assert index is not None, "accepts() saw a constant"
    axis = attribute(node, "axis", 0) % len(source.shape)
    return [view.drop(view.take(source, axis, int(index) % source.shape[axis], 1), axis)]


def _depth_to_space(node: onnx_ir.Node, source: View) -> list[View] | None:
    n, c, h, w = source.shape
    b = attribute(node, "blocksize", 0)
    columns_first = attribute(node, "mode", "DCR") == "DCR"
    split = view.reshape(source, (n, b, b, c // b**2, h, w) if columns_first else (n, c // b**2, b, b, h, w))
    if split is None:
        return None
    return _to_output_shape(node, view.transpose(split, (0, 3, 4, 1, 5, 2) if columns_first else (0, 1, 4, 2, 5, 3)))


def _space_to_depth(node: onnx_ir.Node, source: View) -> list[View] | None:
    n, c, h, w = source.shape
    b = attribute(node, "blocksize", 0)
    split = view.reshape(source, (n, c, h // b, b, w // b, b))
    return None if split is None else _to_output_shape(node, view.transpose(split, (0, 3, 5, 1, 2, 4)))


MOVEMENTS: dict[str, Callable[[onnx_ir.Node, View], list[View] | None]] = {
    "DepthToSpace": _depth_to_space,
    "Flatten": _to_output_shape,
    "Gather": _gather,
    "Reshape": _to_output_shape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _to_output_shape,
    "Transpose": _transpose,
    "Unsqueeze": _to_output_shape,
}
"""Per operator: the views of its outputs, or None where the input must first be copied to row-major order."""


def accepts(node: onnx_ir.Node) -> bool:
    """Whether the node is a movement that is known at compile time."""
    if node.domain or node.op_type not in MOVEMENTS:
        return False
    if any(value is not None and constant(value) is None for value in node.inputs[1:]):
        return False
    if node.op_type == "Gather":
        index = constant(node.inputs[1])
        return index is not None and index.ndim == 0
    return all(shape_of(value) is not None for value in (*node.inputs[:1], *node.outputs) if value is not None)


def apply(node: onnx_ir.Node, source: View) -> list[View] | None:
    """Return the views of the node's outputs; None: copy the input to row-major order and ask again."""
    return MOVEMENTS[node.op_type](node, source)
