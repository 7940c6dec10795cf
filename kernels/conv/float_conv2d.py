"""Convolution and matrix product in float32: implicit GEMM, in place or over a padded stripe of input rows.

As `conv2d`, but for what float32 changes: nothing is converted, so that only padding needs a stripe; weights
are four times as large, so that threads share out the output channels of small images, and where they are the
larger part rows of the window are added up one after the other, in the output: the L2 cache holds the weights
of one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edgec.kernels import tir
from edgec.kernels.codegen import sharing, stripe, tile
from edgec.kernels.codegen.loops import Pixels, next_block, register_tiles
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.conv import float_tile
from edgec.kernels.conv.conv2d import reduction
from edgec.kernels.isa.fma import FloatSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, FloatConv2d, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Output pixels per tile, the most likely first: enough to use a block of weights many times while it is near.
_PIXELS = (64, 128, 32, 256)
# Register tiles worth trying, of those that the model of the machine ranks first.
_TILES = 6
# A stripe may take this part of the L2 cache, from which it streams as fast as it is used.
_STRIPE_SHARE = 0.25
# Tiles that blocks of output channels make of those of pixels, where there are as many: each thread reads its
# part of the weights.
_WANTED_TILES = 8


@dataclass(frozen=True)
class _Shape:
    """All that decides the code."""

    geometry: Geometry
    chunks: int
    """How many chunks the window's rows are cut into, each computed for all pixels before the next."""
    residual: bool
    low: float
    high: float


def codes(
    isa: FloatSet, operation: FloatConv2d, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Yield the ways to compute a convolution on an instruction set, the one expected to be fastest first."""
    _, _, columns, outputs = operation.output_shape
    if _pointwise(operation):
        columns = math.prod(operation.input_shape[:3])
    per_group = outputs // operation.groups
    uneven = partial(sharing.unevenness, per_group, isa.lanes)
    tiles = float_tile.ranked(isa, columns, per_group, uneven, streamed=True)[:_TILES]
    by_channels = (_over_channels(operation, isa, target, t, demands) for t in tiles)
    tiles = float_tile.ranked(isa, columns, per_group)[:_TILES]
    by_pixels = (_shape(operation, isa, target, t, pixels, demands) for t in tiles for pixels in _PIXELS)
    for shape in dict.fromkeys([*filter(None, by_channels), *by_pixels]):
        yield _code(isa, operation, shape, demands)


def _pointwise(operation: FloatConv2d) -> bool:
    """Whether pixels depend on one pixel each, so that all of them are rows of one matrix product."""
    window = operation.weights.shape[1:3]
    return tuple(window) == (1, 1) and operation.strides == (1, 1) and not any(operation.pads)


def _over_channels(
    operation: FloatConv2d, isa: FloatSet, target: Target, register_tile: tuple[int, int], demands: Demands
) -> _Shape | None:
    """Return the shape that reads weights once; None where pixels are shared out."""
    shape = _shape(operation, isa, target, register_tile, _PIXELS[0], demands)
    chunks, _ = reduction(shape.geometry).taps
    geometry = sharing.over_channels(shape.geometry, operation.weights.nbytes, isa.lanes, target, chunks)
    return None if geometry is None else replace(shape, geometry=geometry, chunks=chunks)


def _shape(
    operation: FloatConv2d, isa: FloatSet, target: Target, register_tile: tuple[int, int], pixels: int,
    demands: Demands,
) -> _Shape:  # fmt: skip
    n, h, w, c = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    kernel = (int(operation.weights.shape[1]), int(operation.weights.shape[2]))
    pads, strides = operation.pads, operation.strides
    blocks = -(-outputs // operation.groups // (isa.lanes * register_tile[1]))
    # Threads share out pixels, where there are too few blocks of output channels for them.
    least = -(-stripe.LEAST_TILES // (blocks if operation.groups == 1 else 1))
    tile_rows, tile_columns = 1, columns
    if _pointwise(operation):
        n, h, w, rows, columns = 1, 1, n * h * w, 1, n * h * w
        height = register_tile[0]
        tile_columns = stripe.even(columns, max(1, pixels // height) * height, height, least)
    else:
        row_bytes = ((columns - 1) * strides[1] + kernel[1]) * c * tir.lanes_bytes("float32")
        limit = int(target.l2_bytes * _STRIPE_SHARE / row_bytes / strides[0])
        tile_rows = stripe.even(rows, max(1, min(rows, pixels // columns, limit)), least=least)
    geometry = Geometry(
        n, rows, columns, c, outputs, pitch(demands.runs, outputs), operation.groups, h, w, strides,
        (pads[0], pads[1]), kernel, operation.dilations, tile_rows, tile_columns, register_tile, "float32", 0,
        direct=not any(pads),
    )  # fmt: skip
    parts = 1 if operation.groups > 1 else max(1, min(blocks, -(-_WANTED_TILES // geometry.tiles)))
    parts = -(-blocks // -(-blocks // parts))  # none empty
    return _Shape(replace(geometry, parts=parts), 1, operation.residual, operation.low, operation.high)


def _code(isa: FloatSet, operation: FloatConv2d, shape: _Shape, demands: Demands) -> KernelCode:
    geometry = shape.geometry
    groups, (rows, vectors) = geometry.groups, geometry.register_tile
    walk = reduction(geometry)
    grouped = operation.weights.reshape(groups, geometry.outputs // groups, -1)
    packed = np.concatenate([float_tile.pack_weights(isa, part, walk, vectors) for part in grouped])
    # Vector loads of the last channels may reach past them.
    tail = np.zeros(vectors * isa.lanes, np.float32)
    return KernelCode(
        key=f"float_conv2d {isa.name} {shape}",
        make=partial(_function, isa, shape, packed.size),
        constants=(packed, np.concatenate([operation.bias, tail])),
        tiles=geometry.tiles,
        scratch_bytes=geometry.stripe_bytes,
        # Sums of several chunks would lie where what is added to the last one is still to be read.
        inplace=(1,) if shape.residual and demands.runs is None and shape.chunks == 1 else (),
        configuration=f"{rows}x{vectors} registers, {geometry.tile_rows}x{geometry.tile_columns} pixels"
        + (f", {geometry.parts} parts" if geometry.parts > 1 else ""),
    )


def _function(isa: FloatSet, shape: _Shape, weights: int) -> object:
    geometry = shape.geometry
    residual = geometry.images * geometry.rows * geometry.columns * geometry.outputs
    sizes = [geometry.images * geometry.in_rows * geometry.in_columns * geometry.channels]
    sizes += [residual] * shape.residual
    sizes += [weights, geometry.outputs + geometry.register_tile[1] * isa.lanes, geometry.output_span]
    parameters = [("float32", size) for size in sizes]
    return tir.kernel(parameters, "float32", partial(_body, isa, shape), noalias=not shape.residual)


def _body(isa: FloatSet, shape: _Shape, x: Buffer, *buffers: Any) -> None:
    *others, weights, bias, y, scratch, begin, end = buffers
    rows, vectors = shape.geometry.register_tile
    accumulators = [T.alloc_buffer((vectors * isa.lanes,), "float32", scope="global") for _ in range(rows)]
    with T.serial(begin, end) as index:
        where = stripe.tile(shape.geometry, x, scratch, index, begin, T.float32(0))
        _Block(isa, shape, accumulators, where, weights, bias, others, y).emit()


@dataclass(frozen=True)
class _Block:
    """One tile of the output."""

    isa: FloatSet
    shape: _Shape
    accumulators: list[Buffer]
    where: stripe.Tile
    weights: Buffer
    bias: Buffer
    others: list[Buffer]
    """What is added to the result, if anything."""
    y: Buffer

    @property
    def chunk(self) -> tile.Reduction:
        """What of the reduction is added up at a time."""
        walk = reduction(self.shape.geometry)
        return replace(walk, taps=(walk.taps[0] // self.shape.chunks, walk.taps[1]))

    def emit(self) -> None:
        geometry, walk = self.shape.geometry, reduction(self.shape.geometry)
        length = math.prod(walk.taps) * walk.run
        rows = partial(stripe.each_row, geometry, self.where.row0)
        register_tiles(geometry, self.isa.lanes, length, self.where, rows, self._tile, self.shape.chunks)

    def _tile(self, columns: tile.Columns, channel: Expr, offset: Expr, chunk: Expr, pixels: Pixels) -> None:
        geometry, lanes, part = self.shape.geometry, self.isa.lanes, self.chunk
        height = len(pixels.starts)
        sums = [[(a, j * lanes) for j in range(columns.vectors)] for a in self.accumulators[:height]]
        vectors = [(i, *vector) for i, row in enumerate(sums) for vector in row]

        def read(buffer: Buffer, pitch: int, i: int, element: int) -> Expr:
            start = (pixels.first + i) * pitch + channel + element
            return tir.load_first(buffer, start, lanes, columns.valid - element)

        def begin() -> None:
            for _, buffer, element in vectors:
                tir.store(buffer, element, tir.load(self.bias, channel + element, lanes), lanes)

        def resume() -> None:
            for i, buffer, element in vectors:
                tir.store(buffer, element, read(self.y, geometry.output_pitch, i, element), lanes)

        def finish() -> None:
            for i, buffer, element in vectors:
                value = tir.load(buffer, element, lanes)
                for other in self.others:
                    value = value + read(other, geometry.outputs, i, element)
                value = tir.clipped(value, self.shape.low, self.shape.high, lanes)
                tir.store(buffer, element, value, lanes)

        tir.either(chunk == 0, begin, resume)
        length = math.prod(part.taps) * part.run
        first = offset + chunk * (length * columns.vectors * lanes)
        shift = chunk * (part.taps[0] * part.strides[0])
        ahead = None
        if self.isa.prefetches:
            ahead = next_block(geometry, columns, lanes, length, 1, 4, first, pixels)
        float_tile.accumulate(
            self.isa, sums, self.where.source, [start + shift for start in pixels.starts], part, self.weights,
            first, ahead,
        )  # fmt: skip
        tir.either(chunk == self.shape.chunks - 1, finish, lambda: None)
        for i, buffer, element in vectors:
            start = (pixels.first + i) * geometry.output_pitch + channel + element
            tir.store_first(self.y, start, tir.load(buffer, element, lanes), lanes, columns.valid - element)
