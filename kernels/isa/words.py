"""int16 by int16 products, exact in int32: what transformed activations and weights need."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa import arm64, generic, x86
from edgec.kernels.tir import Buffer, Expr, T


class WordPairs(x86.PairProducts):
    """`pmaddwd` with weights that are int16 in memory already; where there is VNNI, LLVM makes it `vpdpwssd`."""

    weights = "int16"


class WordLanes(arm64.Neon):
    """`smlal` by element: four weights times one activation, from either half of a vector of eight."""

    panel = "int16"
    weights = "int16"
    tiles = tuple(tile for tile in arm64.NEON.tiles if tile[1] % 2 == 0 and tile[0] * tile[1] <= 20)

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights."""
        return weights.dtype == np.int8

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[..., groups, vectors, lanes, 4] to [..., groups, 4, vectors, lanes]: the weights of one activation."""
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


AVX2 = WordPairs("avx2", x86.AVX2.features, 8, x86.AVX2.tiles)
AVX512 = WordPairs("avx512", x86.AVX512.features, 16, x86.AVX512.tiles)
AVX512VNNI = WordPairs("avx512vnni", x86.AVX512VNNI.features, 16, x86.AVX512VNNI.tiles)
AVXVNNI = WordPairs("avxvnni", x86.AVXVNNI.features, 8, x86.AVXVNNI.tiles)
SSE2 = WordPairs("sse2", x86.SSE2.features, 4, x86.SSE2.tiles)
NEON = WordLanes()
