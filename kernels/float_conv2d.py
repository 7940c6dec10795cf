"""Convolution and matrix product in float32: implicit GEMM, in place or over a padded stripe of input rows.

As `conv2d`, but for what float32 changes: nothing is converted, so that only padding needs a stripe; weights
are four times as large, so that threads share out the output channels of small images.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgec.kernels import float_tile, stripe, tile, tir
from edgec.kernels.conv2d import reduction
from edgec.kernels.isa.fma import FloatSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import FloatConv2d, pitch
from edgec.kernels.stripe import Geometry
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Output pixels per tile, the most likely first: enough to use a block of weights many times while it is near.
_PIXELS = (64, 128, 32, 256)
# Register tiles worth trying, of those that the model of the machine ranks first.
_TILES = 6
# A stripe may take this part of the L2 cache, from which it streams as fast as it is used.
_STRIPE_SHARE = 0.25
# Tiles that a layer is cut into at least, where it can be, so that threads share them out evenly.
_WANTED_TILES = 8


@dataclass(frozen=True)
class _Shape:
    """All that decides the code."""

    geometry: Geometry
    parts: int
    """Ranges of output channels, each computed for all pixel tiles before the next."""
    residual: bool
    low: float
    high: float

    @property
    def tiles(self) -> int:
        return self.parts * self.geometry.tiles


def codes(isa: FloatSet, operation: FloatConv2d, target: Target) -> Iterator[KernelCode]:
    """Yield the ways to compute a convolution on an instruction set, the one expected to be fastest first."""
    _, _, columns, outputs = operation.output_shape
    if _pointwise(operation):
        columns = math.prod(operation.input_shape[:3])
    tiles = float_tile.ranked(isa, columns, outputs // operation.groups)[:_TILES]
    shapes = (_shape(operation, isa, target, t, pixels) for t in tiles for pixels in _PIXELS)
    for shape in dict.fromkeys(shapes):
        yield _code(isa, operation, shape)


def _pointwise(operation: FloatConv2d) -> bool:
    """Whether pixels depend on one pixel each, so that all of them are rows of one matrix product."""
    window = operation.weights.shape[1:3]
    return tuple(window) == (1, 1) and operation.strides == (1, 1) and not any(operation.pads)


def _shape(
    operation: FloatConv2d, isa: FloatSet, target: Target, register_tile: tuple[int, int], pixels: int
) -> _Shape:
    n, h, w, c = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    kernel = (int(operation.weights.shape[1]), int(operation.weights.shape[2]))
    pads, strides = operation.pads, operation.strides
    tile_rows, tile_columns = 1, columns
    if _pointwise(operation):
        n, h, w, rows, columns = 1, 1, n * h * w, 1, n * h * w
        height = register_tile[0]
        tile_columns = min(columns, max(1, pixels // height) * height)
    else:
        row_bytes = ((columns - 1) * strides[1] + kernel[1]) * c * tir.lanes_bytes("float32")
        limit = int(target.l2_bytes * _STRIPE_SHARE / row_bytes / strides[0])
        tile_rows = max(1, min(rows, pixels // columns, limit))
    geometry = Geometry(
        n, rows, columns, c, outputs, pitch(operation.runs, outputs), operation.groups, h, w, strides,
        (pads[0], pads[1]), kernel, operation.dilations, tile_rows, tile_columns, register_tile, "float32", 0,
        direct=not any(pads),
    )  # fmt: skip
    blocks = -(-outputs // operation.groups // (isa.lanes * register_tile[1]))
    parts = 1 if operation.groups > 1 else max(1, min(blocks, -(-_WANTED_TILES // geometry.tiles)))
    parts = -(-blocks // -(-blocks // parts))  # none empty
    return _Shape(geometry, parts, operation.residual, operation.low, operation.high)


def _code(isa: FloatSet, operation: FloatConv2d, shape: _Shape) -> KernelCode:
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
        tiles=shape.tiles,
        scratch_bytes=geometry.stripe_bytes,
        inplace=(1,) if shape.residual and operation.runs is None else (),
        configuration=f"{rows}x{vectors} registers, {geometry.tile_rows}x{geometry.tile_columns} pixels",
    )


def _function(isa: FloatSet, shape: _Shape, weights: int) -> object:
    geometry = shape.geometry
    residual = geometry.images * geometry.rows * geometry.columns * geometry.outputs
    sizes = [geometry.images * geometry.in_rows * geometry.in_columns * geometry.channels]
    sizes += [residual] * shape.residual
    sizes += [weights, geometry.outputs + geometry.register_tile[1] * isa.lanes, geometry.output_span]
    parameters = [("float32", size) for size in sizes]
    return tir.kernel(parameters, "float32", partial(_body, isa, shape), noalias=not shape.residual)


def _body(isa: FloatSet, shape: _Shape, x: Buffer, *buffers: Buffer) -> None:
    *others, weights, bias, y, scratch, begin, end = buffers
    rows, vectors = shape.geometry.register_tile
    accumulators = [T.alloc_buffer((vectors * isa.lanes,), "float32", scope="global") for _ in range(rows)]
    tiles = shape.geometry.tiles
    with T.serial(begin, end) as index:
        part = index // tiles if shape.parts > 1 else 0
        where = stripe.tile(
            shape.geometry, x, scratch, index % tiles if shape.parts > 1 else index, T.float32(0)
        )
        _Block(isa, shape, accumulators, where, part, weights, bias, others, y).emit()


@dataclass(frozen=True)
class _Block:
    """One tile of the output: the loops over groups, column blocks, rows and register tiles."""

    isa: FloatSet
    shape: _Shape
    accumulators: list[Buffer]
    where: stripe.Tile
    part: Expr
    weights: Buffer
    bias: Buffer
    others: list[Buffer]
    """What is added to the result, if anything."""
    y: Buffer

    def emit(self) -> None:
        geometry, parts = self.shape.geometry, self.shape.parts
        per_group = geometry.outputs // geometry.groups
        walk = reduction(geometry)
        length = math.prod(walk.taps) * walk.run
        blocks = tile.column_blocks(self.isa.lanes, per_group, geometry.register_tile[1], length)
        group_size = sum(c.blocks * c.vectors * self.isa.lanes for c in blocks) * length
        per_part = -(-sum(c.blocks for c in blocks) // parts)

        def group(g: Expr) -> None:
            for columns in blocks:
                width = columns.vectors * self.isa.lanes

                def block(n: Expr, columns: tile.Columns = columns, width: int = width) -> None:
                    channel = g * per_group + columns.start + n * width
                    offset = g * group_size + columns.weights_start + n * width * length
                    self._rows(columns, g, channel, offset)

                if parts == 1:
                    tir.serial(columns.blocks, block)
                elif columns.start:  # the narrower one is the last of all
                    with T.If(self.part == parts - 1), T.Then():
                        block(0)
                else:
                    first = self.part * per_part
                    with T.serial(0, T.min(per_part, columns.blocks - first)) as n:
                        block(first + n)

        tir.serial(geometry.groups, group)

    def _rows(self, columns: tile.Columns, g: Expr, channel: Expr, offset: Expr) -> None:
        geometry, height = self.shape.geometry, self.shape.geometry.register_tile[0]
        rest = geometry.columns % geometry.tile_columns  # of the last tile along a row, where tiles cut rows

        def row(r: Expr) -> None:
            def register_tile(column: Expr, height: int) -> None:
                self._tile(columns, g, channel, offset, r, column, height)

            full, tail = divmod(geometry.tile_columns, height)
            if not rest:
                if full:
                    tir.serial(full, lambda p: register_tile(p * height, height))
                if tail:
                    register_tile(full * height, tail)
                return
            left = geometry.columns - self.where.column0
            with T.serial(0, T.min(full, left // height)) as p:
                register_tile(p * height, height)
            if rest % height:
                with T.If(left < geometry.tile_columns), T.Then():
                    register_tile(left - rest % height, rest % height)

        stripe.each_row(geometry, self.where.row0, row)

    def _tile(
        self, columns: tile.Columns, g: Expr, channel: Expr, offset: Expr, row: Expr, column: Expr,
        height: int,
    ) -> None:  # fmt: skip
        geometry, where, lanes = self.shape.geometry, self.where, self.isa.lanes
        per_group = geometry.channels // geometry.groups
        base = where.origin + row * (geometry.strides[0] * geometry.pitch) + g * per_group
        starts = [base + (column + i) * (geometry.strides[1] * geometry.channels) for i in range(height)]
        pixel = (where.image * geometry.rows + where.row0 + row) * geometry.columns + where.column0 + column
        sums = [[(a, j * lanes) for j in range(columns.vectors)] for a in self.accumulators[:height]]
        for accumulators in sums:
            for buffer, element in accumulators:
                tir.store(buffer, element, tir.load(self.bias, channel + element, lanes), lanes)
        float_tile.accumulate(self.isa, sums, where.source, starts, reduction(geometry), self.weights, offset)
        for i, accumulators in enumerate(sums):
            start = (pixel + i) * geometry.output_pitch + channel
            added = (pixel + i) * geometry.outputs + channel
            for buffer, element in accumulators:
                valid = columns.valid - element
                value = tir.load(buffer, element, lanes)
                for other in self.others:
                    value = value + tir.load_first(other, added + element, lanes, valid)
                value = tir.clipped(value, self.shape.low, self.shape.high, lanes)
                tir.store_first(self.y, start + element, value, lanes, valid)
