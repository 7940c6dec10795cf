"""Work out the type and shape of every value."""

import math
from functools import partial

import onnx
import onnx_ir

from edgec.compiler.frontend.malformed import malformed
from edgec.compiler.frontend.misread_shapes import rewrite_misread
from edgec.compiler.graph import attribute, shape_of
from edgec.errors import ModelError

SMALL_ELEMENTS = 256
"""Larger constants are weights, whose values no shape depends on: they needn't be copied to infer shapes."""


def infer_shapes(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with the types and shapes that ONNX's inference finds.

    Raises ModelError when the shapes contradict each other.
    """
    model = model.clone()
    while rewrite_misread(model, partial(_inferred, model, strict=False)):
        pass
    inferred = _inferred(model, strict=True)
    for name, value in onnx_ir.convenience.create_value_mapping(model.graph).items():
        if name in inferred and inferred[name].shape is not None:
            value.shape, value.type = inferred[name].shape, inferred[name].type
    for node in model.graph:
        if fault := _contradiction(node):
            raise ModelError(f"shapes don't fit together: node '{node.name}' ({node.op_type}) {fault}")
    return model


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


_BROADCAST_TO_DATA = ("LayerNormalization", "PRelu", "RMSNormalization")
"""Operators whose result has their first input's shape, whatever the second one's."""


def _broadcasts(shape: tuple[int, ...], wider: tuple[int, ...]) -> bool:
    fits = all(extent in (1, other) for extent, other in zip(shape[::-1], wider[::-1], strict=False))
    return len(shape) <= len(wider) and fits


def _reaches_beyond(node: onnx_ir.Node) -> bool:
    """Whether a pooling's window is larger than the padded image, which inference rounds to one window."""
    source = node.inputs[0] if node.op_type in ("AveragePool", "LpPool", "MaxPool") else None
    shape, kernel = shape_of(source) if source is not None else None, attribute(node, "kernel_shape", [])
    if shape is None or isinstance(kernel, int | float | str | bytes):
        return False  # no pooling, or one whose window is no list, which ONNX's checker names
    rank = len(kernel)
    pads, dilations = attribute(node, "pads", [0] * 2 * rank), attribute(node, "dilations", [1] * rank)
    automatic = attribute(node, "auto_pad", "NOTSET").startswith("SAME") or attribute(node, "ceil_mode", 0)
    if automatic or not len(shape) - 2 == rank == len(dilations) == len(pads) / 2:
        return False
    room = [shape[i + 2] + pads[i] + pads[rank + i] for i in range(rank)]
    return any((k - 1) * d + 1 > r for k, d, r in zip(kernel, dilations, room, strict=True))


def _contradiction(node: onnx_ir.Node) -> str | None:
    """Return what is wrong with shapes that ONNX's inference lets pass."""
    if any(min(shape_of(output) or (), default=0) < 0 for output in node.outputs) or _reaches_beyond(node):
        return "has a window larger than its input, or a result of negative size"
    known = [None if value is None else shape_of(value) for value in (*node.inputs[:2], *node.outputs[:1])]
    if node.domain or len(known) < 3 or any(shape is None for shape in known[::2]):
        return None
    source, weights, result = (shape or () for shape in known)
    if node.op_type == "Reshape" and math.prod(source) != math.prod(result):
        return f"makes {list(result)} of {list(source)}, which are other numbers of elements"
    if node.op_type in _BROADCAST_TO_DATA and not _broadcasts(weights, source):
        return f"has {list(weights)} for an input {list(source)}, which it can't be broadcast to"
    if node.op_type in ("Conv", "ConvTranspose") and weights:
        kernel = attribute(node, "kernel_shape", weights[2:])
        if len(weights) != len(source) or tuple(kernel) != weights[2:]:
            return f"has weights {list(weights)} and a kernel {list(kernel)} for an input {list(source)}"
    groups = attribute(node, "group", 1)
    if node.op_type == "Conv" and len(weights) > 1 and source[1] != weights[1] * groups:
        return f"has weights {list(weights)} in {groups} groups for {source[1]} channels"
    if node.op_type == "ConvTranspose" and weights and source[1] != weights[0]:
        return f"has weights {list(weights)} for {source[1]} channels"
    return None
