"""ONNX operators that only move elements, as changes of a view."""

from collections.abc import Callable
from typing import Any

import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, S


def _to_output_shape(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    shape = shape_of(node.outputs[0])
    assert shape is not None, "accepts() saw it"
    return [builder.reshape(source, shape, str(node.name))]


def _transpose(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    del builder
    rank = len(source.view.shape)
    order = attribute(node, "perm", list(reversed(range(rank))))
    return [source.seen(view.transpose(source.view, tuple(order)))]


def _slice(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    del builder
    seen = source.view
    given = [constant(value) for value in node.inputs[1:]]
    starts, ends, axes, steps = (
        None if array is None else [int(i) for i in array] for array in (*given, None, None)[:4]
    )
    assert starts is not None, "accepts() saw constants"
    assert ends is not None, "accepts() saw constants"
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        indices = range(seen.shape[axis])[start:end:step]
        seen = view.take(seen, axis % len(seen.shape), indices.start, len(indices), step)
    return [source.seen(seen)]


def _split(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    del builder
    axis = attribute(node, "axis", 0) % len(source.view.shape)
    parts, start = [], 0
    for output in node.outputs:
        shape = shape_of(output)
        assert shape is not None, "accepts() saw it"
        parts.append(source.seen(view.take(source.view, axis, start, shape[axis])))
        start += shape[axis]
    return parts


def _gather(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    del builder
    index = constant(node.inputs[1])
    assert index is not None, "accepts() saw a constant"
    axis = attribute(node, "axis", 0) % len(source.view.shape)
    one = view.take(source.view, axis, int(index) % source.view.shape[axis], 1)
    return [source.seen(view.drop(one, axis))]


def _depth_to_space(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    n, c, h, w = source.view.shape
    b = attribute(node, "blocksize", 0)
    depth_first = attribute(node, "mode", "DCR") == "DCR"
    split, order = (
        ((n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2))
        if depth_first
        else ((n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3))
    )
    blocks = builder.reshape(source, split, str(node.name))
    return _to_output_shape(builder, node, blocks.seen(view.transpose(blocks.view, order)))


def _space_to_depth(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    n, c, h, w = source.view.shape
    b = attribute(node, "blocksize", 0)
    blocks = builder.reshape(source, (n, c, h // b, b, w // b, b), str(node.name))
    depth_first = attribute(node, "mode", "DCR") == "DCR"
    order = (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4)
    return _to_output_shape(builder, node, blocks.seen(view.transpose(blocks.view, order)))


MOVEMENTS: dict[str, Callable[[Builder, onnx_ir.Node, Any], list[Any]]] = {
    "DepthToSpace": _depth_to_space,
    "Flatten": _to_output_shape,
    "Gather": _gather,
    "Identity": lambda _builder, _node, source: [source],
    "Reshape": _to_output_shape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _to_output_shape,
    "Transpose": _transpose,
    "Unsqueeze": _to_output_shape,
}
"""Per operator: its outputs, as views of its input where strides can say it, else of a copy."""


def accepts(node: onnx_ir.Node) -> bool:
    """Whether the node is a movement that is known at compile time."""
    if node.domain or node.op_type not in MOVEMENTS:
        return False
    if any(value is not None and constant(value) is None for value in node.inputs[1:]):
        return False
    if any(value is None or shape_of(value) is None for value in (node.inputs[0], *node.outputs)):
        return False
    if not _well_formed(node):
        return False
    index = constant(node.inputs[1]) if node.op_type == "Gather" else None
    return node.op_type != "Gather" or (index is not None and index.ndim == 0)


def _well_formed(node: onnx_ir.Node) -> bool:
    """Whether the node's parameters have the form that ONNX gives them: its shape inference doesn't look."""
    if node.op_type == "Slice":
        return all(value is None or len(shape_of(value) or ()) == 1 for value in node.inputs[1:])
    if node.op_type == "Transpose" and "perm" in node.attributes:
        source = node.inputs[0]
        rank = 0 if source is None else len(shape_of(source) or ())
        return sorted(attribute(node, "perm", [])) == list(range(rank))
    return True


def move(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Return the node's outputs."""
    moved: list[S] = MOVEMENTS[node.op_type](builder, node, source)
    return moved
