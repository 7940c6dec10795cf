"""Add and Mul of two int8 tensors, read by strides so that broadcasting and transposing cost no copy."""

import numpy as np

from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, Codes, S, Seen
from edgec.compiler.operators.row import Request, emit
from edgec.kernels.operations import Binary


def arithmetic(kind: str, builder: Builder, request: Request) -> Codes:
    """Add or multiply (`add`, `mul`) two int8 tensors."""
    shape, output = request.shape, request.output
    order = result_order(request.inputs, shape)
    a, b = (operand(builder, codes, order, request.name) for codes in request.inputs)
    strides = [view.broadcast_strides(codes.view, shape) for codes in (a, b)]
    (scale_a, scale_b), zero_points = zip(*((s.scale, s.zero_point) for s in request.sources), strict=True)
    factors = scale_a / output.scale if kind == "add" else scale_a, scale_b / output.scale
    operation = Binary(
        kind,
        tuple(shape[axis] for axis in order),
        (tuple(strides[0][axis] for axis in order), tuple(strides[1][axis] for axis in order)),
        (zero_points[0], zero_points[1]),
        (float(np.float32(factors[0])), float(np.float32(factors[1]))),
        output.zero_point, request.low, request.high, output.dtype,
    )  # fmt: skip
    return emit(builder, request, operation, (a.tensor, b.tensor), view.ordered(shape, order))


def result_order(inputs: tuple[Seen, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the order of the result: that of an operand of its shape, so that the loop runs straight."""
    whole = (view.dense_order(codes.view) for codes in inputs if codes.view.shape == shape)
    return next((order for order in whole if order is not None), view.natural_order(len(shape)))


def operand(builder: Builder, value: S, order: tuple[int, ...], name: str) -> S:
    """Return an operand that kernels can read from its buffer's start; a constant in the result's order."""
    rank = len(value.view.shape)
    if value.tensor in builder.constants and rank == len(order):
        return builder.arranged(value, view.ordered(value.view.shape, order), name)
    return builder.natural(value, name) if value.view.offset else value
