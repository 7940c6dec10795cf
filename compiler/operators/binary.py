"""Arithmetic of two int8 tensors, read by strides so that broadcasting and transposing cost no copy."""

from collections.abc import Callable

import numpy as np
import onnx_ir

from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, Codes, S, Seen
from edgec.compiler.operators.row import Request, emit
from edgec.kernels.operations import Binary, BinaryKind


def arithmetic(kind: BinaryKind, builder: Builder, request: Request) -> Codes:
    """Combine two int8 tensors."""
    shape, output = request.shape, request.output
    order = result_order(request.inputs, shape)
    a, b = (operand(builder, codes, order, request.name) for codes in request.inputs)
    strides = [view.broadcast_strides(codes.view, shape) for codes in (a, b)]
    (scale_a, scale_b), zero_points = zip(*((s.scale, s.zero_point) for s in request.sources), strict=True)
    factors = FACTORS[kind](scale_a, scale_b, output.scale)
    operation = Binary(
        kind,
        tuple(shape[axis] for axis in order),
        (tuple(strides[0][axis] for axis in order), tuple(strides[1][axis] for axis in order)),
        (zero_points[0], zero_points[1]),
        (float(np.float32(factors[0])), float(np.float32(factors[1]))),
        output.zero_point, request.low, request.high, output.dtype,
    )  # fmt: skip
    return emit(builder, request, operation, (a.tensor, b.tensor), view.ordered(shape, order))


def _same_steps(one: float, two: float, result: float) -> tuple[float, float]:
    return one / result, two / result


FACTORS: dict[BinaryKind, Callable[[float, float, float], tuple[float, float]]] = {
    "add": _same_steps,
    "sub": _same_steps,
    "mul": lambda one, two, result: (one, two / result),
    "div": lambda one, two, result: (one / (two * result), 1.0),
    "max": _same_steps,
    "min": _same_steps,
    "prelu": lambda one, slope, result: (one / result, slope),
}
"""What codes less their zero points are multiplied by, from the scales of the operands and the result."""


def refuses(node: onnx_ir.Node) -> str | None:
    """Return why a node that may have any number of operands has no kernel, or None."""
    return None if len(node.inputs) == 2 else "only of two tensors there is a kernel"


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
