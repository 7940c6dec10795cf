"""Concatenation, padding and resizing: operators that place their inputs' elements."""

import math

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant
from edgec.compiler.lower import view
from edgec.compiler.lower.builder import CODES, Builder, Codes, quantized
from edgec.compiler.lower.constants import is_known, known
from edgec.compiler.lower.layer import Layer, Request, emit, every_input
from edgec.compiler.resizing import no_repetition
from edgec.kernels.operators import Concat, Pad, Quantization, Rearrange


def _concat(builder: Builder, request: Request) -> Codes:
    order = view.natural_order(len(request.shape))
    position = order.index(attribute(request.node, "axis", 0) % len(order))
    parts = [builder.natural(codes, request.name) for codes in request.inputs]
    tables = [quantized(codes.real, request.output) for codes in parts]
    operation = Concat(
        outer=math.prod(request.shape[axis] for axis in order[:position]),
        inner=tuple(math.prod(codes.view.shape[axis] for axis in order[position:]) for codes in parts),
        tables=tuple(None if np.array_equal(table, CODES) else table for table in tables),
    )
    tensors = tuple(codes.tensor for codes in parts)
    return emit(builder, request, operation, tensors, view.natural(request.shape))


def _accepts_pad(node: onnx_ir.Node, sources: tuple[Quantization, ...]) -> str | None:
    del sources
    if attribute(node, "mode", "constant") != "constant":
        return "only constant padding has an integer kernel"
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return "pads along chosen axes have no integer kernel"
    pads = constant(node.inputs[1])
    if pads is None or any(value is not None and not is_known(value) for value in node.inputs[2:]):
        return "its pads aren't known at compile time"
    return "negative pads have no integer kernel" if pads.min(initial=0) < 0 else None


def _pad(builder: Builder, request: Request) -> Codes:
    pads, value = constant(request.node.inputs[1]), known((*request.node.inputs, None)[2])
    assert pads is not None, "accepts() saw them"
    codes = builder.requantize(request.inputs[0], request.output, f"{request.name}_scale")
    codes = builder.natural(codes, request.name)
    shape = codes.view.shape
    order, rank = view.natural_order(len(shape)), len(shape)
    filling = np.zeros(1) if value is None else value.astype(np.float64).reshape(1)
    operation = Pad(
        tuple(shape[axis] for axis in order),
        tuple((int(pads[axis]), int(pads[axis + rank])) for axis in order),
        int(quantized(filling, request.output)[0]),
    )
    return emit(builder, request, operation, (codes.tensor,), view.natural(request.shape))


def _accepts_resize(node: onnx_ir.Node, sources: tuple[Quantization, ...]) -> str | None:
    del sources
    return no_repetition(node)


def _resize(builder: Builder, request: Request) -> Codes:
    """Nearest-neighbour Resize at its input's own scale: every pixel repeated."""
    source = request.inputs[0]
    n, c, h, w = source.view.shape
    sn, sc, sh, sw = source.view.strides
    _, _, height, width = request.shape
    size = math.prod(builder.tensors[source.tensor].shape)
    shape, strides = (n, h, height // h, w, width // w, c), (sn, sh, 0, sw, 0, sc)
    operation = Rearrange(shape, strides, source.view.offset, "int8", size)
    return emit(builder, request, operation, (source.tensor,), view.natural(request.shape))


ARRANGEMENTS = {
    "Concat": Layer(_concat, inputs=every_input, clamps=False),
    "Pad": Layer(_pad, _accepts_pad, clamps=False),
}

REPETITIONS = {"Resize": Layer(_resize, _accepts_resize)}
