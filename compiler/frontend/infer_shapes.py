"""Work out the type and shape of every value."""

import math

import onnx
import onnx_ir

from edgec.compiler.frontend.malformed import malformed
from edgec.compiler.graph import attribute, shape_of
from edgec.errors import ModelError

SMALL_ELEMENTS = 256
"""Larger constants are weights, whose values no shape depends on: they needn't be copied to infer shapes."""

_POOLING = ("AveragePool", "LpPool", "MaxPool")


def infer_shapes(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with the types and shapes that ONNX's inference finds.

    Raises ModelError when the shapes contradict each other.
    """
    model = model.clone()
    while _round_down(model):
        pass
    inferred = _inferred(model, strict=True)
    for name, value in onnx_ir.convenience.create_value_mapping(model.graph).items():
        if name in inferred and inferred[name].shape is not None:
            value.shape, value.type = inferred[name].shape, inferred[name].type
    for node in model.graph:
        if fault := _contradiction(node):
            raise ModelError(f"shapes don't fit together: node '{node.name}' ({node.op_type}) {fault}")
    return model


def _round_down(model: onnx_ir.Model) -> bool:
    """Rewrite a pooling whose last window would begin behind the image; return whether there was one.

    Such a window doesn't count, but before opset 22 ONNX's inference has it, and so have shapes in the file
    that it wrote there.

    MaxPool(ceil_mode=1, pads=[1, 1], kernel_shape=[2], strides=[2]) of 3 --> MaxPool(pads=[1, 1], ...)
    """
    found = [node for node in model.graph if node.op_type in _POOLING and attribute(node, "ceil_mode", 0)]
    shapes = _inferred(model, strict=False) if found else {}
    for node in found:
        value = shapes.get(str(node.inputs[0].name)) if node.inputs[0] is not None else None
        shape = shape_of(value) if value is not None else None
        pads = _pads_rounded_down(node, shape) if shape is not None else None
        if pads is not None:
            node.attributes.pop("ceil_mode")
            node.attributes.add(onnx_ir.AttrInt64s("pads", pads))
            for output in (output for every in model.graph for output in every.outputs):
                output.shape = None
            return True
    return False


def _pads_rounded_down(node: onnx_ir.Node, shape: tuple[int, ...]) -> list[int] | None:
    """Return pads with which rounding down gives the windows that count; None where rounding up does."""
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET":
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
    return wider if behind else None


def _inferred(model: onnx_ir.Model, strict: bool) -> dict[str, onnx_ir.Value]:
    """Return ONNX's types and shapes, by name. Raises ModelError, if strict."""
    probe = model.clone()
    for name, value in list(probe.graph.initializers.items()):
        if value.const_value is not None and value.const_value.size > SMALL_ELEMENTS:
            value.dtype, value.shape = value.const_value.dtype, onnx_ir.Shape(value.const_value.numpy().shape)
            probe.graph.initializers.pop(name)
            probe.graph.inputs.append(value)
    with malformed("shapes don't fit together"):
        proto = onnx.shape_inference.infer_shapes(
            onnx_ir.to_proto(probe), check_type=strict, strict_mode=strict, data_prop=True
        )
    return onnx_ir.convenience.create_value_mapping(onnx_ir.from_proto(proto).graph)


def _contradiction(node: onnx_ir.Node) -> str | None:
    """Return what is wrong with shapes that ONNX's inference lets pass."""
    known = [None if value is None else shape_of(value) for value in (*node.inputs[:2], *node.outputs[:1])]
    if node.domain or len(known) < 3 or any(shape is None for shape in known[::2]):
        return None
    source, weights, result = (shape or () for shape in known)
    if node.op_type == "Reshape" and math.prod(source) != math.prod(result):
        return f"makes {list(result)} of {list(source)}, which are other numbers of elements"
    groups = attribute(node, "group", 1)
    if node.op_type == "Conv" and len(weights) > 1 and source[1] != weights[1] * groups:
        return f"has weights {list(weights)} in {groups} groups for {source[1]} channels"
    if node.op_type == "ConvTranspose" and weights and source[1] != weights[0]:
        return f"has weights {list(weights)} for {source[1]} channels"
    return None
