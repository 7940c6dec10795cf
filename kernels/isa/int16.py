"""int16 by int16 products, exact in int32: what transformed activations and weights need."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa import arm64, generic, x86
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.tir import Buffer, Expr, T


class WordSet(InstructionSet, Protocol):
    """An instruction set for int16 activations and weights, and how fast it is."""

    instructions: float
    """Other vector instructions per cycle."""


class WordPairs(x86.PairProducts):
    """`pmaddwd` with weights that are int16 in memory; where there is VNNI, LLVM makes `vpdpwssd` of it."""

    weights = "int16"

    def __init__(self, like: x86.PairProducts, products: float, instructions: float) -> None:
        """Take the name, features and registers of `like`."""
        super().__init__(like.name, like.features, like.lanes, like.tiles, products)
        self.instructions = instructions

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """As they are: [lanes, pair] is what `pmaddwd` multiplies."""
        return weights

    def _widened(self, b: Buffer, offset: Expr, vectors: int) -> list[Expr]:
        wide = 2 * self.lanes
        return [tir.load(b, offset + j * wide, wide) for j in range(vectors)]


class WordLanes(arm64.Neon):
    """`smlal` by element: four weights times one activation, from either half of a vector of eight."""

    panel = "int16"
    weights = "int16"
    tiles = tuple(tile for tile in arm64.NEON.tiles if tile[1] % 2 == 0)
    products = 3.5
    instructions = 2.0

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights."""
        return weights.dtype == np.int8

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[..., groups, vectors, lanes, 4] to [..., groups, 4, vectors, lanes]: by activation."""
        return np.ascontiguousarray(np.moveaxis(weights, -1, -3))

    def multiply_accumulate(
        self,
        accumulators: Sequence[Sequence[tuple[Buffer, int]]],
        a: Buffer,
        rows: Sequence[Expr],
        b: Buffer,
        offset: Expr,
        step: int,
    ) -> None:
        """One activation of every row against all lanes."""
        vectors = len(accumulators[0])
        for k in range(step):
            for j in range(vectors):
                weights = tir.load(b, offset + (k * vectors + j) * 4, 4)
                for i, row in enumerate(rows):
                    activation = tir.shuffle(tir.load(a, row, step), [k])
                    product = tir.intrinsic(
                        "int32x4", "llvm.aarch64.neon.smull.v4i32", weights, T.broadcast(activation, 4)
                    )
                    generic.accumulate(accumulators[i][j], 4, product)


# Rates are those of Zen 4, and of Cortex-A72 by its optimization guide, less a tenth for loads and edges.
# AVX-512 VNNI has those of Zen 5, whose products are twice as fast, so that transforms weigh the most.
AVX512VNNI = WordPairs(x86.AVX512VNNI, products=58, instructions=2)
AVX512 = WordPairs(x86.AVX512, products=29, instructions=2)
AVXVNNI = WordPairs(x86.AVXVNNI, products=29, instructions=3)
AVX2 = WordPairs(x86.AVX2, products=29, instructions=3)
SSE2 = WordPairs(x86.SSE2, products=14, instructions=3)
NEON = WordLanes()
