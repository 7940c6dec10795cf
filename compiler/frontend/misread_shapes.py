"""Nodes whose shapes ONNX's inference gets wrong, written so that it gets them right."""

from collections.abc import Callable, Mapping, Sequence

import onnx_ir

from edgec.compiler.graph import attribute, shape_of

Extents = tuple[int, ...]


def rewrite_misread(model: onnx_ir.Model, infer: Callable[[], Mapping[str, onnx_ir.Value]]) -> bool:
    """Rewrite one such node in place, and forget what shapes are in the file; return whether there was one.

    `infer` returns the values of the model, by name, with the shapes that inference finds.
    """
    found = [(node, *_MISREAD[node.op_type]) for node in model.graph if node.op_type in _MISREAD]
    doubtful = [(node, rewritten) for node, doubts, rewritten in found if doubts(node)]
    shapes = infer() if doubtful else {}
    for node, rewritten in doubtful:
        inputs = [shapes.get(str(value.name)) if value is not None else None for value in node.inputs[:2]]
        extents = [shape_of(value) if value is not None else None for value in inputs]
        attributes = rewritten(node, extents)
        if attributes is not None:
            node.attributes.pop("ceil_mode", None)
            for name, numbers in attributes.items():
                node.attributes.add(onnx_ir.AttrInt64s(name, numbers))
            for output in (output for every in model.graph for output in every.outputs):
                output.shape = None  # inference wrote it there before
            return True
    return False


def _rounds_up(node: onnx_ir.Node) -> bool:
    return bool(attribute(node, "ceil_mode", 0))


def _pads_rounded_down(node: onnx_ir.Node, inputs: Sequence[Extents | None]) -> dict[str, list[int]] | None:
    """Return pads with which rounding down gives the windows that count; None where rounding up does.

    A pooling's last window doesn't count if it begins behind the image, but before opset 22 ONNX's inference
    has it.

    MaxPool(ceil_mode=1, pads=[1, 1], kernel_shape=[2], strides=[2]) of 3 --> MaxPool(pads=[1, 1], ...)
    """
    shape = inputs[0]
    if shape is None or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    kernel = attribute(node, "kernel_shape", [])
    rank = len(kernel)
    strides, dilations = (attribute(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads = attribute(node, "pads", [0] * 2 * rank)
    if len(shape) != 2 + rank or len(pads) != 2 * rank or len(strides) != rank or len(dilations) != rank:
        return None  # inference names what doesn't fit
    wider, behind = list(pads), False
    for axis in range(rank):
        padded = shape[2 + axis] + pads[axis] + pads[rank + axis]
        windows, rest = divmod(padded - dilations[axis] * (kernel[axis] - 1) - 1, strides[axis])
        if rest and (windows + 1) * strides[axis] < shape[2 + axis] + pads[axis]:
            wider[rank + axis] += strides[axis] - rest
        elif rest:
            behind = True
    if wider != pads and attribute(node, "count_include_pad", 0):
        return None  # the wider padding would count
    return {"pads": wider} if behind else None


def _pads_itself(node: onnx_ir.Node) -> bool:
    same = attribute(node, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
    return same and any(attribute(node, "output_padding", [])) and "output_shape" not in node.attributes


def _shape_said(node: onnx_ir.Node, inputs: Sequence[Extents | None]) -> dict[str, list[int]] | None:
    """Return the shape that auto_pad gives a transposed convolution: ONNX's adds output_padding once more.

    ConvTranspose(auto_pad=SAME_UPPER, output_padding=[1], strides=[2]) of 3 -->
    ConvTranspose(auto_pad=SAME_UPPER, output_padding=[1], strides=[2], output_shape=[6])
    """
    if len(inputs) < 2 or inputs[0] is None or inputs[1] is None:
        return None
    source, kernel = inputs[0][2:], inputs[1][2:]
    padding = attribute(node, "output_padding", [])
    strides, dilations = (attribute(node, name, [1] * len(source)) for name in ("strides", "dilations"))
    if not len(source) == len(kernel) == len(padding) == len(strides) == len(dilations):
        return None  # inference names what doesn't fit
    axes = zip(source, kernel, padding, strides, dilations, strict=True)
    return {
        "output_shape": [
            min(extent * stride, (extent - 1) * stride + (window - 1) * dilation + 1 + more)
            for extent, window, more, stride, dilation in axes
        ]
    }


_POOLING = (_rounds_up, _pads_rounded_down)
_MISREAD = {
    "AveragePool": _POOLING,
    "ConvTranspose": (_pads_itself, _shape_said),
    "LpPool": _POOLING,
    "MaxPool": _POOLING,
}
"""Per operator: whether a node may be one, and the attributes that say what it means; None: it isn't one."""
