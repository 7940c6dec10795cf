"""Normalizations over int8 groups: integer sums, one root and one division a group, one pass that scales."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, Normalize
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# One 128-bit register of int8, several of int32.
_LANES = 16
# Channels of an image that a tile normalizes, over all pixels: two cache lines of each.
_BLOCK = 128

PARAMETERS = 5
"""int32 parameters: low, high, output zero point, input zero point, the bits of epsilon."""


def parameters(operation: Normalize) -> NDArray[np.int32]:
    """Return what the kernels take of an operation that is no channel's."""
    bounds = [operation.low, operation.high, operation.output_zero_point, operation.input_zero_point, 0]
    values = np.array(bounds, np.int32)
    values.view(np.float32)[4] = operation.epsilon
    return values


def shape_of(operation: Normalize) -> str:
    """Return, for a key, all of an operation that its code knows."""
    extents = operation.outer, operation.rows, operation.groups, operation.length
    return f"{operation.kind} {extents}"


def normalize(operation: Normalize, target: Target, demands: Demands = FREE) -> KernelCode:
    """Go row by row where a group lies in one, else by blocks of channels over all rows."""
    del demands
    lanes = tir.lanes_on(target, _LANES)
    one_row = operation.rows == 1
    block = 0 if one_row else _block(operation)
    tiles = operation.groups if one_row else operation.channels // block
    return KernelCode(
        key=f"normalize {shape_of(operation)} {lanes}",
        make=partial(_rows, operation, lanes) if one_row else partial(_blocks, operation, lanes, block),
        constants=(operation.multiplier, operation.bias, parameters(operation)),
        tiles=operation.outer * tiles,
        scratch_bytes=2 * 4 * block,
        inplace=(0,),
    )


def _block(operation: Normalize) -> int:
    """Return the channels of a tile: whole groups, as many as divide them all and fit, but one at least."""
    fitting = range(max(1, min(operation.groups, _BLOCK // operation.length)), 0, -1)
    return operation.length * next(groups for groups in fitting if operation.groups % groups == 0)


def kernel_of(
    size: int, channels: int, given: int, body: Callable[..., None], affine: str = "float32"
) -> object:
    """Return the PrimFunc over input, multipliers and biases of type `affine`, `given` parameters, result."""
    per_channel = affine, channels
    buffers = [("int8", size), per_channel, per_channel, ("int32", given), ("int8", size)]
    return tir.kernel(buffers, "int32", body, noalias=False)


def terms(kind: str, x: Expr, zero_point: Expr, lanes: int) -> tuple[Expr, ...]:
    """Return what an int8 vector adds to a group's sums: its elements and squares, or its magnitudes."""
    if kind == "magnitudes":
        centred = tir.cast(x, "int32", lanes) - tir.broadcast(zero_point, lanes)
        return (T.max(centred, tir.constant(0, "int32", lanes) - centred),)
    wide = tir.cast(x, "int16", lanes)
    return tir.cast(x, "int32", lanes), tir.cast(wide * wide, "int32", lanes)


def spread(operation: Normalize, sums: Sequence[Expr], zero_point: Expr) -> tuple[Expr, Expr, Expr]:
    """Return a group's v (int64), and the factor f and offset o of its elements e = f * x - o.

    `sums` are those of `terms`; v doesn't depend on the zero point where the mean is taken off.
    """
    n, total = T.int64(operation.count), T.cast(sums[0], "int64")
    if operation.kind == "magnitudes":
        return total * total, T.int32(1), zero_point
    squares = T.cast(sums[1], "int64")
    if operation.kind == "variance":
        return n * squares - total * total, T.int32(operation.count), sums[0]
    offset = T.cast(zero_point, "int64")
    return squares - T.int64(2) * offset * total + n * offset * offset, T.int32(1), zero_point


def _reciprocal(value: Expr, epsilon: Expr) -> Expr:
    """Return 1 / sqrt(v + epsilon), of v as two float32, so that no core needs a conversion of int64."""
    upper = T.cast(T.cast(value >> T.int64(24), "int32"), "float32")
    lower = T.cast(T.cast(value & T.int64(0xFFFFFF), "int32"), "float32")
    whole = (upper * T.float32(2**24) + lower) + T.reinterpret("float32", epsilon)
    return T.float32(1) / tir.intrinsic("float32", "llvm.sqrt", whole)


def _scaled(
    x: Expr, factor: Expr, affine: tuple[Expr, Expr, Expr], bounds: Sequence[Expr], lanes: int
) -> Expr:
    """Return clamp(rne(float32(factor * x - offset) * multiplier + bias) + zero point) of an int8 vector."""
    offset, multiplier, bias = affine
    element = tir.cast(x, "int32", lanes) * tir.broadcast(factor, lanes) - offset
    value = tir.cast(element, "float32", lanes) * multiplier + bias
    return tir.cast(generic.round_and_clamp(value, bounds, lanes), "int8", lanes)


def _added(buffer: Buffer, start: int, lanes: int) -> Expr:
    """Add up a vector's lanes."""
    if lanes == 1:
        return buffer[start]
    return tir.intrinsic("int32", "llvm.vector.reduce.add", tir.load(buffer, start, lanes))


def _rows(operation: Normalize, lanes: int) -> object:
    groups, length = operation.groups, operation.length
    count = 1 if operation.kind == "magnitudes" else 2

    def body(
        x: Buffer, multiplier: Buffer, bias: Buffer, p: Buffer, y: Buffer, scratch: Buffer,
        begin: Expr, end: Expr,
    ) -> None:  # fmt: skip
        del scratch
        given = tir.registers(p, PARAMETERS)
        sums = T.alloc_buffer((count * lanes,), "int32", scope="global")
        found = T.alloc_buffer((2,), "int32", scope="global")  # the bits of the reciprocal, the offset
        with T.serial(begin, end) as index:
            start, channel = index * length, index % groups * length
            for which in range(count):
                tir.store(sums, which * lanes, tir.constant(0, "int32", lanes), lanes)

            def add(at: Expr, width: int) -> None:
                for which, term in enumerate(
                    terms(operation.kind, tir.load(x, start + at, width), given[3], width)
                ):
                    total = tir.load(sums, which * lanes, width) + term
                    tir.store(sums, which * lanes, total, width)

            tir.vectors(length, lanes, add)
            totals = [_added(sums, which * lanes, lanes) for which in range(count)]
            value, factor, offset = spread(operation, totals, given[3])
            tir.store(found, 0, T.reinterpret("int32", _reciprocal(value, given[4])))
            tir.store(found, 1, offset)

            def scale(at: Expr, width: int) -> None:
                reciprocal = tir.broadcast(T.reinterpret("float32", found[0]), width)
                each = reciprocal * tir.load(multiplier, channel + at, width)
                affine = tir.broadcast(found[1], width), each, tir.load(bias, channel + at, width)
                result = _scaled(tir.load(x, start + at, width), factor, affine, given[:3], width)
                tir.store(y, start + at, result, width)

            tir.vectors(length, lanes, scale)

    size = operation.outer * operation.rows * operation.channels
    return kernel_of(size, operation.channels, PARAMETERS, body)


def _blocks(operation: Normalize, lanes: int, block: int) -> object:
    rows, channels, length = operation.rows, operation.channels, operation.length
    blocks = channels // block
    count = 1 if operation.kind == "magnitudes" else 2

    def body(
        x: Buffer, multiplier: Buffer, bias: Buffer, p: Buffer, y: Buffer, scratch: Buffer,
        begin: Expr, end: Expr,
    ) -> None:  # fmt: skip
        given = tir.registers(p, PARAMETERS)
        group_sums = T.alloc_buffer((2,), "int32", scope="global")
        with T.serial(begin, end) as index:
            channel = index % blocks * block
            start = index // blocks * (rows * channels) + channel

            def zero(at: Expr, width: int) -> None:
                for which in range(count):
                    tir.store(scratch, which * block + at, tir.constant(0, "int32", width), width)

            tir.vectors(block, lanes, zero)
            with T.serial(0, rows) as row:

                def add(at: Expr, width: int) -> None:
                    given_x = tir.load(x, start + row * channels + at, width)
                    for which, term in enumerate(terms(operation.kind, given_x, given[3], width)):
                        total = tir.load(scratch, which * block + at, width) + term
                        tir.store(scratch, which * block + at, total, width)

                tir.vectors(block, lanes, add)
            with T.serial(0, block // length) as group:
                for which in range(count):
                    tir.store(group_sums, which, T.int32(0))
                with T.serial(0, length) as i:
                    for which in range(count):
                        total = group_sums[which] + scratch[which * block + group * length + i]
                        tir.store(group_sums, which, total)
                totals = [group_sums[which] for which in range(count)]
                value, _, offset = spread(operation, totals, given[3])
                tir.store(group_sums, 1, T.reinterpret("int32", _reciprocal(value, given[4])))
                with T.serial(0, length) as i:
                    at = group * length + i
                    each = T.reinterpret("float32", group_sums[1]) * multiplier[channel + at]
                    tir.store(scratch, at, offset)
                    tir.store(scratch, block + at, T.reinterpret("int32", each))
            with T.serial(0, rows) as row:

                def scale(at: Expr, width: int) -> None:
                    place = start + row * channels + at
                    factor = T.int32(operation.count if operation.kind == "variance" else 1)
                    bits = tir.load(scratch, block + at, width)
                    each = T.reinterpret(tir.vector("float32", width), bits)
                    affine = tir.load(scratch, at, width), each, tir.load(bias, channel + at, width)
                    result = _scaled(tir.load(x, place, width), factor, affine, given[:3], width)
                    tir.store(y, place, result, width)

                tir.vectors(block, lanes, scale)

    size = operation.outer * operation.rows * operation.channels
    return kernel_of(size, operation.channels, PARAMETERS, body)
