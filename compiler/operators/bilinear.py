"""Products of two activations, read by strides so that transposed operands and heads cost no copy."""

import math

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, only_consumer, shape_of
from edgec.compiler.operators import product_form, products, view
from edgec.compiler.operators.attention import attention
from edgec.compiler.operators.builder import Builder, Codes
from edgec.compiler.operators.row import Operand, Request, emit
from edgec.compiler.operators.view import View
from edgec.kernels.operations import LONGEST, STEP, Attention, Matrices, Product, Quantization


def inputs(node: onnx_ir.Node) -> tuple[Operand, ...]:
    """Return which inputs of a MatMul are data: both, unless the second is a matrix of weights.

    Where it ends an attention, they are the inputs of that.
    """
    if product_form.refuses_matmul(node) is None:
        return ((node, 0),)
    form = attention(node)
    return ((node, 0), (node, 1)) if form is None else form.operands


def refuses(node: onnx_ir.Node) -> str | None:
    """Return why a MatMul has no kernel, or None."""
    shapes = [shape_of(value) if value is not None else None for value in node.inputs[:2]]
    if any(not shape or 0 in shape for shape in shapes):
        return "a product of scalars, or of nothing, has no integer kernel"
    if len(inputs(node)) == 2 and shapes[0] is not None and shapes[0][-1] > LONGEST:
        return f"more than {LONGEST} products of activations to a sum have no integer kernel"
    return None


def refuses_quantized(node: onnx_ir.Node, sources: tuple[Quantization, ...]) -> str | None:
    """Return why a MatMul has no integer form where its inputs are quantized so."""
    return products.refuses(node, sources) if len(sources) == 1 else None


def matmul(builder: Builder, request: Request) -> Codes:
    """Multiply by a constant matrix, or two activations, or weigh values by scores."""
    if len(request.inputs) == 1:
        return products.matrix_product(builder, request)
    return product(builder, request) if len(request.inputs) == 2 else weighed(builder, request)


def product(builder: Builder, request: Request) -> Codes:
    """Multiply two activations, by the rules of numpy.matmul."""
    left, right = (_matrix(builder, codes, which, request.name) for which, codes in enumerate(request.inputs))
    *left_batch, rows, inner = left.view.shape
    *right_batch, _, columns = right.view.shape
    batch = tuple(np.broadcast_shapes(tuple(left_batch), tuple(right_batch)))
    shape = (*batch, rows, columns)
    seen = view.ordered(shape, _wanted_order(request.node, len(shape)))
    (scale_a, scale_b), zero_points = zip(*((s.scale, s.zero_point) for s in request.sources), strict=True)
    operation = Product(
        batch, rows, inner, columns, _lie(builder, left, batch), _lie(builder, right, batch),
        _matrices(math.prod(shape), seen, batch), float(np.float32(scale_a * scale_b / request.output.scale)),
        (zero_points[0], zero_points[1]), request.output.zero_point, request.low, request.high,
        request.output.dtype,
    )  # fmt: skip
    result = emit(builder, request, operation, (left.tensor, right.tensor), seen)
    vectors = [len(codes.view.shape) == 1 for codes in request.inputs]
    for axis in [axis for axis, vector in zip((-2, -1), vectors, strict=True) if vector]:
        result = result.seen(view.drop(result.view, len(result.view.shape) + axis))
    return result


def weighed(builder: Builder, request: Request) -> Codes:
    """Compute an attention, of which the node is the last."""
    form = attention(request.node)
    assert form is not None, "inputs() saw it"
    queries, keys, values = (
        _matrix(builder, codes, which, request.name)
        for codes, which in zip(request.inputs[:3], (0, 1, 1), strict=True)
    )
    *_, rows, inner = queries.view.shape
    *_, length, columns = values.view.shape
    outer = [codes.view.shape[:-2] for codes in (queries, keys, values)]
    mask, steps = None, np.zeros(256, np.int32)
    for codes in request.inputs[3:]:
        mask = builder.row_major(codes, request.name)
        outer.append(mask.view.shape[:-2])
        steps = np.clip(np.rint(codes.real / STEP), -(2**15), 2**15 - 1).astype(np.int32)
    batch = tuple(np.broadcast_shapes(*outer))
    shape = (*batch, rows, columns)
    seen = view.ordered(shape, _wanted_order(request.node, len(shape)))
    masked = None
    if mask is not None:
        strides = view.broadcast_strides(mask.view, (*batch, rows, length))
        masked = Matrices(_size(builder, mask), mask.view.offset, strides[:-2], strides[-2], 1)
    query, key, value = request.sources[:3]
    operation = Attention(
        batch, rows, inner, length, columns, _lie(builder, queries, batch), _lie(builder, keys, batch),
        _lie(builder, values, batch), _matrices(math.prod(shape), seen, batch), masked, steps,
        float(np.float32(query.scale * key.scale * form.scale / STEP)), _EXPONENTIALS,
        float(np.float32(value.scale / request.output.scale)),
        (query.zero_point, key.zero_point, value.zero_point),
        request.output.zero_point, request.low, request.high, request.output.dtype,
    )  # fmt: skip
    read = tuple(codes.tensor for codes in (queries, keys, values, *([mask] if mask else [])))
    return emit(builder, request, operation, read, seen)


_EXPONENTIALS = np.rint(255 * np.exp(-np.arange(256) * STEP)).astype(np.uint8)


def _matrix(builder: Builder, codes: Codes, which: int, name: str) -> Codes:
    """Return an operand as matrices that kernels can read; a vector is one row, or one column."""
    seen = codes.view
    if len(seen.shape) == 1:
        extended = (1, *seen.shape) if which == 0 else (*seen.shape, 1)
        strides = (0, *seen.strides) if which == 0 else (*seen.strides, 0)
        codes = codes.seen(View(extended, strides, seen.offset))
    last = range(len(codes.view.shape))[-1:] if which == 0 else range(len(codes.view.shape))[-2:]
    along = any(codes.view.strides[axis] == 1 or codes.view.shape[axis] == 1 for axis in last)
    return codes if along else builder.row_major(codes, name)


def _lie(builder: Builder, codes: Codes, batch: tuple[int, ...]) -> Matrices:
    """Return how an operand's matrices lie, of which there is one for every index of `batch`."""
    return _matrices(_size(builder, codes), codes.view, batch)


def _size(builder: Builder, codes: Codes) -> int:
    return math.prod(builder.tensors[codes.tensor].shape)


def _matrices(size: int, seen: View, batch: tuple[int, ...]) -> Matrices:
    *outer, row, column = view.broadcast_strides(seen, (*batch, *seen.shape[-2:]))
    # What there is one of may be anywhere: it is said to lie side by side.
    if column != 1 and seen.shape[-1] == 1 and row != 1:
        column = 1
    elif row != 1 and column != 1 and seen.shape[-2] == 1:
        row = 1
    return Matrices(size, seen.offset, tuple(outer), row, column)


def _wanted_order(node: onnx_ir.Node, rank: int) -> tuple[int, ...]:
    """Return how the result shall lie: as the Transpose behind it wants it, if that leaves rows whole."""
    reader = only_consumer(node.outputs[0])
    while reader is not None and reader.op_type in ("QuantizeLinear", "DequantizeLinear"):
        reader = only_consumer(reader.outputs[0])
    order = tuple(range(rank))
    if reader is not None and not reader.domain and reader.op_type == "Transpose":
        permutation = tuple(attribute(reader, "perm", list(reversed(order))))
        if len(permutation) == rank and permutation[-1] == rank - 1:
            return permutation
    return order
