"""The way over one tile of a convolution's output: groups, column blocks, rows, register tiles."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from edgec.kernels import tir
from edgec.kernels.codegen import stripe, tile
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.tir import Expr, T


@dataclass(frozen=True)
class Pixels:
    """The rows of a register tile: adjacent pixels of one output row."""

    starts: list[Expr]
    """First element of each one's input."""
    row: Expr
    """Row in the output image."""
    column: Expr
    """Column of the first pixel, in the tile."""
    row_of_tile: Expr
    first: Expr
    """Number of the first, among all images' pixels."""
    number: Expr
    """Number of the register tile, among those of the tile that read the same weights one after the other."""


Write = Callable[[tile.Columns, Expr, Expr, Expr, Pixels], None]
"""Takes a block of output channels, its first channel, its first packed weight, the chunk, and the pixels."""


Rows = Callable[[Callable[[Expr], None]], None]
"""Writes the loop over a tile's output rows, which calls back with each."""


def register_tiles(
    shape: Geometry, lanes: int, length: int, where: stripe.Tile, rows: Rows, write: Write, chunks: int = 1
) -> None:
    """Write the loops over one tile of the output, and inside what `write` writes of a register tile.

    `lanes` are a vector's outputs, `length` the packed weights of an output. Of a reduction in `chunks` each
    goes over all pixels before the next.
    """
    part, parts = where.part, shape.parts
    per_group = shape.outputs // shape.groups
    blocks = tile.column_blocks(lanes, per_group, shape.register_tile[1], length)
    group_size = sum(c.blocks * c.vectors * lanes for c in blocks) * length
    per_part = -(-sum(c.blocks for c in blocks) // parts)

    def group(g: Expr) -> None:
        for columns in blocks:
            width = columns.vectors * lanes

            def block(n: Expr, columns: tile.Columns = columns, width: int = width) -> None:
                channel = g * per_group + columns.start + n * width
                offset = g * group_size + columns.weights_start + n * width * length
                tir.serial(
                    chunks,
                    lambda c: _rows(shape, where, rows, g, partial(write, columns, channel, offset, c)),
                )

            if parts == 1:
                tir.serial(columns.blocks, block)
            elif columns.start:  # the narrower one is the last of all
                with T.If(part == parts - 1), T.Then():
                    block(0)
            else:
                first = part * per_part
                with T.serial(0, T.min(per_part, columns.blocks - first)) as n:
                    block(first + n)

    tir.serial(shape.groups, group)


def next_block(
    shape: Geometry, columns: tile.Columns, lanes: int, length: int, step: int, element: int, offset: Expr,
    pixels: Pixels,
) -> tile.Ahead | None:  # fmt: skip
    """Return what a register tile prefetches: its share of the weights behind its block's, at `offset`.

    Register tiles that read one block have the time of all their products for the next to come; each takes a
    cache line for every step of the reduction, of `step` weights of `element` bytes an output. In a bundle,
    what the next layer reads first lies behind the last block. None where it doesn't pay: where weights are
    read more than once, most of them would be there already.
    """
    stretch = tile.CACHE_LINE // (step * element)
    shares = -(-columns.vectors * lanes // stretch)
    register_tiles = shape.tile_rows * -(-shape.tile_columns // shape.register_tile[0])
    if shape.parts == 1 or shape.pixel_tiles > 1 or register_tiles < shares:
        return None
    number = T.min(pixels.number, shares - 1)
    return tile.Ahead(offset + columns.vectors * lanes * length + number * (length * stretch), stretch)


def _rows(shape: Geometry, where: stripe.Tile, rows: Rows, g: Expr, write: Callable[[Pixels], None]) -> None:
    height = shape.register_tile[0]
    rest = shape.columns % shape.tile_columns  # of the last tile along a row, where tiles cut rows

    def row(r: Expr) -> None:
        def register_tile(column: Expr, height: int) -> None:
            write(_pixels(shape, where, g, r, column, height))

        full, tail = divmod(shape.tile_columns, height)
        if not rest:
            if full:
                tir.serial(full, lambda p: register_tile(p * height, height))
            if tail:
                register_tile(full * height, tail)
            return
        left = shape.columns - where.column0
        with T.serial(0, T.min(full, left // height)) as p:
            register_tile(p * height, height)
        if rest % height:
            with T.If(left < shape.tile_columns), T.Then():
                register_tile(left - rest % height, rest % height)

    rows(row)


def _pixels(shape: Geometry, where: stripe.Tile, g: Expr, row: Expr, column: Expr, height: int) -> Pixels:
    base = where.origin + row * (shape.strides[0] * shape.pitch) + g * (shape.channels // shape.groups)
    starts = [base + (column + i) * (shape.strides[1] * shape.channels) for i in range(height)]
    pixel = (where.image * shape.rows + where.row0 + row) * shape.columns + where.column0 + column
    number = row * -(-shape.tile_columns // shape.register_tile[0]) + column // shape.register_tile[0]
    return Pixels(starts, where.row0 + row, column, row, pixel, number)
