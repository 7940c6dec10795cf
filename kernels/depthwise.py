"""Depthwise convolution: vectors of channels, several taps in one product, several pixels sharing loads."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import conv2d, epilogue, stripe, tir
from edgec.kernels.epilogue import Epilogue
from edgec.kernels.isa.base import DepthwiseSet, Output
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Conv2d
from edgec.kernels.stripe import Geometry
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Adjacent pixels computed together, whose accumulators must fit the registers; and the size of a stripe by
# that of the L1 cache: it streams from the L2 cache as fast as it is used, and of higher ones fewer rows are
# copied twice. Likeliest fastest first, by measurements of MobileNetV2, but one with small scratch memory.
_CHOICES = (
    (4, 2), (4, 4), (3, 4), (3, 2), (2, 4), (2, 2), (4, 1), (3, 1), (2, 1), (6, 2), (6, 4), (6, 1)
)  # fmt: skip

Tap = tuple[int, int]
"""Row and column in the window."""


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


def _groups(isa: DepthwiseSet, kernel: tuple[int, int]) -> list[tuple[Tap, ...]]:
    """Taps that one product sums: down each column, or simply in order."""
    rows, columns = kernel
    lines = (
        [[(row, column) for row in range(rows)] for column in range(columns)]
        if isa.vertical
        else [[(row, column) for row in range(rows) for column in range(columns)]]
    )
    return [tuple(line[i : i + isa.group]) for line in lines for i in range(0, len(line), isa.group)]


def _blocks(isa: DepthwiseSet, channels: int, kernel: tuple[int, int]) -> list[_Blocks]:
    """Cut the channels into whole blocks and a last one, of a narrower instruction set if that holds it."""
    block = sum(len(order) for order in isa.order)
    groups = len(_groups(isa, kernel))
    whole, rest = divmod(channels, block)
    found = [_Blocks(isa, 0, whole, block, 0)] if whole else []
    if rest:
        last = isa
        while last.narrower is not None and rest <= sum(len(order) for order in last.narrower.order):
            last = last.narrower
        found.append(_Blocks(last, whole * block, 1, rest, whole * block * groups * isa.group))
    return found


def _geometry(operation: Conv2d, isa: DepthwiseSet, target: Target, pixels: int, stripe_l1: int) -> Geometry:
    n, h, w, c = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    kernel = (int(operation.weights.shape[1]), int(operation.weights.shape[2]))
    row_bytes = ((columns - 1) * operation.strides[1] + kernel[1]) * c * tir.lanes_bytes(isa.panel)
    tile_rows = max(1, min(rows, stripe_l1 * target.l1d_bytes // row_bytes // operation.strides[0]))
    tile_rows = -(-rows // -(-rows // tile_rows))  # tiles of equal height
    shape = Geometry(
        n, rows, columns, c, c, c, h, w, operation.strides, operation.pads[:2], kernel,
        operation.dilations, tile_rows, columns, (min(pixels, columns), 1), isa.panel, isa.panel_offset,
    )  # fmt: skip
    as_it_stands = isa.panel == "int8" and not any(operation.pads) and whole_blocks(isa, shape)
    return stripe.fitted(replace(shape, direct=as_it_stands), operation)


def whole_blocks(isa: DepthwiseSet, shape: Geometry) -> bool:
    """Whether vector loads read no channel that isn't there."""
    return all(blocks.valid == blocks.channels for blocks in _blocks(isa, shape.channels, shape.kernel))


def accepts(isa: DepthwiseSet, operation: Conv2d) -> bool:
    """Whether a convolution is one of each channel with a window of its own, and exact here."""
    channels = operation.input_shape[3]
    if operation.groups != channels or len(operation.weights) != channels or channels == 1:
        return False
    return operation.residual is None and isa.accepts(operation.weights)


def codes(isa: DepthwiseSet, operation: Conv2d, target: Target) -> Iterator[KernelCode]:
    """Code of a depthwise convolution with one output per channel; none for any other convolution."""
    if not accepts(isa, operation):
        return
    shapes = (_geometry(operation, isa, target, pixels, stripe) for pixels, stripe in _CHOICES)
    for shape in dict.fromkeys(shapes):
        yield _code(isa, operation, shape)


def constants(isa: DepthwiseSet, operation: Conv2d, kernel: tuple[int, int]) -> tuple[NDArray[Any], ...]:
    """Return weights, biases, multipliers and parameters as the code reads them."""
    parts = _blocks(isa, operation.input_shape[3], kernel)
    bias = conv2d.folded_bias(operation, isa.panel_offset)
    return (
        np.concatenate([_packed(blocks, operation.weights, kernel) for blocks in parts]),
        np.concatenate([_ordered(blocks, bias) for blocks in parts]),
        np.concatenate([_ordered(blocks, operation.multiplier) for blocks in parts]),
        epilogue.parameters(operation, isa.panel_offset),
    )


def _code(isa: DepthwiseSet, operation: Conv2d, shape: Geometry) -> KernelCode:
    ending = epilogue.epilogue(operation)
    return KernelCode(
        key=f"depthwise {isa.name} {ending} {shape}",
        make=partial(_function, isa, shape, ending),
        constants=constants(isa, operation, shape.kernel),
        tiles=shape.tiles,
        scratch_bytes=shape.stripe_bytes,
        configuration=f"{shape.register_tile[0]} pixels, {shape.tile_rows} rows",
    )


def _packed(blocks: _Blocks, weights: NDArray[Any], kernel: tuple[int, int]) -> NDArray[Any]:
    """Weights block by block, group of taps by group; missing taps and channels weigh zero."""
    packed = []
    for block in range(blocks.count):
        start = blocks.start + block * blocks.channels
        chosen = weights[start : start + blocks.valid, :, :, 0]
        for group in _groups(blocks.isa, kernel):
            taps = np.zeros((blocks.isa.group, blocks.channels), weights.dtype)
            for i, (row, column) in enumerate(group):
                taps[i, : blocks.valid] = chosen[:, row, column]
            packed.append(blocks.isa.pack(taps).reshape(-1))
    return np.concatenate(packed)


def _ordered(blocks: _Blocks, values: NDArray[Any]) -> NDArray[Any]:
    """Values per channel in the order of the accumulators."""
    whole = np.zeros((blocks.count, blocks.channels), values.dtype)
    chosen = values[blocks.start : blocks.start + blocks.count * blocks.valid]
    whole[:, : blocks.valid] = chosen.reshape(blocks.count, blocks.valid)
    return whole[:, [channel for order in blocks.isa.order for channel in order]].reshape(-1)


def arguments(isa: DepthwiseSet, shape: Geometry, ending: Epilogue) -> list[tuple[str, int]]:
    """Return dtype and size of each of `constants`."""
    parts = _blocks(isa, shape.channels, shape.kernel)
    padded = sum(blocks.count * blocks.channels for blocks in parts)
    weights = sum(
        blocks.count * blocks.channels * len(_groups(blocks.isa, shape.kernel)) * blocks.isa.group
        for blocks in parts
    )
    return [(isa.weights, weights), ("int32", padded), ("float32", padded), ("int32", ending.parameters)]


def _function(isa: DepthwiseSet, shape: Geometry, ending: Epilogue) -> object:
    return tir.kernel(
        [
            ("int8", shape.images * shape.in_rows * shape.in_columns * shape.channels),
            *arguments(isa, shape, ending),
            ("int8", shape.images * shape.rows * shape.columns * shape.channels),
        ],
        isa.panel,
        partial(_body, isa, shape, ending),
    )


def _body(
    isa: DepthwiseSet, shape: Geometry, ending: Epilogue, x: Buffer, weights: Buffer, bias: Buffer,
    multiplier: Buffer, parameters: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr,
) -> None:  # fmt: skip
    accumulators = allocate(isa, shape)
    with T.serial(begin, end) as index:
        where = stripe.tile(shape, x, scratch, index, epilogue.padding(parameters))
        stripe.each_row(
            shape,
            where.row0,
            partial(
                row, isa, shape, accumulators, where, weights, bias, multiplier, ending.output(parameters),
                stripe.output(shape, where, y),
            ),
        )  # fmt: skip


def allocate(isa: DepthwiseSet, shape: Geometry) -> list[Buffer]:
    """One small local buffer of accumulators per adjacent pixel."""
    largest = max(blocks.channels for blocks in _blocks(isa, shape.channels, shape.kernel))
    return [T.alloc_buffer((largest,), "int32", scope="global") for _ in range(shape.register_tile[0])]


def row(
    isa: DepthwiseSet, shape: Geometry, accumulators: list[Buffer], where: stripe.Tile, weights: Buffer,
    bias: Buffer, multiplier: Buffer, ending: Output, destination: stripe.Destination, r: Expr,
) -> None:  # fmt: skip
    """Write the code of row `r` of a tile: the loops over blocks of channels and adjacent pixels."""
    width = shape.register_tile[0]
    for blocks in _blocks(isa, shape.channels, shape.kernel):

        def block(index: Expr, blocks: _Blocks = blocks) -> None:
            first = blocks.start + index * blocks.channels

            def pixels(column: Expr, count: int) -> None:
                start = where.origin + r * (shape.strides[0] * shape.pitch) + first
                _pixels(
                    blocks, shape, accumulators[:count], where.source, start, column, weights, bias,
                    multiplier, ending, index, destination, destination.pixel(r, column) + first,
                )  # fmt: skip

            full, tail = divmod(shape.columns, width)
            tir.serial(full, lambda p: pixels(p * width, width))
            if tail:
                pixels(full * width, tail)

        tir.serial(blocks.count, block)


def _pixels(
    blocks: _Blocks, shape: Geometry, accumulators: list[Buffer], source: Buffer, start: Expr, column: Expr,
    weights: Buffer, bias: Buffer, multiplier: Buffer, ending: Output, index: Expr,
    destination: stripe.Destination, output: Expr,
) -> None:  # fmt: skip
    """Adjacent output pixels of one block of channels."""
    isa, block = blocks.isa, blocks.channels
    parts = range(0, block, isa.lanes)
    base = blocks.start + index * block
    for accumulator in accumulators:
        for part in parts:
            tir.store(accumulator, part, tir.load(bias, base + part, isa.lanes), isa.lanes)

    groups = _groups(isa, shape.kernel)
    size = isa.group * block
    # Down the columns, products follow the input column, so that pixels share its interleaved taps while they
    # are in registers; else they follow the weights, which pixels share as well.
    products = [(pixel, number) for number in range(len(groups)) for pixel in range(len(accumulators))]
    if isa.vertical:
        products.sort(key=lambda p: p[0] * shape.strides[1] + groups[p[1]][0][1] * shape.dilations[1])
    for pixel, number in products:
        at = start + (column + pixel) * (shape.strides[1] * shape.channels)
        a = [
            tir.load(
                source,
                at + (row * shape.dilations[0] * shape.pitch + tap * shape.dilations[1] * shape.channels),
                block,
            )
            for row, tap in groups[number]
        ]
        offset = blocks.weights_start + (index * len(groups) + number) * size
        isa.products([(accumulators[pixel], part) for part in parts], a, weights, offset)

    scales = [tir.load(multiplier, base + part, isa.lanes) for part in parts]
    order = [channel for part in isa.order for channel in part]
    inverse = [order.index(channel) for channel in range(block)]
    for pixel, accumulator in enumerate(accumulators):
        value = isa.requantize([tir.load(accumulator, part, isa.lanes) for part in parts], scales, ending)
        if inverse != sorted(inverse):
            value = tir.shuffle(value, inverse)
        destination.store(output + pixel * shape.channels, value, block, blocks.valid)
