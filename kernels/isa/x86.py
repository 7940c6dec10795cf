"""x86-64: exact int16 pair products (SSE2, AVX2, AVX-512BW) and VNNI's byte quads."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.isa.base import DepthwiseSet
from edgec.kernels.tir import Buffer, Expr, T

_PAIR_PRODUCT = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
_QUAD_PRODUCT = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}


_PACK_WORDS = {
    4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512",
}  # fmt: skip
_PACK_BYTES = {
    4: "llvm.x86.sse2.packsswb.128", 8: "llvm.x86.avx2.packsswb", 16: "llvm.x86.avx512.packsswb.512",
}  # fmt: skip


def _requantize(
    accumulators: Sequence[Expr], multipliers: Sequence[Expr], parameters: Sequence[Expr], lanes: int
) -> Expr:
    """Round in int32, narrow with saturation up to four vectors at once, clamp as bytes.

    Saturation is monotone and wider than [low, high], so that one clamp at the end gives what clamping at
    every step would. Packing works within each 128 bits; one shuffle puts all lanes back in order.
    """
    low, high, zero_point = parameters
    narrowed = []
    for start in range(0, len(accumulators), 4):
        taken = slice(start, start + 4)
        words = [
            generic.rounded(tir.cast(accumulator, "float32", lanes) * multiplier, zero_point, lanes)
            for accumulator, multiplier in zip(accumulators[taken], multipliers[taken], strict=True)
        ]
        order = [list(range(lanes * i, lanes * (i + 1))) for i in range(len(words))]
        for pack, dtype in ((_PACK_WORDS, "int16"), (_PACK_BYTES, "int8")):
            words = [*words, words[-1]] if len(words) % 2 else words
            order = [*order, [-1] * len(order[-1])] if len(order) % 2 else order
            result = tir.vector(dtype, 4 * lanes // tir.lanes_bytes(dtype))
            pairs = range(0, len(words), 2)
            words = [tir.intrinsic(result, pack[lanes], words[i], words[i + 1]) for i in pairs]
            order = [_packed_order(order[i], order[i + 1], lanes // 4) for i in pairs]
        count = lanes * min(4, len(accumulators) - start)
        positions = [order[0].index(channel) for channel in range(count)]
        narrowed.append((tir.shuffle(words[0], positions), count))
    value, total = narrowed[0]
    for more, count in narrowed[1:]:
        value, total = T.Shuffle([value, more], list(range(total + count))), total + count
    value = T.max(value, T.broadcast(T.cast(low, "int8"), total))
    return T.min(value, T.broadcast(T.cast(high, "int8"), total))


def _packed_order(one: list[int], two: list[int], units: int) -> list[int]:
    """Where lanes are after packing two vectors: each 128-bit unit of the first, then that of the second."""
    size = len(one) // units
    return [lane for u in range(units) for source in (one, two) for lane in source[u * size : (u + 1) * size]]


class PairProducts:
    """`pmaddwd`: int16 pairs, exact for every int8 operand.

    (`pmaddubsw` is twice as dense but saturates.) Activations are widened to int16 once, on their way into
    the panel; weights stay int8 in memory and are widened as they are read, which costs one instruction per
    vector and halves the traffic.
    """

    arch: str | None = "x86-64"
    group = 2
    panel = "int16"
    panel_offset = 0
    weights = "int8"
    steps: tuple[int, ...] = (2,)

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
        """Multiply a pair of A, in every lane, by `lanes` pairs of B."""
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
        """See `_requantize`."""
        return _requantize(accumulators, multipliers, parameters, self.lanes)

    def requantize_and_add(
        self,
        accumulators: Sequence[Expr],
        multipliers: Sequence[Expr],
        parameters: Sequence[Expr],
        other: Expr,
        addition: Sequence[Expr],
    ) -> Expr:
        """One after the other."""
        value = self.requantize(accumulators, multipliers, parameters)
        return generic.combine("add", value, other, addition, self.lanes * len(accumulators))


class QuadProducts(PairProducts):
    """VNNI's `vpdpbusd`: four uint8 x int8 products into one int32, exact. Activations enter as a + 128."""

    group = 4
    panel = "uint8"
    panel_offset = 128
    steps: tuple[int, ...] = (4,)

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


class DepthwisePairs:
    """Two taps of a column interleaved as int16 pairs: one `pmaddwd` multiplies and adds both.

    `punpcklwd` and `punpckhwd` interleave within each 128 bits, so that the first accumulator holds the lower
    four channels of every eight and the second the upper four.
    """

    arch: str | None = "x86-64"
    group = 2
    vertical = True
    panel = "int16"  # widened once, on the way into the stripe
    panel_offset = 0
    weights = "int16"  # widening them anew for every pixel would cost more than their bytes

    def __init__(
        self, name: str, features: frozenset[str], lanes: int, narrower: DepthwiseSet | None = None
    ) -> None:
        """Name an instruction set of `lanes` int32 per register."""
        self.name, self.features, self.lanes, self.narrower = name, features, lanes, narrower
        units = range(0, 2 * lanes, 8)
        self.order = tuple(tuple(u + half + i for u in units for i in range(4)) for half in (0, 4))

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights."""
        return weights.dtype == np.int8

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[accumulator, lane, tap]: interleaved as the activations will be."""
        return np.stack([weights[:, list(order)].T for order in self.order]).astype(np.int16)

    def products(
        self, accumulators: Sequence[tuple[Buffer, int]], a: Sequence[Expr], w: Buffer, offset: Expr
    ) -> None:
        """Interleave, multiply and add."""
        wide = 2 * self.lanes
        one, two = a if len(a) > 1 else (a[0], tir.constant(0, "int16", wide))
        for index, order in enumerate(self.order):
            interleaved = T.Shuffle([one, two], [k for channel in order for k in (channel, wide + channel)])
            weights = tir.load(w, offset + index * wide, wide)
            product = tir.intrinsic(
                tir.vector("int32", self.lanes), _PAIR_PRODUCT[self.lanes], interleaved, weights
            )
            generic.accumulate(accumulators[index], self.lanes, product)

    def requantize(
        self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], parameters: Sequence[Expr]
    ) -> Expr:
        """See `_requantize`."""
        return _requantize(accumulators, multipliers, parameters, self.lanes)


class DepthwiseQuads(DepthwisePairs):
    """Four taps of a column interleaved as byte quads for `vpdpbusd`: no widening, no additions.

    Two rounds of `punpck` leave channels 16u + 4k .. 16u + 4k + 3 of every 16 in accumulator k.
    """

    group = 4
    panel = "uint8"
    panel_offset = 128
    weights = "int8"

    def __init__(
        self, name: str, features: frozenset[str], lanes: int, narrower: DepthwiseSet | None = None
    ) -> None:
        """Name an instruction set of `lanes` int32 per register."""
        super().__init__(name, features, lanes, narrower)
        units = range(0, 4 * lanes, 16)
        self.order = tuple(tuple(u + 4 * k + i for u in units for i in range(4)) for k in range(4))

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[accumulator, lane, tap]: interleaved as the activations will be."""
        return np.stack([weights[:, list(order)].T for order in self.order])

    def products(
        self, accumulators: Sequence[tuple[Buffer, int]], a: Sequence[Expr], w: Buffer, offset: Expr
    ) -> None:
        """Interleave, multiply and add."""
        wide, ints = 4 * self.lanes, tir.vector("int32", self.lanes)
        quads = generic.interleaved_quads(a, "uint8", wide)
        for index, (accumulator, quad) in enumerate(zip(accumulators, quads, strict=True)):
            buffer, element = accumulator
            sums, weights = tir.load(buffer, element, self.lanes), tir.load(w, offset + index * wide, wide)
            result = tir.intrinsic(ints, _QUAD_PRODUCT[self.lanes], sums, quad, weights)
            tir.store(buffer, element, result, self.lanes)


_TILES_16_REGISTERS = ((6, 2), (5, 2), (4, 2), (3, 2), (2, 2), (1, 2), (2, 4), (1, 4), (4, 1), (8, 1), (1, 1))
_TILES_32_REGISTERS = (
    (14, 2), (13, 2), (12, 2), (10, 2), (8, 2), (7, 2), (6, 2), (4, 2), (2, 2), (1, 2),
    (9, 3), (8, 3), (7, 3), (6, 3), (4, 3), (3, 3), (2, 3), (1, 3),
    (6, 4), (5, 4), (4, 4), (3, 4), (2, 4), (1, 4), (14, 1), (8, 1), (7, 1), (4, 1), (2, 1), (1, 1),
)  # fmt: skip

_AVX2 = frozenset({"avx2"})
_AVXVNNI = frozenset({"avx2", "avxvnni"})
_AVX512 = frozenset({"avx512bw", "avx512vl"})
_AVX512VNNI = frozenset({"avx512bw", "avx512vl", "avx512vnni"})

SSE2 = PairProducts("sse2", frozenset(), 4, _TILES_16_REGISTERS)
AVX2 = PairProducts("avx2", _AVX2, 8, _TILES_16_REGISTERS)
AVXVNNI = QuadProducts("avxvnni", _AVXVNNI, 8, _TILES_16_REGISTERS)
AVX512 = PairProducts("avx512", _AVX512, 16, _TILES_32_REGISTERS)
AVX512VNNI = QuadProducts("avx512vnni", _AVX512VNNI, 16, _TILES_32_REGISTERS)

DEPTHWISE_SSE2 = DepthwisePairs("sse2", frozenset(), 4)
DEPTHWISE_AVX2 = DepthwisePairs("avx2", _AVX2, 8, DEPTHWISE_SSE2)
DEPTHWISE_AVXVNNI = DepthwiseQuads("avxvnni", _AVXVNNI, 8)
DEPTHWISE_AVX512 = DepthwisePairs("avx512", _AVX512, 16, DEPTHWISE_AVX2)
DEPTHWISE_AVX512VNNI = DepthwiseQuads(
    "avx512vnni", _AVX512VNNI, 16, DepthwiseQuads("avx512vnni", _AVX512VNNI, 8)
)
