"""Concatenation, padding and resizing: operators that place their inputs' elements."""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, Codes, Seen, quantized
from edgec.compiler.operators.constants import is_known, known
from edgec.compiler.operators.row import Request, emit
from edgec.kernels.operations import Concat, Pad, Rearrange


def runs(node: onnx_ir.Node, shapes: Sequence[tuple[int, ...]]) -> tuple[int, tuple[int, ...]]:
    """Return a Concat of tensors in natural order as `Concat.outer` and `Concat.inner`."""
    order = view.natural_order(len(shapes[0]))
    position = order.index(attribute(node, "axis", 0) % len(order))
    outer = math.prod(shapes[0][axis] for axis in order[:position])
    return outer, tuple(math.prod(shape[axis] for axis in order[position:]) for shape in shapes)


def concat(builder: Builder, request: Request) -> Codes:
    """Concatenate int8 tensors, each by a table where its scale isn't the result's."""
    parts = [builder.natural(codes, request.name) for codes in request.inputs]
    tables = [quantized(codes.real, request.output) for codes in parts]
    operation = Concat(
        *runs(request.node, [codes.view.shape for codes in parts]),
        tables=tuple(None if np.array_equal(table, request.output.codes) else table for table in tables),
    )
    tensors = tuple(codes.tensor for codes in parts)
    return emit(builder, request, operation, tensors, view.natural(request.shape))


def refuses_pad(node: onnx_ir.Node) -> str | None:
    """Return why no kernel pads so, or None."""
    if attribute(node, "mode", "constant") != "constant":
        return "only constant padding has an integer kernel"
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return "pads along chosen axes have no integer kernel"
    pads = constant(node.inputs[1])
    if pads is None or any(value is not None and not is_known(value) for value in node.inputs[2:]):
        return "its pads aren't known at compile time"
    return "negative pads have no integer kernel" if pads.min(initial=0) < 0 else None


def padding(node: onnx_ir.Node, rank: int) -> tuple[tuple[tuple[int, int], ...], float]:
    """Return the pads of a tensor in natural order, before and after each dimension, and the number."""
    pads, value = constant(node.inputs[1]), known((*node.inputs, None)[2])
    assert pads is not None, "refuses() saw them"
    order = view.natural_order(rank)
    filling = 0.0 if value is None else float(value.reshape(()))
    return tuple((int(pads[axis]), int(pads[axis + rank])) for axis in order), filling


def pad(builder: Builder, request: Request) -> Codes:
    """Pad with a number of the result's scale, which the input is brought to."""
    codes = builder.requantize(request.inputs[0], request.output, f"{request.name}_scale")
    codes = builder.natural(codes, request.name)
    shape = codes.view.shape
    pads, filling = padding(request.node, len(shape))
    operation = Pad(
        tuple(shape[axis] for axis in view.natural_order(len(shape))), pads,
        int(quantized(np.array([filling]), request.output)[0]),
    )  # fmt: skip
    return emit(builder, request, operation, (codes.tensor,), view.natural(request.shape))


def repeated(builder: Builder, source: Seen, shape: tuple[int, ...]) -> Rearrange:
    """Nearest-neighbour resizing of an image to `shape`, NHWC: every pixel repeated."""
    n, c, h, w = source.view.shape
    sn, sc, sh, sw = source.view.strides
    _, _, height, width = shape
    tensor = builder.tensors[source.tensor]
    sizes, strides = (n, h, height // h, w, width // w, c), (sn, sh, 0, sw, 0, sc)
    return Rearrange(sizes, strides, source.view.offset, tensor.dtype, math.prod(tensor.shape))
