"""Convolution and matrix product: implicit GEMM over a stripe of input rows.

A tile of the output is a block of rows (or, for a 1x1 window, of pixels). Its input rows are copied once into
a padded stripe in the dtype that the instruction set multiplies; then register tiles read the stripe at the
convolution's own strides: there is no im2col buffer. Where the instruction set multiplies int8 as it stands
and nothing is padded, there is no copy either.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.errors import UnsupportedError
from edgec.kernels import tir
from edgec.kernels.codegen import padding, sharing, stripe, tile
from edgec.kernels.codegen.loops import Pixels, Rows, next_block, register_tiles
from edgec.kernels.codegen.padding import PaddingRows
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.conv import epilogue
from edgec.kernels.conv.epilogue import Epilogue
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Conv2d, Demands, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Output pixels per tile, the most likely first: enough to use a block of weights many times while it is in
# the L1 cache.
_PIXELS = (64, 128, 32, 256)
# From this many pixels on, reading int16 weights beats widening int8 ones, even where they come from memory:
# a core makes some 30 products per cycle by AVX2, and gets some 8 bytes.
_SHARING_PIXELS = 32
# Register tiles worth trying, of those that the model of the machine ranks first.
_TILES = 6
# Size of a stripe by that of the L1 data cache: within it, where weights and outputs share the rest, or
# streaming from the L2 cache, so that fewer tiles read the weights.
_STRIPE_SHARES = (0.5, 4.0)


def geometries(
    operation: Conv2d, isa: InstructionSet, target: Target, demands: Demands = FREE
) -> Iterator[Geometry]:
    """Yield the ways to tile a convolution on an instruction set, the one expected to be fastest first."""
    columns = operation.output_shape[2] if not _pointwise(operation) else math.prod(operation.input_shape[:3])
    first = _geometry(operation, isa, target.l1d_bytes, isa.tiles[0], _PIXELS[0], demands)
    walk, outputs = reduction(first), operation.output_shape[3] // operation.groups
    tiles = even = tile.ranked(isa, columns, outputs, walk)
    if isa.prefetches:  # where memory was measured; elsewhere instructions alone decide
        uneven = partial(sharing.unevenness, outputs, isa.lanes)
        even = tile.ranked(isa, columns, outputs, walk, uneven, streamed=True)
    weights = operation.weights.size * tir.lanes_bytes(isa.weights)
    by_channels = (
        sharing.over_channels(replace(first, register_tile=register_tile), weights, isa.lanes, target)
        for register_tile in even[:_TILES]
    )
    whole = [shape for shape in by_channels if shape and demands.allow(shape.stripe_bytes)]
    # All register tiles of one size before the next size: what is fastest is found sooner.
    by_pixels = (
        _geometry(operation, isa, int(target.l1d_bytes * share), register_tile, pixels, demands)
        for share, pixels in product(_STRIPE_SHARES, _PIXELS)
        for register_tile in tiles[:_TILES]
    )
    yield from dict.fromkeys([*whole, *by_pixels])


def _pointwise(operation: Conv2d) -> bool:
    """Whether pixels depend on one pixel each, so that all of them are rows of one matrix product."""
    window = operation.weights.shape[1:3]
    return tuple(window) == (1, 1) and operation.strides == (1, 1) and not any(operation.pads)


def _geometry(
    operation: Conv2d, isa: InstructionSet, limit: int, register_tile: tuple[int, int], pixels: int,
    demands: Demands,
) -> Geometry:  # fmt: skip
    """Return the tiling with about `pixels` pixels per tile and a stripe of `limit` bytes, at most."""
    n, h, w, c = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    kernel = (int(operation.weights.shape[1]), int(operation.weights.shape[2]))
    pads, strides = operation.pads, operation.strides
    pointwise = _pointwise(operation)
    if pointwise:
        n, h, w, rows, columns = 1, 1, n * h * w, 1, n * h * w
    tile_rows, tile_columns = 1, columns
    element = tir.lanes_bytes(isa.panel)
    if pointwise:
        height = register_tile[0]
        wanted = max(1, min(pixels // height, limit // (c * element) // height))
        tile_columns = stripe.even(columns, wanted * height, height)
    else:
        row_bytes = ((columns - 1) * strides[1] + kernel[1]) * c * element
        wanted = max(1, min(rows, pixels // columns, limit // row_bytes // strides[0]))
        tile_rows = stripe.even(rows, wanted)
    shape = Geometry(
        n, rows, columns, c, outputs, pitch(demands.runs, outputs), operation.groups, h, w, strides,
        (pads[0], pads[1]), kernel, operation.dilations, tile_rows, tile_columns, register_tile, isa.panel,
        isa.panel_offset,
    )  # fmt: skip
    as_it_stands = isa.panel == "int8" and not any(pads) and reduction(shape).run % isa.group == 0
    return stripe.fitted(replace(shape, direct=as_it_stands), demands)


def reduction(shape: Geometry) -> tile.Reduction:
    """Return the runs of a window: a kernel row is one, unless groups or dilation tear it apart."""
    rows, columns = shape.kernel
    per_group = shape.channels // shape.groups
    if shape.groups == 1 and (shape.dilations[1] == 1 or columns == 1):
        step = shape.dilations[0] * shape.pitch
        return tile.Reduction((rows, 1), (step, 0), columns * per_group, columns, not shape.direct)
    strides = (shape.dilations[0] * shape.pitch, shape.dilations[1] * shape.channels)
    return tile.Reduction((rows, columns), strides, per_group, slack=not shape.direct)


def codes(
    isa: InstructionSet, operation: Conv2d, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Code of a convolution on one instruction set; none where its weights aren't exact there."""
    if isa.accepts(operation.weights):
        for shape in geometries(operation, isa, target, demands):
            yield _code(isa, operation, shape, demands)


def widened(
    isa: InstructionSet, operation: Conv2d, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Code that reads int8 weights as int16, where so many pixels share them that their bytes don't count."""
    if math.prod(operation.output_shape[:3]) >= _SHARING_PIXELS and not demands.compact:
        yield from codes(isa, operation, target, demands)


def constants(isa: InstructionSet, operation: Conv2d, shape: Geometry) -> tuple[Array, ...]:
    """Return weights, biases, multipliers and parameters as the code reads them."""
    outputs, groups = shape.outputs, shape.groups
    per_group = outputs // groups
    walk = reduction(shape)
    weights = operation.weights.astype(isa.weights)
    grouped = weights.reshape(groups, per_group, math.prod(walk.taps), walk.run)
    vectors = shape.register_tile[1]
    packed = np.concatenate([tile.pack_weights(isa, part, walk, vectors) for part in grouped])

    # Vector loads of the last channels may reach past them.
    tail = np.zeros(vectors * isa.lanes, np.int32)
    bias = padding.biases(
        operation, folded_bias(operation, isa.panel_offset), operation.input_zero_point + isa.panel_offset,
        _left_out(isa, shape),
    )  # fmt: skip
    return (
        packed,
        np.concatenate([part for one in bias for part in (one, tail)]),
        np.concatenate([operation.multiplier, tail.view(np.float32)]),
        epilogue.parameters(operation, isa.panel_offset),
    )


def _code(isa: InstructionSet, operation: Conv2d, shape: Geometry, demands: Demands) -> KernelCode:
    ending = epilogue.epilogue(operation)
    packed = constants(isa, operation, shape)
    rows, width = shape.register_tile
    return KernelCode(
        key=f"conv2d {isa.name} {isa.weights} {ending} {shape}",
        make=partial(_function, isa, shape, packed[0].size, ending),
        constants=packed,
        tiles=shape.tiles,
        scratch_bytes=shape.stripe_bytes,
        inplace=(1,) if ending.residual and demands.runs is None else (),
        configuration=f"{rows}x{width} registers, {shape.tile_rows}x{shape.tile_columns} pixels"
        + (f", {shape.parts} parts" if shape.parts > 1 else ""),
    )


def _left_out(isa: InstructionSet, shape: Geometry) -> PaddingRows:
    """Window rows in the padding, where leaving them out is worth more than that LLVM unrolls their loop."""
    worth = isa.unroll and reduction(shape).run > isa.group
    return padding.padding_rows(shape) if worth else PaddingRows(0, 0)


def folded_bias(operation: Conv2d, panel_offset: int) -> NDArray[np.int32]:
    """Bias with the zero point's term folded in: bias - (z_a + panel_offset) * sum(w).

    Raises UnsupportedError where the weights don't prove that every sum stays within int32.
    """
    flat = operation.weights.reshape(len(operation.weights), -1).astype(np.int64)
    bias = operation.bias.astype(np.int64)
    folded = bias - (operation.input_zero_point + panel_offset) * flat.sum(axis=1)
    # |a| <= 128 as int8; with an offset of 128, 0..255.
    reach = np.abs(flat).sum(axis=1) * (255 if panel_offset else 128) + np.abs(folded)
    # The real sum, of (a - z_a) * w and the bias, is what must fit; 255 bounds |a - z_a|.
    if len(reach) and max(reach.max(), (np.abs(flat).sum(axis=1) * 255 + np.abs(bias)).max()) >= 2**31:
        raise UnsupportedError(
            f"a convolution of {operation.input_shape} by {operation.weights.shape} may exceed int32 "
            "accumulation: its reduction is too long or its bias too large; split it or keep it in float"
        )
    return np.asarray(folded, np.int32)


def arguments(isa: InstructionSet, shape: Geometry, weights: int, ending: Epilogue) -> list[tuple[str, int]]:
    """Return dtype and size of each of `constants`, of which the weights have the size `weights`."""
    channels = shape.outputs + shape.register_tile[1] * isa.lanes
    return [
        (isa.weights, weights),
        ("int32", channels * _left_out(isa, shape).biases),
        ("float32", channels),
        ("int32", ending.parameters),
    ]


def _function(isa: InstructionSet, shape: Geometry, weights: int, ending: Epilogue) -> object:
    residual = shape.images * shape.rows * shape.columns * shape.outputs
    return tir.kernel(
        [
            ("int8", shape.images * shape.in_rows * shape.in_columns * shape.channels),
            *([("int8", residual)] if ending.residual else []),
            *arguments(isa, shape, weights, ending),
            ("int8", shape.output_span),
        ],
        isa.panel,
        partial(_body, isa, shape, ending),
        noalias=not ending.residual and not isa.unroll,
    )


def _body(isa: InstructionSet, shape: Geometry, ending: Epilogue, x: Buffer, *buffers: Any) -> None:
    *others, weights, bias, multiplier, parameters, y, scratch, begin, end = buffers
    accumulators = tile.allocate(isa, shape.register_tile)
    values = tir.registers(parameters, ending.parameters)
    other = others[0] if ending.residual else None
    with T.serial(begin, end) as index:
        where = stripe.tile(shape, x, scratch, index, begin, epilogue.padding(values))
        Block(
            isa, shape, ending, accumulators, where, partial(stripe.each_row, shape, where.row0),
            weights, bias, multiplier, values, other, stripe.output(shape, where, y),
        ).emit()  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One tile of the output."""

    isa: InstructionSet
    shape: Geometry
    ending: Epilogue
    accumulators: list[Buffer]
    where: stripe.Tile
    rows: Rows
    weights: Buffer
    bias: Buffer
    multiplier: Buffer | None
    parameters: Sequence[Expr]
    """Parameters of the epilogue."""
    other: Buffer | None
    """What is added to the result."""
    destination: stripe.Destination
    row_term: Callable[[Expr], Expr] | None = None
    """Returns what the sums of a pixel begin with besides the bias, by its column in the tile."""
    row_scale: Callable[[Expr], Expr] | None = None
    """Returns the multiplier of all sums of a pixel, likewise, where channels have none."""
    store_sums: Callable[[Expr, Expr, Sequence[Expr]], None] | None = None
    """Takes a pixel's column in the tile, a channel, and vectors of sums from there on; nothing is stored."""

    def emit(self) -> None:
        """Write the code."""
        register_tiles(self.shape, self.isa.lanes, self._length, self.where, self.rows, self._tile)

    @property
    def _length(self) -> int:
        """Packed weights of an output."""
        walk = reduction(self.shape)
        return math.prod(walk.taps) * tile.padded_run(self.isa, walk)

    def _tile(self, columns: tile.Columns, channel: Expr, offset: Expr, _chunk: Expr, pixels: Pixels) -> None:
        shape = self.shape
        lanes = columns.vectors * self.isa.lanes

        first = self.destination.pixel(pixels.row_of_tile, pixels.column) + channel

        def store(i: int, value: Expr) -> None:
            self.destination.store(first + i * shape.output_pitch, value, lanes, columns.valid)

        def added(i: int) -> Expr:
            at = (pixels.first + i) * shape.outputs + channel
            assert self.other is not None, "there is a residual"
            return tir.load_first(self.other, at, lanes, columns.valid)

        residual = None
        if self.other is not None:
            residual = tile.Residual(added, self.ending.addition(self.parameters))
        left_out = _left_out(self.isa, shape)
        tap_rows, bias_start = None, channel
        if left_out.biases > 1:
            *tap_rows, index = padding.window(shape, left_out, pixels.row)
            bias_start = index * (shape.outputs + shape.register_tile[1] * self.isa.lanes) + channel
        ahead = None
        if self.isa.prefetches:
            step, element = self.isa.steps[-1], tir.lanes_bytes(self.isa.weights)
            ahead = next_block(shape, columns, self.isa.lanes, self._length, step, element, offset, pixels)
        terms = self.row_term
        row_term = None if terms is None else lambda i: terms(pixels.column + i)
        scales, sums = self.row_scale, self.store_sums
        row_scale = None if scales is None else lambda i: scales(pixels.column + i)
        store_sums = None if sums is None else lambda i, row: sums(pixels.column + i, channel, row)
        tile.emit(
            self.isa, self.accumulators, columns.vectors, self.where.source, pixels.starts, reduction(shape),
            tap_rows, self.weights, offset, self.bias, bias_start, self.multiplier, channel,
            self.ending.output(self.parameters), store, residual, ahead, row_term, row_scale,
            store_sums,
        )  # fmt: skip
