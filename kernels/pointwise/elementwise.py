"""Element by element: sums, products and the like with broadcasting, quantize, dequantize."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Binary, Demands, Dequantize, FloatBinary, Quantize, laid
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Elements of a tile: a few microseconds of work, worth handing to a thread.
CHUNK = 8192
# Vector that LLVM splits into what the target has.
_LANES = 16


PARAMETERS = 7
"""int32 parameters of what combines two tensors of codes."""
_Strides = tuple[list[int], list[int], list[int]]
"""Strides of both operands and of the result."""


def parameters(operation: Binary) -> NDArray[np.int32]:
    """Return what `generic.combine` takes: two zero points, two factors' bits, low, high, zero point."""
    values = np.array(
        [*operation.zero_points, 0, 0, operation.low, operation.high, operation.output_zero_point], np.int32
    )
    values.view(np.float32)[2:4] = operation.factors
    return values


def binary(operation: Binary, target: Target, demands: Demands = FREE) -> KernelCode:
    """Combine two tensors of codes; operands that broadcast are read by strides."""
    del target
    own = laid(operation.shape, demands.runs)
    shape, (left, right, result) = tir.merge_dimensions(operation.shape, (*operation.strides, own))
    flat = len(shape) == 1 and left == right == result == [1]
    sizes = [
        1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True)) for steps in (left, right, result)
    ]
    total = int(np.prod(shape))
    return KernelCode(
        key=f"binary {operation.kind} {shape} {left} {right} {result}",
        make=partial(_binary, operation.kind, shape, (left, right, result), sizes),
        constants=(parameters(operation),),
        tiles=-(-total // CHUNK) if flat else int(np.prod(shape[:-1], dtype=np.int64)),
        inplace=tuple(i for i, size in enumerate(sizes[:2]) if flat and size == total),
    )


def _binary(kind: str, shape: list[int], strides: _Strides, sizes: list[int]) -> object:
    def body(a: Buffer, b: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        parameters = [p[i] for i in range(PARAMETERS)]

        def combine(one: Expr, two: Expr, lanes: int) -> Expr:
            return generic.combine(kind, one, two, parameters, lanes)

        _combine(shape, strides, combine, a, b, y, begin, end)

    one, two, result = (("int8", size) for size in sizes)
    parameters = [one, two, ("int32", PARAMETERS), result]
    return tir.kernel(parameters, "uint8", body, noalias=False)


def float_binary(operation: FloatBinary, target: Target, demands: Demands = FREE) -> KernelCode:
    """Combine two tensors of floats; operands that broadcast are read by strides."""
    del target
    own = laid(operation.shape, demands.runs)
    shape, (left, right, result) = tir.merge_dimensions(operation.shape, (*operation.strides, own))
    flat = len(shape) == 1 and left == right == result == [1]
    sizes = [
        1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True)) for steps in (left, right, result)
    ]
    total = math.prod(shape)
    limits = operation.low, operation.high
    return KernelCode(
        key=f"float_binary {operation.kind} {shape} {left} {right} {result} {limits}",
        make=partial(_float_binary, operation.kind, shape, (left, right, result), sizes, limits),
        tiles=-(-total // CHUNK) if flat else math.prod(shape[:-1]),
        inplace=tuple(i for i, size in enumerate(sizes[:2]) if flat and size == total),
    )


def _float_binary(
    kind: str, shape: list[int], strides: _Strides, sizes: list[int], limits: tuple[float, float]
) -> object:
    def combine(one: Expr, two: Expr, lanes: int) -> Expr:
        result = generic.COMBINED[kind](one, two)
        if kind in ("max", "min"):  # NaN is in no order; where `two` is, it is what is chosen
            result = T.Select(one <= tir.constant(math.inf, "float32", lanes), result, one)
        return tir.clipped(result, *limits, lanes)

    def body(a: Buffer, b: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        _combine(shape, strides, combine, a, b, y, begin, end)

    parameters = [("float32", size) for size in sizes]
    return tir.kernel(parameters, "float32", body, noalias=False)


def _combine(
    shape: list[int], strides: _Strides, combine: Callable[[Expr, Expr, int], Expr],
    a: Buffer, b: Buffer, y: Buffer, begin: Expr, end: Expr,
) -> None:  # fmt: skip
    """y = combine(a, b), vectors of elements at a time."""
    left, right, result = strides

    def operand(x: Buffer, base: Expr, offset: Expr, step: int, lanes: int) -> Expr:
        if step == 0:
            return tir.broadcast(x[base], lanes)
        if step == 1 or lanes == 1:
            return tir.load(x, base + offset * step, lanes)
        return x[T.ramp(base + offset * step, step, lanes)]

    def run(first: Expr, starts: tuple[Expr, Expr], count: int) -> None:
        def vector(offset: Expr, lanes: int) -> None:
            one = operand(a, starts[0], offset, left[-1], lanes)
            two = operand(b, starts[1], offset, right[-1], lanes)
            tir.store(y, first + offset, combine(one, two, lanes), lanes)

        tir.vectors(count, _LANES, vector)

    if len(shape) == 1 and left == right == result == [1]:
        tir.chunked(begin, end, shape[0], CHUNK, lambda i, count: run(i, (i, i), count))
        return
    with T.serial(begin, end) as index:
        one, two, first = (tir.strided(index, shape[:-1], steps[:-1]) for steps in strides)
        run(first, (one, two), shape[-1])


def quantize(operation: Quantize, target: Target, demands: Demands = FREE) -> KernelCode:
    """float32 to int8."""
    del target, demands
    return _conversion("quantize", operation, "float32", "int8", _quantized)


def _quantized(value: Expr, scale: Expr, zero_point: Expr, lanes: int) -> Expr:
    quotient, lowest = value / scale, tir.constant(generic.FAR_BELOW, "float32", lanes)
    quotient = T.Select(quotient > lowest, quotient, lowest)  # NaN is greater than nothing
    integer = generic.round_and_clamp(quotient, (T.int32(-128), T.int32(127), zero_point), lanes)
    return tir.cast(integer, "int8", lanes)


def dequantize(operation: Dequantize, target: Target, demands: Demands = FREE) -> KernelCode:
    """int8 to float32."""
    del target, demands
    return _conversion("dequantize", operation, "int8", "float32", _dequantized)


def _dequantized(value: Expr, scale: Expr, zero_point: Expr, lanes: int) -> Expr:
    integer = tir.cast(value, "int32", lanes) - tir.broadcast(zero_point, lanes)
    return tir.cast(integer, "float32", lanes) * scale


_Convert = Callable[[Expr, Expr, Expr, int], Expr]
"""A vector's scale in every lane, its zero point, and how many lanes it has."""


def _conversion(
    name: str, operation: Quantize | Dequantize, source: str, result: str, convert: _Convert
) -> KernelCode:
    scale = np.array([operation.scale], np.float32).view(np.int32)[0]
    return KernelCode(
        key=f"{name} {operation.size}",
        make=partial(_converted, operation.size, source, result, convert),
        constants=(np.array([scale, operation.zero_point], np.int32),),
        tiles=-(-operation.size // CHUNK),
    )


def _converted(size: int, source: str, result: str, convert: _Convert) -> object:
    def body(x: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch

        def run(first: Expr, count: int) -> None:
            def vector(offset: Expr, lanes: int) -> None:
                scale = tir.broadcast(T.reinterpret("float32", p[0]), lanes)
                value = convert(tir.load(x, first + offset, lanes), scale, p[1], lanes)
                tir.store(y, first + offset, value, lanes)

            tir.vectors(count, _LANES, vector)

        tir.chunked(begin, end, size, CHUNK, run)

    return tir.kernel([(source, size), ("int32", 2), (result, size)], "uint8", body)
