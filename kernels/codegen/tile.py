"""The register tile: rows x vectors of int32 accumulators, fed over a reduction, requantized and stored.

Every matrix product and convolution is this tile, moved over the output. What differs is where a row of A
starts and how its reduction is cut into contiguous runs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa.base import InstructionSet, Output
from edgec.kernels.tir import Buffer, Expr, T

CACHE_LINE = 64
"""Bytes."""

STREAM = 13.0
"""Bytes that the L2 cache gives in the time of a product, two of which are a cycle (measured on Zen 5)."""

# Instructions to address a tile and to start and end its loops, as counted on arm64.
_TILE_OVERHEAD = 15.0


@dataclass(frozen=True)
class Reduction:
    """How one output's reduction walks A: `taps` runs of `run` contiguous elements."""

    taps: tuple[int, int]
    """Runs along two dimensions (kernel rows and columns; columns is 1 where a row is one run)."""
    strides: tuple[int, int]
    """Elements of A between runs, per dimension."""
    run: int
    pixels: int = 1
    """Equal parts of a run, which neighbouring rows of the tile read as well: one row's first part may be
    another's second."""
    slack: bool = False
    """Whether a vector's length past the end of a run may be read."""


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
    """Parameters that `generic.combine` takes."""


@dataclass(frozen=True)
class Ahead:
    """Weights to bring to the L2 cache while a register tile is computed: those that are read next."""

    start: Expr
    """First element."""
    stretch: int
    """Elements by those of the reduction."""


def padded_run(isa: InstructionSet, reduction: Reduction) -> int:
    """Length of a run after padding to whole groups; the packed weights there are zero."""
    return -(-reduction.run // isa.group) * isa.group


def column_blocks(lanes: int, outputs: int, vectors: int, length: int) -> list[Columns]:
    """Cut `outputs` channels into blocks of `vectors` vectors; `length` is the padded reduction."""
    width = vectors * lanes
    full, rest = divmod(outputs, width)
    blocks = [Columns(0, full, vectors, width, 0)] if full else []
    if rest:
        blocks.append(Columns(full * width, 1, -(-rest // lanes), rest, full * width * length))
    return blocks


def pack_weights(
    isa: InstructionSet, weights: NDArray[np.generic], reduction: Reduction, vectors: int
) -> NDArray[np.generic]:
    """Bring [outputs, taps, run] to the tile's order of reading: block, tap, group, vector, lane, group."""
    outputs, taps, run = weights.shape
    length = padded_run(isa, reduction)
    pixels = _shared_pixels(isa, reduction)
    part = length // pixels
    order = [
        pixel * part + start + n * step + k
        for start, step, count in _spans(isa, part, reduction.slack)
        for n in range(count)
        for pixel in range(pixels)
        for k in range(step)
    ]
    packed = []
    for columns in column_blocks(isa.lanes, outputs, vectors, taps * length):
        width = columns.vectors * isa.lanes
        for block in range(columns.blocks):
            start = columns.start + block * width
            block_weights = np.zeros((width, taps, length), weights.dtype)
            chosen = weights[start : start + min(width, columns.valid)]
            block_weights[: len(chosen), :, :run] = chosen
            grouped = block_weights[:, :, order].reshape(
                columns.vectors, isa.lanes, taps, length // isa.group, isa.group
            )
            packed.append(isa.pack(np.ascontiguousarray(grouped.transpose(2, 3, 0, 1, 4))).reshape(-1))
    return np.concatenate(packed)


def ranked(
    isa: InstructionSet, rows: int, outputs: int, reduction: Reduction,
    weigh: Callable[[tuple[int, int]], float] = lambda _tile: 1.0, streamed: bool = False,
) -> list[tuple[int, int]]:  # fmt: skip
    """Return the register tiles for a [rows, outputs] product, the fewest modelled instructions first.

    `weigh` says what else a tile costs, as a factor; `streamed` whether its weights come from the L2 cache.

    Per group of the reduction a tile of r rows and v vectors multiplies r * v times and loads r + v operands,
    two by one instruction. Where steps are several groups long, a row's operand is loaded once a step, and
    neighbours in a window share it.
    """
    groups = math.prod(reduction.taps) * padded_run(isa, reduction) // isa.group
    pixels = _shared_pixels(isa, reduction)
    vector = isa.lanes * isa.group * tir.lanes_bytes(isa.weights)

    def group_cost(height: int, width: int) -> float:
        if not isa.unroll:
            loading = width * vector / STREAM if streamed else 0.0
            return max(height * width, isa.chains, loading) + 0.5 * (height + width) + 1.0
        left = (height + pixels - 1) / pixels * isa.group / isa.steps[0]
        right = width * isa.group * isa.lanes / 32  # bytes of one `ldp`
        left += isa.row_cost * height
        stores = len(tir.pieces(width, 4))
        ends = height * (4 * width + 2 * -(-width // 2) + 2 * stores)  # bias, scale, round; narrow; store
        return height * width + left + right + 1.0 / pixels + (ends + _TILE_OVERHEAD) / groups

    return by_cost(isa.tiles, rows, -(-outputs // isa.lanes), group_cost, weigh)


def by_cost(
    tiles: Sequence[tuple[int, int]], rows: int, vectors: int, cost: Callable[[int, int], float],
    weigh: Callable[[tuple[int, int]], float] = lambda _tile: 1.0,
) -> list[tuple[int, int]]:  # fmt: skip
    """Return register tiles, the cheapest for [rows, vectors] first; `cost` is of one of (rows, vectors).

    Edge tiles cost what full ones of their size do. `weigh` is a factor of a tile's costs.
    """

    def whole(tile: tuple[int, int]) -> float:
        total = 0.0
        for height, times in ((tile[0], rows // tile[0]), (rows % tile[0], 1)):
            for width, blocks in ((tile[1], vectors // tile[1]), (vectors % tile[1], 1)):
                if height and width:
                    total += times * blocks * cost(height, width)
        return total * weigh(tile)

    return sorted(tiles, key=whole)


def allocate(isa: InstructionSet, tile: tuple[int, int]) -> list[Buffer]:
    """One small local buffer of accumulators per row; with constant indices they become registers."""
    rows = isa.whole_rows(tile[0])
    return [T.alloc_buffer((tile[1] * isa.lanes,), "int32", scope="global") for _ in range(rows)]


def _shared_pixels(isa: InstructionSet, reduction: Reduction) -> int:
    """Pixels of a run whose steps take turns in one loop body, so that rows share what they load."""
    whole = reduction.run // reduction.pixels % isa.group == 0
    return reduction.pixels if isa.unroll and whole else 1


def _spans(isa: InstructionSet, length: int, slack: bool) -> list[tuple[int, int, int]]:
    """Cut `length` of a reduction into (start, step, count): as many of the longest steps as there are.

    With `slack` what is left is one step too: the longest one's load, of which fewer products are made.
    """
    spans, done = [], 0
    rest = length % isa.steps[0]
    for step in (isa.steps[0], rest) if slack and rest else isa.steps:
        count = (length - done) // step
        if count:
            spans.append((done, step, count))
        done += count * step
    return spans


def emit(
    isa: InstructionSet,
    accumulators: Sequence[Buffer],
    vectors: int,
    a: Buffer,
    starts: Sequence[Expr],
    reduction: Reduction,
    tap_rows: Sequence[Expr] | None,
    b: Buffer,
    offset: Expr,
    bias: Buffer,
    bias_start: Expr,
    multiplier: Buffer | None,
    channel: Expr,
    output: Output,
    store: Callable[[int, Expr], None],
    residual: Residual | None = None,
    ahead: Ahead | None = None,
    row_term: Callable[[int], Expr] | None = None,
    row_scale: Callable[[int], Expr] | None = None,
    store_sums: Callable[[int, Sequence[Expr]], None] | None = None,
) -> None:
    """Write the code of one tile: `store(i, int8 vector)` is called for every row i.

    `starts` are the rows' first elements in A, `offset` the block's first in B, `bias_start` and `channel`
    its first bias and output. `tap_rows`, where not all count, are the reduction's first and how many.
    `row_term` returns what row i's sums begin with besides the bias, `row_scale` what they are multiplied by
    where channels have no multipliers. With `store_sums` they are given to it as they are, and no more.
    """
    lanes, height = isa.lanes, len(starts)
    starts = [*starts, *starts[-1:]][: isa.whole_rows(height)]
    tile = [[(row, j * lanes) for j in range(vectors)] for row in accumulators[: len(starts)]]
    for i, row in enumerate(tile):
        for j, (buffer, element) in enumerate(row):
            start = tir.load(bias, bias_start + j * lanes, lanes)
            if row_term is not None:
                start = start + tir.broadcast(row_term(min(i, height - 1)), lanes)
            tir.store(buffer, element, start, lanes)
    with isa.around(tile):
        accumulate(isa, tile, a, starts, reduction, b, offset, tap_rows, ahead)
    scales: list[Expr] = []
    if multiplier is not None:
        scales = [tir.load(multiplier, channel + j * lanes, lanes) for j in range(vectors)]
    for i, row in enumerate(tile[:height]):
        sums = [tir.load(buffer, e, lanes) for buffer, e in row]
        if store_sums is not None:
            store_sums(i, sums)
            continue
        if row_scale is not None:
            scales = [tir.broadcast(row_scale(i), lanes)] * vectors
        if residual is None:
            value = isa.requantize(sums, scales, output)
        else:
            value = isa.requantize_and_add(sums, scales, output, residual.load(i), residual.parameters)
        store(i, value)


def accumulate(
    isa: InstructionSet,
    tile: Sequence[Sequence[tuple[Buffer, int]]],
    a: Buffer,
    starts: Sequence[Expr],
    reduction: Reduction,
    b: Buffer,
    offset: Expr,
    tap_rows: Sequence[Expr] | None = None,
    ahead: Ahead | None = None,
) -> None:
    """Write the loops over the reduction that add A · B to the accumulators; see `emit`."""
    length = padded_run(isa, reduction)
    width = len(tile[0]) * isa.lanes
    pixels = _shared_pixels(isa, reduction)
    part = length // pixels

    def runs(tap_row: Expr) -> None:
        def run(tap_column: Expr) -> None:
            tap = tap_row * reduction.taps[1] + tap_column
            shift = tap_row * reduction.strides[0] + tap_column * reduction.strides[1]
            for done, step, count in _spans(isa, part, reduction.slack):
                _steps(done, step, count, tap * length, shift)

        tir.serial(reduction.taps[1], run)

    def _steps(done: int, step: int, count: int, tap_start: Expr, shift: Expr) -> None:
        # One loop has to be left, or LLVM would keep all weights in registers that there aren't.
        most = min(count if reduction.taps != (1, 1) else count // 2, isa.unroll // (pixels * step * width))
        unrolled = max([n for n in range(1, most + 1) if count % n == 0] or [1])

        def body(index: Expr) -> None:
            for n in range(unrolled):
                for pixel in range(pixels):
                    k = done + (index * unrolled + n) * step
                    rows = [start + shift + pixel * part + k for start in starts]
                    at = pixels * done + ((index * unrolled + n) * pixels + pixel) * step
                    isa.multiply_accumulate(tile, a, rows, b, offset + (tap_start + at) * width, step)
                    if ahead is not None:
                        first = ahead.start + (tap_start + at) * ahead.stretch
                        for line in range(0, step * ahead.stretch, CACHE_LINE):
                            tir.prefetch(b, first + line)

        tir.serial(count // unrolled, body)

    if tap_rows is None:
        tir.serial(reduction.taps[0], runs)
    else:
        first, count = tap_rows
        # From 0: TVM's CanonicalizeLoop would forget the outer loops' own first iterations in another start.
        with T.serial(0, count) as row:
            runs(first + row)
