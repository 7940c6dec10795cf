"""ONNX operators that only move elements, as changes of a view."""

import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, S


def to_output_shape(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Flatten, Reshape, Squeeze, Unsqueeze."""
    shape = shape_of(node.outputs[0])
    assert shape is not None, "refuses() saw it"
    return [builder.reshape(source, shape, str(node.name))]


def same(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Identity."""
    del builder, node
    return [source]


def transpose(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Put dimensions in another order."""
    del builder
    rank = len(source.view.shape)
    order = attribute(node, "perm", list(reversed(range(rank))))
    return [source.seen(view.transpose(source.view, tuple(order)))]


def take(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Take some elements along axes."""
    del builder
    seen = source.view
    given = [constant(value) for value in node.inputs[1:]]
    starts, ends, axes, steps = (
        None if array is None else [int(i) for i in array] for array in (*given, None, None)[:4]
    )
    assert starts is not None, "refuses() saw constants"
    assert ends is not None, "refuses() saw constants"
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        indices = range(seen.shape[axis])[start:end:step]
        seen = view.take(seen, axis % len(seen.shape), indices.start, len(indices), step)
    return [source.seen(seen)]


def split(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Take parts along an axis."""
    del builder
    axis = attribute(node, "axis", 0) % len(source.view.shape)
    parts, start = [], 0
    for output in node.outputs:
        shape = shape_of(output)
        assert shape is not None, "refuses() saw it"
        parts.append(source.seen(view.take(source.view, axis, start, shape[axis])))
        start += shape[axis]
    return parts


def gather(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Take one index along an axis."""
    del builder
    index = constant(node.inputs[1])
    assert index is not None, "refuses() saw a constant"
    axis = attribute(node, "axis", 0) % len(source.view.shape)
    one = view.take(source.view, axis, int(index) % source.view.shape[axis], 1)
    return [source.seen(view.drop(one, axis))]


def depth_to_space(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Make pixels of channels."""
    n, c, h, w = source.view.shape
    b = attribute(node, "blocksize", 0)
    depth_first = attribute(node, "mode", "DCR") == "DCR"
    split, order = (
        ((n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2))
        if depth_first
        else ((n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3))
    )
    blocks = builder.reshape(source, split, str(node.name))
    return to_output_shape(builder, node, blocks.seen(view.transpose(blocks.view, order)))


def space_to_depth(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Make channels of pixels."""
    n, c, h, w = source.view.shape
    b = attribute(node, "blocksize", 0)
    blocks = builder.reshape(source, (n, c, h // b, b, w // b, b), str(node.name))
    depth_first = attribute(node, "mode", "DCR") == "DCR"
    order = (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4)
    return to_output_shape(builder, node, blocks.seen(view.transpose(blocks.view, order)))


def refuses(node: onnx_ir.Node) -> str | None:
    """Return why the node's movement isn't known at compile time, or None."""
    if any(value is not None and constant(value) is None for value in node.inputs[1:]):
        return "where its elements go isn't known at compile time"
    if any(value is None or shape_of(value) is None for value in (node.inputs[0], *node.outputs)):
        return "its shapes aren't known at compile time"
    return None


def refuses_slice(node: onnx_ir.Node) -> str | None:
    """Return why a Slice isn't known at compile time, or has parameters that ONNX's inference doesn't see."""
    plain = all(value is None or len(shape_of(value) or ()) == 1 for value in node.inputs[1:])
    return refuses(node) or (None if plain else "its bounds aren't lists")


def refuses_transpose(node: onnx_ir.Node) -> str | None:
    """Return why a Transpose isn't known at compile time, or has another number of axes than its input."""
    source = node.inputs[0]
    rank = 0 if source is None else len(shape_of(source) or ())
    fits = "perm" not in node.attributes or sorted(attribute(node, "perm", [])) == list(range(rank))
    return refuses(node) or (None if fits else "its axes aren't its input's")


def refuses_gather(node: onnx_ir.Node) -> str | None:
    """Return why a Gather takes more than one index, or one that isn't known at compile time."""
    index = constant(node.inputs[1])
    one = index is not None and index.ndim == 0
    return refuses(node) or (None if one else "only one index has an integer form")
