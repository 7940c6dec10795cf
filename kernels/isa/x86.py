"""x86-64: exact int16 pair products (SSE2, AVX2, AVX-512BW) and VNNI's byte quads."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.tir import Buffer, Expr, T

_PAIR_PRODUCT = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
_QUAD_PRODUCT = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}


class PairProducts:
    """`pmaddwd`: int16 pairs, exact for every int8 operand.

    (`pmaddubsw` is twice as dense but saturates.) Activations are widened to int16 once, on their way into
    the panel; weights stay int8 in memory and are widened as they are read, which costs one instruction per
    vector and halves the traffic.
    """

    arch = "x86-64"
    group = 2
    panel = "int16"
    panel_offset = 0
    weights = "int8"
    steps = (2,)

    def __init__(
        self, name: str, features: frozenset[str], lanes: int, tiles: tuple[tuple[int, int], ...]
    ) -> None:
        """Name an instruction set of `lanes` int32 per register, with its register tiles."""
        self.name, self.features, self.lanes, self.tiles = name, features, lanes, tiles

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights: |a * w| + |a * w| < 2**31."""
        return weights.dtype == np.int8

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """As they are: [lanes, pair] is what `pmaddwd` multiplies."""
        return weights

    def multiply_accumulate(
        self,
        accumulators: Sequence[Sequence[tuple[Buffer, int]]],
        a: Buffer,
        rows: Sequence[Expr],
        b: Buffer,
        offset: Expr,
        step: int,
    ) -> None:
        """A pair of A in every lane against `lanes` pairs of B."""
        del step
        wide = 2 * self.lanes
        # Rows outside: the vectors of B stay in registers and one broadcast of A lives at a time.
        for i, row in enumerate(rows):
            pair = T.reinterpret("int32", tir.load(a, row, 2))
            left = T.reinterpret(tir.vector("int16", wide), T.broadcast(pair, self.lanes))
            for j in range(len(accumulators[0])):
                right = tir.cast(tir.load(b, offset + j * wide, wide), "int16", wide)
                product = tir.intrinsic(
                    tir.vector("int32", self.lanes), _PAIR_PRODUCT[self.lanes], left, right
                )
                generic.accumulate(accumulators[i][j], self.lanes, product)

    def requantize(
        self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], parameters: Sequence[Expr]
    ) -> Expr:
        """Arithmetic alone: five instructions a vector, none of them slow."""
        return generic.requantize(accumulators, multipliers, parameters, self.lanes)

    @property
    def depthwise_order(self) -> tuple[tuple[int, ...], ...]:
        """What interleaving two registers by `punpcklwd` and `punpckhwd` gives: halves of each 128 bits."""
        units = range(0, 2 * self.lanes, 8)
        return tuple(tuple(u + half + i for u in units for i in range(4)) for half in (0, 4))

    def accepts_depthwise(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights."""
        return weights.dtype == np.int8

    def pack_depthwise(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[pair, accumulator, lane, 2]: interleaved as the activations will be."""
        pairs = weights.reshape(-1, 2, weights.shape[1])
        chosen = [pairs[:, :, list(order)] for order in self.depthwise_order]
        return np.stack(chosen, axis=1).transpose(0, 1, 3, 2)

    def depthwise(
        self, accumulators: Sequence[tuple[Buffer, int]], a: tuple[Expr, Expr], w: Buffer, offset: Expr
    ) -> None:
        """Two taps interleaved as int16 pairs: one `pmaddwd` multiplies and adds both."""
        wide = 2 * self.lanes
        one, two = (tir.cast(x, "int16", wide) for x in a)
        for index, order in enumerate(self.depthwise_order):
            interleaved = T.Shuffle([one, two], [k for channel in order for k in (channel, wide + channel)])
            weights = tir.cast(tir.load(w, offset + index * wide, wide), "int16", wide)
            product = tir.intrinsic(
                tir.vector("int32", self.lanes), _PAIR_PRODUCT[self.lanes], interleaved, weights
            )
            generic.accumulate(accumulators[index], self.lanes, product)


class QuadProducts(PairProducts):
    """VNNI's `vpdpbusd`: four uint8 x int8 products into one int32, exact. Activations enter as a + 128."""

    group = 4
    panel = "uint8"
    panel_offset = 128
    steps = (4,)

    def multiply_accumulate(
        self,
        accumulators: Sequence[Sequence[tuple[Buffer, int]]],
        a: Buffer,
        rows: Sequence[Expr],
        b: Buffer,
        offset: Expr,
        step: int,
    ) -> None:
        """Four bytes of A in every lane against `lanes` quads of B."""
        del step
        wide = 4 * self.lanes
        for i, row in enumerate(rows):
            quad = T.reinterpret("int32", tir.load(a, row, 4))
            left = T.reinterpret(tir.vector("int8", wide), T.broadcast(quad, self.lanes))
            for j in range(len(accumulators[0])):
                buffer, element = accumulators[i][j]
                right = tir.load(b, offset + j * wide, wide)
                accumulator = tir.load(buffer, element, self.lanes)
                result = tir.intrinsic(
                    tir.vector("int32", self.lanes), _QUAD_PRODUCT[self.lanes], accumulator, left, right
                )
                tir.store(buffer, element, result, self.lanes)


_TILES_16_REGISTERS = ((6, 2), (5, 2), (4, 2), (3, 2), (2, 2), (1, 2), (2, 4), (1, 4), (4, 1), (8, 1), (1, 1))
_TILES_32_REGISTERS = (
    (14, 2), (13, 2), (12, 2), (10, 2), (8, 2), (7, 2), (6, 2), (4, 2), (2, 2), (1, 2),
    (9, 3), (8, 3), (7, 3), (6, 3), (4, 3), (3, 3), (2, 3), (1, 3),
    (6, 4), (5, 4), (4, 4), (3, 4), (2, 4), (1, 4), (14, 1), (8, 1), (7, 1), (4, 1), (2, 1), (1, 1),
)  # fmt: skip

SSE2 = PairProducts("sse2", frozenset(), 4, _TILES_16_REGISTERS)
AVX2 = PairProducts("avx2", frozenset({"avx2"}), 8, _TILES_16_REGISTERS)
AVX512 = PairProducts("avx512", frozenset({"avx512bw", "avx512vl"}), 16, _TILES_32_REGISTERS)
AVX512VNNI = QuadProducts(
    "avx512vnni", frozenset({"avx512vnni", "avx512bw", "avx512vl"}), 16, _TILES_32_REGISTERS
)
