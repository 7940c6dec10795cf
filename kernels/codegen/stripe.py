"""Stripes: the input rows that one tile of a convolution reads, copied once, padded and converted."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from edgec.kernels import tir
from edgec.kernels.operations import Demands
from edgec.kernels.tir import Buffer, Expr, T, lanes_bytes

SLACK = 64
"""Elements that vector loads may read past a stripe's end (their products are discarded or times zero)."""

LEAST_TILES = 4
"""Tiles that a layer is cut into at least, where it can be, so that threads share them out."""

LANES = 32
"""Elements copied at a time; LLVM splits them into what the target has."""


@dataclass(frozen=True)
class Geometry:
    """A convolution as the loops see it; equal geometries share their code."""

    images: int
    rows: int
    """Output rows of an image; 1 for a pointwise product, whose pixels all lie in one row."""
    columns: int
    channels: int
    """Channels of the input, of all groups."""
    outputs: int
    """Output channels, all groups."""
    output_pitch: int
    """Elements of the result from one pixel to the next: more than `outputs` in a wider tensor."""
    groups: int
    in_rows: int
    in_columns: int
    strides: tuple[int, int]
    pads: tuple[int, int]
    """Top, left."""
    kernel: tuple[int, int]
    dilations: tuple[int, int]
    tile_rows: int
    tile_columns: int
    register_tile: tuple[int, int]
    dtype: str
    """Type of the stripe's elements."""
    offset: int
    """Added to every element on its way into the stripe."""
    direct: bool = False
    """Read the input in place, without a stripe."""
    repeats: int = 1
    """Times that the stripe holds every channel, one after the other: outputs of a depthwise convolution."""
    channels_inside: bool = False
    """Whether loops over channels lie inside those over pixels, where a convolution is depthwise."""
    parts: int = 1
    """Ranges of output channels, each computed for all pixels before the next: its weights are read once."""

    @property
    def stripe_rows(self) -> int:
        """Input rows that a tile reads."""
        return (self.tile_rows - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] + 1

    @property
    def stripe_columns(self) -> int:
        """Input columns that a tile reads, padding included."""
        return (self.tile_columns - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1

    @property
    def stripe_bytes(self) -> int:
        """Scratch that the stripe takes."""
        return 0 if self.direct else (self.stripe_rows * self.pitch + SLACK) * lanes_bytes(self.dtype)

    @property
    def output_span(self) -> int:
        """Elements of memory from the first of the result to the last."""
        return (self.images * self.rows * self.columns - 1) * self.output_pitch + self.outputs

    @property
    def pixel_tiles(self) -> int:
        """Tiles of all images' pixels."""
        return self.images * math.prod(self.blocks)

    @property
    def tiles(self) -> int:
        """Tiles of the whole output."""
        return self.parts * self.pixel_tiles

    @property
    def pitch(self) -> int:
        """Elements from one row of the source to the next."""
        return (self.in_columns if self.direct else self.stripe_columns) * self.channels * self.repeats

    @property
    def blocks(self) -> tuple[int, int]:
        """Tiles along rows and columns of one image."""
        return -(-self.rows // self.tile_rows), -(-self.columns // self.tile_columns)


def fitted(shape: Geometry, demands: Demands) -> Geometry:
    """Return the geometry with tiles as small as the scratch that is demanded, if there are such."""
    while not demands.allow(shape.stripe_bytes):
        if shape.tile_rows > 1:
            shape = replace(shape, tile_rows=even(shape.rows, shape.tile_rows - 1, least=1))
        elif shape.blocks[1] > 1 and shape.tile_columns > shape.register_tile[0]:
            shape = replace(shape, tile_columns=shape.tile_columns - shape.register_tile[0])
        else:
            break
    return shape


@dataclass(frozen=True)
class Tile:
    """Where one tile of the output lies, and where its input is read."""

    image: Expr
    row0: Expr
    """First output row and column."""
    column0: Expr
    source: Buffer
    """The stripe, or the input itself."""
    origin: Expr
    """First element of the tile's input in `source`."""
    part: Expr = 0
    """Which part of the output channels it computes."""


def even(total: int, wanted: int, unit: int = 1, least: int = LEAST_TILES) -> int:
    """Return the size of tiles, in whole units and no larger than wanted, that cut `total` most evenly.

    It aims at `least` tiles; whole units may make them fewer.
    """
    tiles = max(-(-total // wanted), min(least, -(-total // unit)))
    return min(total, -(-total // (tiles * unit)) * unit)


@dataclass(frozen=True)
class Destination:
    """Where a tile's results go: to the output, or to the stripe of a convolution that reads them."""

    buffer: Buffer
    pixel: Callable[[Expr, Expr], Expr]
    """Returns the first element of an output, by its row and column in the tile."""
    reader: Geometry | None = None
    """The geometry of the convolution that reads the stripe; None for none."""

    def store(self, start: Expr, value: Expr, lanes: int, count: int) -> None:
        """Store the first `count` of the int8 vector `value`."""
        converted = value if self.reader is None else convert(self.reader, value, lanes)
        tir.store_first(self.buffer, start, converted, lanes, count)


def convert(shape: Geometry, value: Expr, lanes: int) -> Expr:
    """Return an int8 vector as the stripe holds it."""
    if not shape.offset:
        return tir.cast(value, shape.dtype, lanes)
    assert (shape.dtype, shape.offset) == ("uint8", 128), "the sign bit, turned over"
    return T.reinterpret(tir.vector("uint8", lanes), value) ^ tir.constant(shape.offset, "uint8", lanes)


def output(shape: Geometry, where: Tile, y: Buffer) -> Destination:
    """Return the tile's place in the whole output."""

    def pixel(row: Expr, column: Expr) -> Expr:
        first = (where.image * shape.rows + where.row0 + row) * shape.columns
        return (first + where.column0 + column) * shape.output_pitch

    return Destination(y, pixel)


def tile(shape: Geometry, x: Buffer, scratch: Buffer, index: Expr, begin: Expr, pad_value: Expr) -> Tile:
    """Write the code that makes tile `index`'s input ready, and return where everything is.

    Where all tiles read one stripe, only `begin` fills it, the first of those that are computed.
    """
    row_blocks, column_blocks = shape.blocks
    part, number = index // shape.pixel_tiles, index % shape.pixel_tiles
    image = number // (row_blocks * column_blocks)
    row0 = number // column_blocks % row_blocks * shape.tile_rows
    column0 = number % column_blocks * shape.tile_columns
    if shape.direct:
        first = (image * shape.in_rows + row0 * shape.strides[0]) * shape.in_columns
        return Tile(image, row0, column0, x, (first + column0 * shape.strides[1]) * shape.channels, part)
    filled = partial(fill, shape, x, scratch, image, row0, column0, pad_value)
    if shape.parts > 1 and shape.pixel_tiles == 1:
        with T.If(index == begin), T.Then():
            filled()
    else:
        filled()
    return Tile(image, row0, column0, scratch, T.int32(0), part)


def each_row(shape: Geometry, row0: Expr, body: Callable[[Expr], None]) -> None:
    """Write the loop over a tile's output rows; the last tile of an image may have fewer."""
    if shape.rows % shape.tile_rows:
        with T.serial(0, T.min(shape.tile_rows, shape.rows - row0)) as row:
            body(row)
    else:
        tir.serial(shape.tile_rows, body)


def fill(
    shape: Geometry, x: Buffer, stripe: Buffer, image: Expr, row0: Expr, column0: Expr, pad_value: Expr
) -> None:
    """Write the code that copies a tile's input rows into the stripe, converted and padded.

    `row0` and `column0` are the tile's first output; `pad_value` is in the stripe's terms (offset included).
    """
    dtype = shape.dtype
    channels, repeats = shape.channels, shape.repeats
    # In elements of the input; the stripe holds each `repeats` times.
    # A window may lie in the padding altogether: then the stripe holds nothing else.
    left = min(shape.pads[1], shape.stripe_columns) * channels
    taken = min(shape.stripe_columns * channels - left, shape.in_columns * channels)
    right = shape.stripe_columns * channels - left - taken
    padding = T.cast(pad_value, dtype)

    def pad(start: Expr, count: int) -> None:
        def vector(offset: Expr, lanes: int) -> None:
            tir.store(stripe, start + offset, tir.broadcast(padding, lanes), lanes)

        tir.vectors(count * repeats, LANES, vector)

    def row(r: Expr) -> None:
        in_row = row0 * shape.strides[0] + r - shape.pads[0]
        target = r * shape.pitch
        first = ((image * shape.in_rows + in_row) * shape.in_columns + column0 * shape.strides[1]) * channels

        def copy(count: int) -> None:
            def vector(offset: Expr, lanes: int) -> None:
                value = convert(shape, tir.load(x, first + offset, lanes), lanes)
                if repeats > 1:
                    value = tir.repeat(value, lanes, repeats)
                tir.store(stripe, target + (left + offset) * repeats, value, lanes * repeats)

            tir.vectors(count, max(1, LANES >> (repeats - 1).bit_length()), vector)

        def inside() -> None:
            pad(target, left)
            if shape.columns % shape.tile_columns == 0:
                copy(taken)
            else:  # the last block of pixels is shorter
                last = (shape.columns % shape.tile_columns) * channels
                whole = column0 + shape.tile_columns <= shape.columns
                tir.either(whole, lambda: copy(taken), lambda: copy(last))
            pad(target + (left + taken) * repeats, right)

        always = not shape.pads[0] and shape.rows % shape.tile_rows == 0 and _rows_inside(shape)
        if always:
            inside()
        else:
            within = T.And(in_row >= 0, in_row < shape.in_rows)
            tir.either(within, inside, lambda: pad(target, shape.stripe_columns * channels))

    tir.serial(shape.stripe_rows, row)


def _rows_inside(shape: Geometry) -> bool:
    """Whether the last tile's stripe ends within the image."""
    return (shape.rows - shape.tile_rows) * shape.strides[0] + shape.stripe_rows <= shape.in_rows
