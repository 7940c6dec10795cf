"""The register tile in float32: rows x vectors of sums, fed over a reduction.

As `tile`, without what int8 products need: groups, padding and slack.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.codegen.tile import STREAM, Ahead, Reduction, by_cost, column_blocks
from edgec.kernels.isa.fma import FloatSet
from edgec.kernels.tir import Buffer, Expr


def pack_weights(
    isa: FloatSet, weights: NDArray[np.float32], reduction: Reduction, vectors: int
) -> NDArray[np.float32]:
    """Bring [outputs, taps * run] to the tile's order of reading: block, tap, element, vector, lane."""
    outputs = len(weights)
    length = math.prod(reduction.taps) * reduction.run
    packed = []
    for columns in column_blocks(isa.lanes, outputs, vectors, length):
        width = columns.vectors * isa.lanes
        chosen = weights[columns.start : columns.start + columns.blocks * columns.valid]
        padded = np.pad(chosen, ((0, columns.blocks * width - len(chosen)), (0, 0)))
        packed.append(padded.reshape(columns.blocks, width, length).transpose(0, 2, 1).reshape(-1))
    return np.concatenate(packed)


def ranked(
    isa: FloatSet, rows: int, outputs: int,
    weigh: Callable[[tuple[int, int]], float] = lambda _tile: 1.0, streamed: bool = False,
) -> list[tuple[int, int]]:  # fmt: skip
    """Return the register tiles for a [rows, outputs] product, the fewest modelled instructions first.

    Per element of the reduction a tile of r rows and v vectors multiplies r * v times and loads r + v.
    `weigh` and `streamed` are those of `tile.ranked`.
    """

    def cost(height: int, width: int) -> float:
        loading = width * 4 * isa.lanes / STREAM if streamed else 0.0
        return max(height * width, loading) + 0.5 * (height + width) + 1.0

    return by_cost(isa.tiles, rows, -(-outputs // isa.lanes), cost, weigh)


def accumulate(
    isa: FloatSet,
    sums: Sequence[Sequence[tuple[Buffer, int]]],
    a: Buffer,
    starts: Sequence[Expr],
    reduction: Reduction,
    b: Buffer,
    offset: Expr,
    ahead: Ahead | None = None,
) -> None:
    """Write the code that adds all products of one tile to its sums, a (buffer, element) for every vector.

    `starts` are the rows' first elements in A, `offset` the block's first in B.
    """
    width = len(sums[0]) * isa.lanes

    def runs(tap_row: Expr) -> None:
        def run(tap_column: Expr) -> None:
            shift = tap_row * reduction.strides[0] + tap_column * reduction.strides[1]
            first = (tap_row * reduction.taps[1] + tap_column) * reduction.run
            done = 0
            for step in isa.steps:
                count = (reduction.run - done) // step

                def products(index: Expr, done: int = done, step: int = step) -> None:
                    k = done + index * step
                    rows = [start + shift + k for start in starts]
                    isa.multiply_accumulate(sums, a, rows, b, offset + (first + k) * width, step)
                    if ahead is not None:
                        tir.prefetch(b, ahead.start + (first + k) * ahead.stretch)

                if count:
                    tir.serial(count, products)
                done += count * step

        tir.serial(reduction.taps[1], run)

    tir.serial(reduction.taps[0], runs)
