"""Depthwise convolution: vectors of channels, several taps in one product, several pixels sharing loads.

Pixels are of one row, or of a few rows whose windows overlap: what one row loads and interleaves serves the
next as well, with the weights moved down.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from edgec.arrays import Array
from edgec.kernels import tir
from edgec.kernels.codegen import stripe
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.conv import conv2d, epilogue
from edgec.kernels.conv.epilogue import Epilogue
from edgec.kernels.isa.base import DepthwiseSet, Output
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Conv2d, Demands, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Adjacent pixels, and rows, computed together, whose accumulators must fit the registers: what comes after an
# instruction set's own, likeliest fastest first, by measurements of MobileNetV2.
_TILES = ((4, 1), (3, 1), (2, 1), (2, 2), (3, 2), (6, 1))
# Size of a stripe by that of the L1 cache: it streams from the L2 cache as fast as it is used, and of higher
# ones fewer rows are copied twice; those with small scratch memory come last.
_STRIPES = ((2, 4), (1,))
# Tiles that a layer is cut into at least, for a second thread: four were no faster on two, and slower on one.
_LEAST_TILES = 2

Tap = tuple[int, int]
"""Row and column in the window."""


@dataclass(frozen=True)
class _Product:
    """Taps that one product sums for one of the output rows computed together."""

    row: int
    taps: tuple[Tap, ...]
    """Where they are read; rows count from the first output row's window on."""
    weights: tuple[Tap | None, ...]
    """None where the row isn't in this output row's window: its weight is zero."""
    number: int
    """Its place among the packed weights."""

    @property
    def alone(self) -> "_Product":
        """The first output row's, without the rows below its window."""
        count = sum(weight is not None for weight in self.weights)
        return replace(self, taps=self.taps[:count], weights=self.weights[:count])


@dataclass(frozen=True, eq=False)
class _Blocks:
    """A range of channels that one instruction set covers, block after block."""

    isa: DepthwiseSet
    start: int
    """First channel; also the first element of bias and multipliers, which are padded to whole blocks."""
    count: int
    valid: int
    """Channels that exist of a block; fewer than a whole one only where count is 1."""
    weights_start: int

    @property
    def channels(self) -> int:
        """Channels of a block."""
        return sum(len(order) for order in self.isa.order)


def _products(isa: DepthwiseSet, kernel: tuple[int, int], stride: int, rows: int) -> list[_Product]:
    """Return the products of one pixel in each of `rows` output rows: down each column, or simply in order.

    Down the columns, output rows multiply the same taps, each by weights of its own.
    """
    window = [(row, column) for row in range(kernel[0]) for column in range(kernel[1])]
    if not isa.vertical:
        groups = [tuple(window[i : i + isa.group]) for i in range(0, len(window), isa.group)]
        return [_Product(0, group, group, number) for number, group in enumerate(groups)]
    reach = (rows - 1) * stride + kernel[0]
    found: list[_Product] = []
    for column, first, row in product(range(kernel[1]), range(0, reach, isa.group), range(rows)):
        taps = tuple((r, column) for r in range(first, min(first + isa.group, reach)))
        weights = tuple(tap if (tap := (r - row * stride, column)) in window else None for r, column in taps)
        if any(weights):
            found.append(_Product(row, taps, weights, len(found)))
    return found


def _of(isa: DepthwiseSet, shape: Geometry) -> list[_Product]:
    return _products(isa, shape.kernel, shape.strides[0], shape.register_tile[1])


def _blocks(isa: DepthwiseSet, channels: int, products: Sequence[_Product]) -> list[_Blocks]:
    """Cut the channels into whole blocks and a last one, of a narrower instruction set if that holds it."""
    block = sum(len(order) for order in isa.order)
    whole, rest = divmod(channels, block)
    found = [_Blocks(isa, 0, whole, block, 0)] if whole else []
    if rest:
        last = isa
        while last.narrower is not None and rest <= sum(len(order) for order in last.narrower.order):
            last = last.narrower
        size = len(_groups(products)) * isa.group * block
        found.append(_Blocks(last, whole * block, 1, rest, whole * size))
    return found


def _groups(products: Sequence[_Product]) -> list[tuple[Tap | None, ...]]:
    """Return the weights of every product, each once, in their order."""
    return list({product.number: product.weights for product in products}.values())


def _geometry(
    operation: Conv2d, isa: DepthwiseSet, target: Target, pixels: int, height: int, stripe_l1: int,
    demands: Demands,
) -> Geometry:  # fmt: skip
    n, h, w, c = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    kernel = (int(operation.weights.shape[1]), int(operation.weights.shape[2]))
    row_bytes = ((columns - 1) * operation.strides[1] + kernel[1]) * outputs * tir.lanes_bytes(isa.panel)
    height = min(height, rows)
    wanted = max(1, stripe_l1 * target.l1d_bytes // row_bytes // operation.strides[0] // height)
    tile_rows = stripe.even(rows, wanted * height, height, _LEAST_TILES)
    shape = Geometry(
        n, rows, columns, c, outputs, pitch(demands.runs, outputs), c, h, w, operation.strides,
        operation.pads[:2], kernel, operation.dilations, tile_rows, columns, (min(pixels, columns), height),
        isa.panel, isa.panel_offset, repeats=outputs // c,
    )  # fmt: skip
    direct = (
        isa.panel == "int8" and not any(operation.pads) and whole_blocks(isa, shape) and shape.repeats == 1
    )
    shape = stripe.fitted(replace(shape, direct=direct), demands)
    # Smaller tiles than planned may not be whole pairs of rows.
    return shape if shape.tile_rows % height == 0 or shape.tile_rows == rows else _row_by_row(shape)


def _row_by_row(shape: Geometry) -> Geometry:
    return replace(shape, register_tile=(shape.register_tile[0], 1))


def whole_blocks(isa: DepthwiseSet, shape: Geometry) -> bool:
    """Whether vector loads read no channel that isn't there."""
    parts = _blocks(isa, shape.outputs, _of(isa, shape))
    return all(blocks.valid == blocks.channels for blocks in parts)


def accepts(isa: DepthwiseSet, operation: Conv2d) -> bool:
    """Whether a convolution is one of each channel with windows of its own, and exact here."""
    channels = operation.input_shape[3]
    if operation.groups != channels or channels == 1:
        return False
    return operation.residual is None and isa.accepts(operation.weights)


def codes(
    isa: DepthwiseSet, operation: Conv2d, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Code of a depthwise convolution with any number of outputs per channel; none for other convolutions."""
    if not accepts(isa, operation):
        return
    shapes = (
        replace(_geometry(operation, isa, target, *register_tile, stripe_l1, demands), channels_inside=inside)
        for inside in (isa.channels_inside, not isa.channels_inside)
        for stripes in _STRIPES
        for register_tile in dict.fromkeys((isa.tile, *_TILES))
        if register_tile[1] == 1 or (not demands.compact and _rows_share(isa, operation, register_tile[1]))
        for stripe_l1 in stripes
    )
    for shape in dict.fromkeys(shapes):
        yield _code(isa, operation, shape)


def _rows_share(isa: DepthwiseSet, operation: Conv2d, rows: int) -> bool:
    """Whether output rows have interleaved taps in common, and multiply no more than one after the other.

    Each has weights of its own.
    """
    kernel, stride = operation.weights.shape[1:3], operation.strides[0]
    alone, together = (_products(isa, kernel, stride, count) for count in (1, rows))
    return isa.vertical and operation.dilations[0] == 1 and len(together) == rows * len(alone)


def constants(isa: DepthwiseSet, operation: Conv2d, shape: Geometry) -> tuple[Array, ...]:
    """Return weights, biases, multipliers and parameters as the code reads them."""
    products = _of(isa, shape)
    parts = _blocks(isa, shape.outputs, products)
    bias = conv2d.folded_bias(operation, isa.panel_offset)
    return (
        np.concatenate([_packed(blocks, operation.weights, _groups(products)) for blocks in parts]),
        np.concatenate([_ordered(blocks, bias) for blocks in parts]),
        np.concatenate([_ordered(blocks, operation.multiplier) for blocks in parts]),
        epilogue.parameters(operation, isa.panel_offset),
    )


def _code(isa: DepthwiseSet, operation: Conv2d, shape: Geometry) -> KernelCode:
    columns, rows = shape.register_tile
    inside = "channels" if shape.channels_inside else "pixels"
    ending = epilogue.epilogue(operation)
    return KernelCode(
        key=f"depthwise {isa.name} {ending} {shape}",
        make=partial(_function, isa, shape, ending),
        constants=constants(isa, operation, shape),
        tiles=shape.tiles,
        scratch_bytes=shape.stripe_bytes,
        configuration=f"{columns}x{rows} pixels, {shape.tile_rows} rows, {inside} inside",
    )


def _packed(blocks: _Blocks, weights: Array, groups: Sequence[tuple[Tap | None, ...]]) -> Array:
    """Weights block by block, group of taps by group; missing taps and channels weigh zero."""
    packed = []
    for block in range(blocks.count):
        start = blocks.start + block * blocks.channels
        chosen = weights[start : start + blocks.valid, :, :, 0]
        for group in groups:
            taps = np.zeros((blocks.isa.group, blocks.channels), weights.dtype)
            for i, tap in enumerate(group):
                if tap is not None:
                    taps[i, : blocks.valid] = chosen[:, tap[0], tap[1]]
            packed.append(blocks.isa.pack(taps).reshape(-1))
    return np.concatenate(packed)


def _ordered(blocks: _Blocks, values: Array) -> Array:
    """Values per channel in the order of the accumulators."""
    whole = np.zeros((blocks.count, blocks.channels), values.dtype)
    chosen = values[blocks.start : blocks.start + blocks.count * blocks.valid]
    whole[:, : blocks.valid] = chosen.reshape(blocks.count, blocks.valid)
    return whole[:, [channel for order in blocks.isa.order for channel in order]].reshape(-1)


def arguments(isa: DepthwiseSet, shape: Geometry, ending: Epilogue) -> list[tuple[str, int]]:
    """Return dtype and size of each of `constants`."""
    products = _of(isa, shape)
    padded = sum(blocks.count * blocks.channels for blocks in _blocks(isa, shape.outputs, products))
    weights = padded * len(_groups(products)) * isa.group
    return [(isa.weights, weights), ("int32", padded), ("float32", padded), ("int32", ending.parameters)]


def _function(isa: DepthwiseSet, shape: Geometry, ending: Epilogue) -> object:
    return tir.kernel(
        [
            ("int8", shape.images * shape.in_rows * shape.in_columns * shape.channels),
            *arguments(isa, shape, ending),
            ("int8", shape.output_span),
        ],
        isa.panel,
        partial(_body, isa, shape, ending),
    )


def _body(
    isa: DepthwiseSet, shape: Geometry, ending: Epilogue, x: Buffer, weights: Buffer, bias: Buffer,
    multiplier: Buffer, parameters: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr,
) -> None:  # fmt: skip
    accumulators = allocate(isa, shape)
    constants = Constants(weights, bias, multiplier, ending.output(parameters))
    with T.serial(begin, end) as index:
        where = stripe.tile(shape, x, scratch, index, begin, epilogue.padding(parameters))
        writer = Writer(isa, shape, accumulators, where, constants, stripe.output(shape, where, y))
        if shape.register_tile[1] == 1:
            stripe.each_row(shape, where.row0, writer.emit)
        else:
            _each_rows(shape, where.row0, writer)


def allocate(isa: DepthwiseSet, shape: Geometry) -> list[Buffer]:
    """One small local buffer of accumulators per pixel that is computed together."""
    width, height = shape.register_tile
    largest = max(blocks.channels for blocks in _blocks(isa, shape.outputs, _of(isa, shape)))
    return [T.alloc_buffer((largest,), "int32", scope="global") for _ in range(width * height)]


@dataclass(frozen=True)
class Constants:
    """What a layer's code reads besides its input."""

    weights: Buffer
    bias: Buffer
    multiplier: Buffer
    ending: Output


@dataclass(frozen=True)
class Writer:
    """What writes the code of a tile's output rows, as many at once as the register tile has."""

    isa: DepthwiseSet
    shape: Geometry
    accumulators: list[Buffer]
    where: stripe.Tile
    constants: Constants
    destination: stripe.Destination

    def emit(self, row: Expr) -> None:
        """Write the code of the rows from `row` of the tile on."""
        self._emit(row, _of(self.isa, self.shape))

    def emit_one(self, row: Expr) -> None:
        """Write the code of `row` alone."""
        products = _of(self.isa, self.shape)
        self._emit(row, [product.alone for product in products if not product.row])

    def _emit(self, row: Expr, products: list[_Product]) -> None:
        shape = self.shape
        parts = _blocks(self.isa, shape.outputs, _of(self.isa, shape))

        def pixels(blocks: _Blocks, index: Expr, column: Expr, count: int) -> None:
            self._pixels(blocks, count, products, row, column, index)

        if shape.channels_inside:
            _each_pixels(
                shape,
                lambda column, count: _each_block(
                    parts, lambda blocks, index: pixels(blocks, index, column, count)
                ),
            )
        else:
            _each_block(
                parts,
                lambda blocks, index: _each_pixels(
                    shape, lambda column, count: pixels(blocks, index, column, count)
                ),
            )

    def _pixels(
        self, blocks: _Blocks, count: int, products: list[_Product], row: Expr, column: Expr, index: Expr
    ) -> None:
        """`count` adjacent output pixels in each of the rows of `products`, of one block of channels."""
        shape, constants = self.shape, self.constants
        isa, block = blocks.isa, blocks.channels
        parts = range(0, block, isa.lanes)
        first = blocks.start + index * block
        rows = 1 + max(product.row for product in products)
        tile = {(r, p): self.accumulators[r * count + p] for r in range(rows) for p in range(count)}
        for accumulator in tile.values():
            for part in parts:
                tir.store(accumulator, part, tir.load(constants.bias, first + part, isa.lanes), isa.lanes)

        start = self.where.origin + row * (shape.strides[0] * shape.pitch) + first
        groups, size = len(_groups(_of(self.isa, shape))), isa.group * block
        # Down the columns, products follow the input's, so that pixels share interleaved taps while they are
        # in registers; else they follow the weights, which pixels share as well.
        work = [(product, pixel) for product in products for pixel in range(count)]
        if isa.vertical:
            work.sort(key=lambda w: w[1] * shape.strides[1] + w[0].taps[0][1] * shape.dilations[1])
        for one, pixel in work:
            at = start + (column + pixel) * (shape.strides[1] * shape.outputs)
            a = [
                tir.load(
                    self.where.source,
                    at
                    + (down * shape.dilations[0] * shape.pitch + right * shape.dilations[1] * shape.outputs),
                    block,
                )
                for down, right in one.taps
            ]
            offset = blocks.weights_start + (index * groups + one.number) * size
            isa.products([(tile[one.row, pixel], part) for part in parts], a, constants.weights, offset)

        scales = [tir.load(constants.multiplier, first + part, isa.lanes) for part in parts]
        order = [channel for part in isa.order for channel in part]
        inverse = [order.index(channel) for channel in range(block)]
        for (r, pixel), accumulator in tile.items():
            sums = [tir.load(accumulator, part, isa.lanes) for part in parts]
            value = isa.requantize(sums, scales, constants.ending)
            if inverse != sorted(inverse):
                value = tir.shuffle(value, inverse)
            place = self.destination.pixel(row + r, column + pixel) + first
            self.destination.store(place, value, block, blocks.valid)


def _each_rows(shape: Geometry, row0: Expr, writer: Writer) -> None:
    """Write the loop over a tile's output rows, a few at a time, and those left one by one."""
    height = shape.register_tile[1]
    total: Expr = shape.tile_rows
    if shape.rows % shape.tile_rows:
        total = T.min(shape.tile_rows, shape.rows - row0)
    with T.serial(0, total // height) as index:
        writer.emit(index * height)
    if shape.rows % height:  # left of the last tile
        with T.serial(0, total % height) as index:
            writer.emit_one(total - total % height + index)


def _each_block(parts: list[_Blocks], body: Callable[[_Blocks, Expr], None]) -> None:
    for blocks in parts:
        tir.serial(blocks.count, partial(body, blocks))


def _each_pixels(shape: Geometry, body: Callable[[Expr, int], None]) -> None:
    """Write the loops over a row, a few pixels at a time, as evenly as can be: one alone shares nothing."""
    groups = -(-shape.columns // shape.register_tile[0])
    count, more = divmod(shape.columns, groups)
    if more:
        tir.serial(more, lambda p: body(p * (count + 1), count + 1))
    tir.serial(groups - more, lambda p: body(more * (count + 1) + p * count, count))
