"""Pooling and means over NHWC images, vectors of channels at a time."""

import math
from collections.abc import Callable
from functools import partial, reduce
from operator import add

import numpy as np

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import (
    FREE,
    AveragePool,
    Demands,
    FloatAveragePool,
    FloatMean,
    MaxPool,
    Mean,
    Runs,
    pitch,
    span,
)
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Channels at a time: one 128-bit register of int8, several of int32.
_LANES = 16
# Of a float mean: sums that run beside each other, each waiting for its last addition.
_MEAN_VECTORS = 4
# Taps of a window: LLVM takes half a minute for a thousand, and TVM runs out of stack before five thousand.
_WRITTEN_OUT = 256

Pooling = MaxPool | AveragePool | FloatAveragePool
Tap = Callable[[Expr, Expr], tuple[Expr, Expr]]
"""At a row and a column of the window: the pixel, clamped into the image, and whether it is inside."""
Value = Callable[[Expr, Expr], Expr]
"""What a tap's pixel, perhaps outside, counts as."""


def _tap(
    operation: Pooling, row: Expr, column: Expr, dilations: tuple[int, int], r: Expr, c: Expr
) -> tuple[Expr, Expr]:
    """Return what a `Tap` does, for the window at `row` and `column` of the result."""
    _, height, width, _ = operation.input_shape
    y = row * operation.strides[0] + r * dilations[0] - operation.pads[0]
    x = column * operation.strides[1] + c * dilations[1] - operation.pads[1]
    inside = T.And(T.And(y >= 0, y < height), T.And(x >= 0, x < width))
    y, x = T.max(T.min(y, height - 1), 0), T.max(T.min(x, width - 1), 0)
    return y * width + x, inside


def _folded(
    kernel: tuple[int, int],
    tap: Tap,
    value: Value,
    combine: Callable[[Expr, Expr], Expr],
    start: Expr,
    lanes: int,
    dtype: str,
) -> Expr:
    """Return combine(so far, value) over all taps of a window, from `start` on.

    They are written out; more than `_WRITTEN_OUT` are a loop, and what there is so far is kept in memory.
    """
    height, width = kernel
    if height * width <= _WRITTEN_OUT:
        return reduce(combine, [value(*tap(r, c)) for r in range(height) for c in range(width)], start)
    kept = T.alloc_buffer((lanes,), dtype, scope="global")
    tir.store(kept, 0, start, lanes)
    with T.serial(0, height) as r, T.serial(0, width) as c:
        tir.store(kept, 0, combine(tir.load(kept, 0, lanes), value(*tap(r, c))), lanes)
    return tir.load(kept, 0, lanes)


def max_pool(operation: MaxPool, target: Target, demands: Demands = FREE) -> KernelCode:
    """Maximum over a window; a tap outside repeats the image's nearest pixel, which the window holds too.

    A dilated window may not hold it: there a tap outside is the least that there is.
    """
    del target
    n, oh, _, _ = operation.output_shape
    return KernelCode(
        key=f"max_pool {operation} {demands.runs}",
        make=partial(_max_pool, operation, demands.runs),
        tiles=n * oh,
    )


def _max_pool(operation: MaxPool, runs: Runs | None) -> object:
    _, height, width, channels = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    apart = pitch(runs, channels)

    def body(x: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        with T.serial(begin, end) as index, T.serial(0, columns) as column:
            image = index // rows * (height * width)

            tap = partial(_tap, operation, index % rows, column, operation.dilations)

            def vector(channel: Expr, lanes: int) -> None:
                least = tir.constant(lowest, operation.dtype, lanes)

                def value(pixel: Expr, inside: Expr) -> Expr:
                    loaded = tir.load(x, (image + pixel) * channels + channel, lanes)
                    return loaded if operation.dilations == (1, 1) else T.Select(inside, loaded, least)

                place = (index * columns + column) * apart + channel
                tir.store(y, place, largest(operation.kernel, tap, value, least, lanes), lanes)

            tir.vectors(channels, _LANES, vector)

    lowest = -math.inf if operation.dtype == "float32" else -128
    largest = _largest_float if operation.dtype == "float32" else _largest_integer
    sizes = math.prod(operation.input_shape), span(runs, math.prod(operation.output_shape))
    return tir.kernel([(operation.dtype, size) for size in sizes], "uint8", body)


def _largest_integer(kernel: tuple[int, int], tap: Tap, value: Value, least: Expr, lanes: int) -> Expr:
    return _folded(kernel, tap, value, T.max, least, lanes, "int8")


def _largest_float(kernel: tuple[int, int], tap: Tap, value: Value, least: Expr, lanes: int) -> Expr:
    """NaN where one of them is: neither `T.max` nor most processors' instructions see to that.

    Without its sign a NaN is a larger integer than any number, so a maximum of those finds one beside the
    maximum of the numbers: two instructions more for a value, and one choice at the end.
    """
    integers = tir.vector("int32", lanes)
    magnitude = tir.constant(0x7FFFFFFF, "int32", lanes)

    def bits_of(pixel: Expr, inside: Expr) -> Expr:
        return T.bitwise_and(T.reinterpret(integers, value(pixel, inside)), magnitude)

    bits = _folded(kernel, tap, bits_of, T.max, tir.constant(0, "int32", lanes), lanes, "int32")
    number = _folded(kernel, tap, value, lambda most, one: T.max(one, most), least, lanes, "float32")
    is_nan = bits > tir.constant(0x7F800000, "int32", lanes)
    return T.Select(is_nan, T.reinterpret(tir.vector("float32", lanes), bits), number)


def average_pool(operation: AveragePool, target: Target, demands: Demands = FREE) -> KernelCode:
    """Integer sum over a window, requantized by the multiplier of that output position."""
    del target
    n, oh, _, _ = operation.output_shape
    return KernelCode(
        key=f"average_pool {operation.input_shape} {operation.output_shape} {operation.kernel} "
        f"{operation.strides} {operation.pads} {demands.runs}",
        make=partial(_average_pool, operation, demands.runs),
        constants=(operation.multiplier, _parameters(operation)),
        tiles=n * oh,
    )


def _parameters(operation: AveragePool | Mean) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    zero_points = [operation.output_zero_point, operation.input_zero_point]
    return np.array([operation.low, operation.high, *zero_points], np.int32)


def _average_pool(operation: AveragePool, runs: Runs | None) -> object:
    _, height, width, channels = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    apart = pitch(runs, channels)

    def body(
        x: Buffer, multiplier: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr
    ) -> None:
        del scratch
        bounds = [p[i] for i in range(3)]
        with T.serial(begin, end) as index, T.serial(0, columns) as column:
            image = index // rows * (height * width)

            tap = partial(_tap, operation, index % rows, column, (1, 1))

            def vector(channel: Expr, lanes: int) -> None:
                zero_point = tir.broadcast(p[3], lanes)

                def value(pixel: Expr, inside: Expr) -> Expr:
                    at = (image + pixel) * channels + channel
                    centred = tir.cast(tir.load(x, at, lanes), "int32", lanes) - zero_point
                    return centred * tir.broadcast(T.cast(inside, "int32"), lanes)

                zero = tir.constant(0, "int32", lanes)
                total = _folded(operation.kernel, tap, value, add, zero, lanes, "int32")
                scale = tir.broadcast(multiplier[index % rows * columns + column], lanes)
                result = generic.requantize([total], [scale], bounds, lanes)
                tir.store(y, (index * columns + column) * apart + channel, result, lanes)

            tir.vectors(channels, _LANES, vector)

    return tir.kernel(average_pool_buffers(operation, runs), "uint8", body)


def average_pool_buffers(operation: AveragePool, runs: Runs | None) -> list[tuple[str, int]]:
    """Return dtype and elements of input, multipliers, parameters and output."""
    return [
        ("int8", math.prod(operation.input_shape)),
        ("float32", math.prod(operation.output_shape[1:3])),
        ("int32", 4),
        ("int8", span(runs, math.prod(operation.output_shape))),
    ]


def mean(operation: Mean, target: Target, demands: Demands = FREE) -> KernelCode:
    """Integer sum over the middle dimension, requantized."""
    del target, demands
    multiplier = np.array([operation.multiplier], np.float32).view(np.int32)
    return KernelCode(
        key=f"mean {operation.outer} {operation.reduced} {operation.inner}",
        make=partial(_mean, operation.outer, operation.reduced, operation.inner),
        constants=(np.concatenate([_parameters(operation), multiplier]),),
        tiles=operation.outer,
    )


def _mean(outer: int, reduced: int, inner: int) -> object:
    def body(x: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        bounds = [p[i] for i in range(3)]
        total = T.alloc_buffer((_LANES,), "int32", scope="global")
        with T.serial(begin, end) as index:

            def vector(channel: Expr, lanes: int) -> None:
                start = tir.broadcast(p[3] * T.int32(-reduced), lanes)
                tir.store(total, 0, start, lanes)
                with T.serial(0, reduced) as r:
                    value = tir.load(x, (index * reduced + r) * inner + channel, lanes)
                    added = tir.load(total, 0, lanes) + tir.cast(value, "int32", lanes)
                    tir.store(total, 0, added, lanes)
                scale = tir.broadcast(T.reinterpret("float32", p[4]), lanes)
                result = generic.requantize([tir.load(total, 0, lanes)], [scale], bounds, lanes)
                tir.store(y, index * inner + channel, result, lanes)

            tir.vectors(inner, _LANES, vector)

    sizes = [("int8", outer * reduced * inner), ("int32", 5), ("int8", outer * inner)]
    return tir.kernel(sizes, "uint8", body)


def float_average_pool(operation: FloatAveragePool, target: Target, demands: Demands = FREE) -> KernelCode:
    """Sum over a window, times the multiplier of that output position."""
    del target
    n, oh, _, _ = operation.output_shape
    return KernelCode(
        key=f"float_average_pool {operation.input_shape} {operation.output_shape} {operation.kernel} "
        f"{operation.strides} {operation.pads} {operation.low} {operation.high} {demands.runs}",
        make=partial(_float_average_pool, operation, demands.runs),
        constants=(operation.multiplier,),
        tiles=n * oh,
    )


def _float_average_pool(operation: FloatAveragePool, runs: Runs | None) -> object:
    _, height, width, channels = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    apart = pitch(runs, channels)

    def body(x: Buffer, multiplier: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        with T.serial(begin, end) as index, T.serial(0, columns) as column:
            image = index // rows * (height * width)

            tap = partial(_tap, operation, index % rows, column, (1, 1))

            def vector(channel: Expr, lanes: int) -> None:
                zero = tir.constant(0, "float32", lanes)

                def value(pixel: Expr, inside: Expr) -> Expr:
                    loaded = tir.load(x, (image + pixel) * channels + channel, lanes)
                    return T.Select(tir.broadcast(inside, lanes), loaded, zero)

                total = _folded(operation.kernel, tap, value, add, zero, lanes, "float32")
                result = total * tir.broadcast(multiplier[index % rows * columns + column], lanes)
                result = tir.clipped(result, operation.low, operation.high, lanes)
                tir.store(y, (index * columns + column) * apart + channel, result, lanes)

            tir.vectors(channels, _LANES, vector)

    size = span(runs, math.prod(operation.output_shape))
    sizes = math.prod(operation.input_shape), rows * columns, size
    return tir.kernel([("float32", size) for size in sizes], "float32", body)


def float_mean(operation: FloatMean, target: Target, demands: Demands = FREE) -> KernelCode:
    """Sum over the middle dimension, some vectors at a time."""
    del target, demands
    return KernelCode(
        key=f"float_mean {operation}",
        make=partial(_float_mean, operation),
        tiles=operation.outer * -(-operation.inner // (_MEAN_VECTORS * _LANES)),
    )


def _float_mean(operation: FloatMean) -> object:
    reduced, inner = operation.reduced, operation.inner
    block = _MEAN_VECTORS * _LANES
    blocks = -(-inner // block)

    def body(x: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        total = T.alloc_buffer((min(block, inner),), "float32", scope="global")

        def sums(image: Expr, channel: Expr, count: int) -> None:
            parts = tir.pieces(count, _LANES)
            for start, lanes in parts:
                tir.store(total, start, tir.constant(0, "float32", lanes), lanes)
            with T.serial(0, reduced) as r:
                for start, lanes in parts:
                    value = tir.load(x, (image * reduced + r) * inner + channel + start, lanes)
                    tir.store(total, start, tir.load(total, start, lanes) + value, lanes)
            factor = float(np.float32(1 / reduced))
            for start, lanes in parts:
                value = tir.load(total, start, lanes) * tir.constant(factor, "float32", lanes)
                value = tir.clipped(value, operation.low, operation.high, lanes)
                tir.store(y, image * inner + channel + start, value, lanes)

        with T.serial(begin, end) as index:
            image, channel = index // blocks, index % blocks * block
            if inner < block:
                sums(image, channel, inner)
            elif not inner % block:
                sums(image, channel, block)
            else:
                with T.If(index % blocks < inner // block):
                    with T.Then():
                        sums(image, channel, block)
                    with T.Else():
                        sums(image, channel, inner % block)

    sizes = operation.outer * reduced * inner, operation.outer * inner
    return tir.kernel([("float32", size) for size in sizes], "float32", body)
