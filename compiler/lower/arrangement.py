"""Concatenation, padding and resizing: operators that place their inputs' elements."""

import math

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.lower import view
from edgec.compiler.lower.builder import Builder, Codes, affine, quantized
from edgec.compiler.lower.layer import Layer, Request, emit, result
from edgec.kernels.operators import Concat, Pad, Rearrange


def _concat(builder: Builder, request: Request) -> Codes:
    node = request.node
    shapes = [codes.view.shape for codes in request.inputs]
    axis = attribute(node, "axis", 0) % len(shapes[0])
    shape = list(shapes[0])
    shape[axis] = sum(part[axis] for part in shapes)
    order = view.natural_order(len(shape))
    position = order.index(axis)
    sources = [builder.natural(codes, request.name) for codes in request.inputs]
    tables = [quantized(codes.real, request.output) for codes in sources]
    identity = quantized(affine(request.output), request.output)
    operation = Concat(
        outer=math.prod(shape[a] for a in order[:position]),
        inner=tuple(math.prod(part[a] for a in order[position:]) for part in shapes),
        tables=tuple(None if np.array_equal(table, identity) else table for table in tables),
    )
    tensor = builder.emit(
        request.name, operation, tuple(codes.tensor for codes in sources), tuple(shape[a] for a in order),
        request.output, tensor=str(node.outputs[0].name),
    )  # fmt: skip
    return result(request, tensor, view.natural(tuple(shape)))


def _accepts_pad(node: onnx_ir.Node) -> str | None:
    if attribute(node, "mode", "constant") != "constant":
        return "only constant padding has an integer kernel"
    arrays = [constant(value) for value in node.inputs[1:] if value is not None]
    if any(array is None for array in arrays):
        return "its pads aren't known at compile time"
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return "pads along chosen axes have no integer kernel"
    return "negative pads have no integer kernel" if (arrays[0] < 0).any() else None  # type: ignore[operator]


def _pad(builder: Builder, request: Request) -> Codes:
    node = request.node
    pads, value = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    assert pads is not None, "accepts() saw them"
    source = builder.natural(builder.requantize(request.inputs[0], request.output, f"{request.name}_scale"), request.name)
    shape, order = source.view.shape, view.natural_order(len(source.view.shape))
    rank = len(shape)
    filling = np.array([0.0 if value is None else float(value.reshape(()))])
    operation = Pad(
        tuple(shape[axis] for axis in order),
        tuple((int(pads[axis]), int(pads[axis + rank])) for axis in order),
        int(quantized(filling, request.output)[0]),
    )
    padded = tuple(n + int(pads[axis]) + int(pads[axis + rank]) for axis, n in enumerate(shape))
    return emit(builder, request, operation, source.tensor, view.natural(padded))


def _accepts_resize(node: onnx_ir.Node) -> str | None:
    before = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    after = shape_of(node.outputs[0])
    if attribute(node, "mode", "nearest") != "nearest" or before is None or after is None or len(before) != 4:
        return "only nearest-neighbour resizing of images has an integer kernel"
    if any(new % old for old, new in zip(before, after, strict=True)) or before[:2] != after[:2]:
        return "only resizing by whole factors has an integer kernel"
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attribute(node, "nearest_mode", "round_prefer_floor")
    factor = max(new // old for old, new in zip(before, after, strict=True))
    plain = coordinates == "asymmetric" and (rounding == "floor" or (rounding == "round_prefer_floor" and factor <= 2))
    centred = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
    return None if plain or centred else f"nearest-neighbour resizing by {coordinates} and {rounding} isn't repetition"


def _resize(builder: Builder, request: Request) -> Codes:
    """Nearest-neighbour Resize at its input's own scale: every pixel repeated."""
    source = request.inputs[0]
    shape = shape_of(request.node.outputs[0])
    assert shape is not None, "accepts() saw it"
    n, c, h, w = source.view.shape
    sn, sc, sh, sw = source.view.strides
    size = math.prod(builder.tensors[source.tensor].shape)
    operation = Rearrange(
        (n, h, shape[2] // h, w, shape[3] // w, c), (sn, sh, 0, sw, 0, sc), source.view.offset, "int8", size
    )
    return emit(builder, request, operation, source.tensor, view.natural(shape))


def every_input(node: onnx_ir.Node) -> tuple[int, ...]:
    """All inputs are int8 tensors."""
    return tuple(range(len(node.inputs)))


ARRANGEMENTS = {
    "Concat": Layer(_concat, activations=every_input),
    "Pad": Layer(_pad, _accepts_pad),
}

REPETITIONS = {"Resize": Layer(_resize, _accepts_resize)}
