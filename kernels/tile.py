"""The register tile: rows x vectors of int32 accumulators, fed over a reduction, requantized and stored.

Every matrix product and convolution is this tile, moved over the output. What differs is where a row of A
starts and how its reduction is cut into contiguous runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa.base import InstructionSet, Output
from edgec.kernels.tir import Buffer, Expr, T


@dataclass(frozen=True)
class Reduction:
    """How one output's reduction walks A: `taps` runs of `run` contiguous elements."""

    taps: tuple[int, int]
    """Runs along two dimensions (kernel rows and columns; columns is 1 where a row is one run)."""
    strides: tuple[int, int]
    """Elements of A between runs, per dimension."""
    run: int


@dataclass(frozen=True)
class Columns:
    """One block of the N dimension: all full blocks of `vectors`, or the narrower last one."""

    start: int
    """First output channel."""
    blocks: int
    vectors: int
    valid: int
    """Outputs of the block that exist; fewer than vectors * lanes only in the last block."""
    weights_start: int
    """First element in the packed weights."""


@dataclass(frozen=True)
class Residual:
    """What is added to a tile before it is stored."""

    load: Callable[[int], Expr]
    """Returns the int8 vector to add to row i."""
    parameters: Sequence[Expr]
    """Of `generic.combine`."""


def padded_run(isa: InstructionSet, reduction: Reduction) -> int:
    """Length of a run after padding to whole groups; the packed weights there are zero."""
    return -(-reduction.run // isa.group) * isa.group


def column_blocks(isa: InstructionSet, outputs: int, vectors: int, length: int) -> list[Columns]:
    """Cut `outputs` channels into blocks of `vectors` vectors; `length` is the padded reduction."""
    width = vectors * isa.lanes
    full, rest = divmod(outputs, width)
    blocks = [Columns(0, full, vectors, width, 0)] if full else []
    if rest:
        blocks.append(Columns(full * width, 1, -(-rest // isa.lanes), rest, full * width * length))
    return blocks


def pack_weights(
    isa: InstructionSet, weights: NDArray[np.generic], reduction: Reduction, vectors: int
) -> NDArray[np.generic]:
    """Bring [outputs, taps, run] to the tile's order of reading: block, tap, group, vector, lane, group."""
    outputs, taps, run = weights.shape
    length = padded_run(isa, reduction)
    packed = []
    for columns in column_blocks(isa, outputs, vectors, taps * length):
        width = columns.vectors * isa.lanes
        for block in range(columns.blocks):
            start = columns.start + block * width
            part = np.zeros((width, taps, length), weights.dtype)
            chosen = weights[start : start + min(width, columns.valid)]
            part[: len(chosen), :, :run] = chosen
            grouped = part.reshape(columns.vectors, isa.lanes, taps, length // isa.group, isa.group)
            packed.append(isa.pack(np.ascontiguousarray(grouped.transpose(2, 3, 0, 1, 4))).reshape(-1))
    return np.concatenate(packed)


def ranked(isa: InstructionSet, rows: int, outputs: int) -> list[tuple[int, int]]:
    """Return the register tiles for a [rows, outputs] product, the fewest modelled instructions first.

    Per group of the reduction a tile of r rows and v vectors multiplies r * v times and loads r + v operands;
    edge tiles cost what full ones of their size do.
    """

    def cost(tile: tuple[int, int]) -> float:
        total_vectors = -(-outputs // isa.lanes)
        total = 0.0
        for height, times in ((tile[0], rows // tile[0]), (rows % tile[0], 1)):
            for width, blocks in ((tile[1], total_vectors // tile[1]), (total_vectors % tile[1], 1)):
                if height and width:
                    total += times * blocks * (height * width + 0.5 * (height + width) + 1.0)
        return total

    return sorted(isa.tiles, key=cost)


def allocate(isa: InstructionSet, tile: tuple[int, int]) -> list[Buffer]:
    """One small local buffer of accumulators per row; with constant indices they become registers."""
    return [T.alloc_buffer((tile[1] * isa.lanes,), "int32", scope="global") for _ in range(tile[0])]


def emit(
    isa: InstructionSet,
    accumulators: Sequence[Buffer],
    vectors: int,
    a: Buffer,
    starts: Sequence[Expr],
    reduction: Reduction,
    b: Buffer,
    offset: Expr,
    bias: Buffer,
    multiplier: Buffer,
    channel: Expr,
    output: Output,
    store: Callable[[int, Expr], None],
    residual: Residual | None = None,
) -> None:
    """Write the code of one tile: `store(i, int8 vector)` is called for every row i.

    `starts` are the rows' first elements in A, `offset` the block's first in B, `channel` its first output.
    """
    lanes = isa.lanes
    tile = [[(row, j * lanes) for j in range(vectors)] for row in accumulators[: len(starts)]]
    for row in tile:
        for j, (buffer, element) in enumerate(row):
            tir.store(buffer, element, tir.load(bias, channel + j * lanes, lanes), lanes)
    length = padded_run(isa, reduction)
    width = vectors * lanes

    def runs(tap_row: Expr) -> None:
        def run(tap_column: Expr) -> None:
            tap = tap_row * reduction.taps[1] + tap_column
            shift = tap_row * reduction.strides[0] + tap_column * reduction.strides[1]
            done = 0
            for step in isa.steps:
                count = (length - done) // step
                if count:
                    _chunk(done, step, count, tap * length, shift)
                done += count * step

        tir.serial(reduction.taps[1], run)

    def _chunk(done: int, step: int, count: int, tap_start: Expr, shift: Expr) -> None:
        def chunk(index: Expr) -> None:
            k = done + index * step
            rows = [start + shift + k for start in starts]
            isa.multiply_accumulate(tile, a, rows, b, offset + (tap_start + k) * width, step)

        tir.serial(count, chunk)

    tir.serial(reduction.taps[0], runs)
    scales = [tir.load(multiplier, channel + j * lanes, lanes) for j in range(vectors)]
    for i, row in enumerate(tile):
        sums = [tir.load(buffer, e, lanes) for buffer, e in row]
        if residual is None:
            value = isa.requantize(sums, scales, output)
        else:
            value = isa.requantize_and_add(sums, scales, output, residual.load(i), residual.parameters)
        store(i, value)
