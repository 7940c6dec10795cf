"""x86-64: exact int16 pair products (SSE2, AVX2, AVX-512BW), byte pairs where proved, VNNI's byte quads."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.isa.base import ByRow, DepthwiseSet, Output
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch

_PAIR_PRODUCT = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
_BYTE_PAIR_PRODUCT = {8: "llvm.x86.avx2.pmadd.ub.sw"}
_QUAD_PRODUCT = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}


_PACK_WORDS = {
    4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512",
}  # fmt: skip
_PACK_BYTES = {
    4: "llvm.x86.sse2.packsswb.128", 8: "llvm.x86.avx2.packsswb", 16: "llvm.x86.avx512.packsswb.512",
}  # fmt: skip
_ROUND = {
    4: "llvm.x86.sse2.cvtps2dq", 8: "llvm.x86.avx.cvt.ps2dq.256", 16: "llvm.x86.avx512.mask.cvtps2dq.512",
}  # fmt: skip


class _Narrowing:
    """How all sets of this file go back to int8."""

    lanes: int

    def requantize(self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], output: Output) -> Expr:
        """Round in int32, narrow with saturation."""
        words = [
            _rounded(tir.cast(accumulator, "float32", self.lanes) * multiplier, output.bounded, self.lanes)
            for accumulator, multiplier in zip(accumulators, multipliers, strict=True)
        ]
        return _narrowed(words, output.bounds, self.lanes)

    def requantize_and_add(
        self,
        accumulators: Sequence[Expr],
        multipliers: Sequence[Expr],
        output: Output,
        other: Expr,
        addition: Sequence[Expr],
    ) -> Expr:
        """`requantize`, then `generic.combine`, without the way to int8 and back in between."""
        lanes = self.lanes
        # The first operand's zero point is that of what is requantized: it has never been added yet.
        zero_points, factors, bounds = addition[:2], addition[2:4], addition[4:]

        def term(value: Expr, which: int) -> Expr:
            factor = T.reinterpret("float32", factors[which])
            return tir.cast(value, "float32", lanes) * tir.broadcast(factor, lanes)

        words = []
        for index, (accumulator, multiplier) in enumerate(zip(accumulators, multipliers, strict=True)):
            value = tir.cast(accumulator, "float32", lanes) * multiplier
            value = _rounded(value, output.bounded, lanes)
            value = T.max(value, tir.broadcast(output.low - output.zero_point, lanes))
            value = T.min(value, tir.broadcast(output.high - output.zero_point, lanes))
            added = tir.cast(tir.shuffle(other, range(index * lanes, (index + 1) * lanes)), "int32", lanes)
            added = added - tir.broadcast(zero_points[1], lanes)
            words.append(_rounded(term(value, 0) + term(added, 1), output.bounded, lanes))
        return _narrowed(words, bounds, lanes)


def _rounded(value: Expr, bounded: bool, lanes: int) -> Expr:
    """float32 to int32: rne(value), or something as far out; beyond int32 `cvtps2dq` gives -2**31."""
    if not bounded:
        value = T.min(value, tir.constant(2.0**30, "float32", lanes))
    rest: tuple[Expr, ...] = ()
    if lanes == 16:  # AVX-512: what masked lanes keep, no lane masked, rounding as the CPU is set
        rest = (tir.constant(0, "int32", lanes), T.cast(-1, "int16"), T.int32(4))
    return tir.intrinsic(tir.vector("int32", lanes), _ROUND[lanes], value, *rest)


def _narrowed(words: Sequence[Expr], bounds: Sequence[Expr], lanes: int) -> Expr:
    """int32 to int8, up to four vectors at once: pack with saturation, add the zero point, pack, clamp.

    Saturation is monotone and wider than [low, high], so that one clamp at the end gives what clamping at
    every step would. Packing works within each 128 bits; one shuffle puts all lanes back in order.
    """
    low, high, zero_point = bounds
    wide = 2 * lanes
    offset = T.broadcast(T.cast(zero_point, "int16"), wide)
    narrowed = []
    for start in range(0, len(words), 4):
        taken = list(words[start : start + 4])
        count = lanes * len(taken)
        taken += [taken[-1]] * (-len(taken) % (4 if len(taken) > 2 else 2))
        halves = []
        for one, two in zip(taken[::2], taken[1::2], strict=True):
            half = tir.intrinsic(tir.vector("int16", wide), _PACK_WORDS[lanes], one, two)
            halves.append(tir.intrinsic(tir.vector("int16", wide), f"llvm.sadd.sat.v{wide}i16", half, offset))
        packed = tir.intrinsic(tir.vector("int8", 4 * lanes), _PACK_BYTES[lanes], halves[0], halves[-1])
        order = [list(range(lanes * i, lanes * (i + 1))) for i in range(4)]
        units = lanes // 4
        order = [_packed_order(order[i], order[i + 1], units) for i in (0, 2)]
        positions = _packed_order(order[0], order[1], units)
        narrowed.append((tir.shuffle(packed, [positions.index(lane) for lane in range(count)]), count))
    value, total = narrowed[0]
    for more, count in narrowed[1:]:
        value, total = T.Shuffle([value, more], list(range(total + count))), total + count
    value = T.max(value, T.broadcast(T.cast(low, "int8"), total))
    return T.min(value, T.broadcast(T.cast(high, "int8"), total))


def _packed_order(one: list[int], two: list[int], units: int) -> list[int]:
    """Where lanes are after packing two vectors: each 128-bit unit of the first, then that of the second."""
    size = len(one) // units
    return [lane for u in range(units) for source in (one, two) for lane in source[u * size : (u + 1) * size]]


class PairProducts(_Narrowing, ByRow):
    """`pmaddwd`: int16 pairs, exact for every int8 operand.

    (`pmaddubsw` is twice as dense but saturates: see `BytePairs`.) Activations are widened to int16 once, on
    their way into the panel; weights stay int8 in memory, which halves the traffic, and are widened as they
    are read.
    """

    arch: Arch | None = "x86-64"
    group = 2
    panel = "int16"
    panel_offset = 0
    weights = "int8"
    steps: tuple[int, ...] = (2,)
    unroll = 0
    prefetches = True
    chains = 1  # sums wait for an addition, not for the product

    def __init__(
        self,
        name: str,
        features: frozenset[str],
        lanes: int,
        tiles: tuple[tuple[int, int], ...],
        products: float,
    ) -> None:
        """Name an instruction set of `lanes` int32 per register, with its register tiles and its rate."""
        self.name, self.features, self.lanes, self.tiles = name, features, lanes, tiles
        self.products = products

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights: |a * w| + |a * w| < 2**31."""
        return weights.dtype == np.int8

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[..., vectors, lanes, pair], every two vectors byte by byte next to each other.

        Three shifts widen both: `pmovsxbw` crosses 128 bits, which AMD does at a third of the rate.
        """
        vectors = weights.shape[-3]
        even = weights[..., : vectors - vectors % 2, :, :]
        twos = even.reshape(*even.shape[:-3], vectors // 2, 2, 2 * self.lanes)
        flat = [np.swapaxes(twos, -1, -2), weights[..., vectors - vectors % 2 :, :, :]]
        return np.concatenate([part.reshape(*weights.shape[:-3], -1) for part in flat], axis=-1)

    def _widened(self, b: Buffer, offset: Expr, vectors: int) -> list[Expr]:
        """Vectors of int16 pairs, from what `pack` made."""
        wide = 2 * self.lanes
        words, eight = tir.vector("int16", wide), tir.constant(8, "int16", wide)
        found: list[Expr] = []
        for j in range(0, vectors - 1, 2):
            both = T.reinterpret(words, tir.load(b, offset + j * wide, 2 * wide))
            found += [(both << eight) >> eight, both >> eight]
        if vectors % 2:
            found.append(tir.cast(tir.load(b, offset + (vectors - 1) * wide, wide), "int16", wide))
        return found

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
        rights = self._widened(b, offset, len(accumulators[0]))
        # Rows outside: the vectors of B stay in registers and one broadcast of A lives at a time.
        for i, row in enumerate(rows):
            pair = T.reinterpret("int32", tir.load(a, row, 2))
            left = T.reinterpret(tir.vector("int16", wide), T.broadcast(pair, self.lanes))
            for j, right in enumerate(rights):
                product = tir.intrinsic(
                    tir.vector("int32", self.lanes), _PAIR_PRODUCT[self.lanes], left, right
                )
                generic.accumulate(accumulators[i][j], self.lanes, product)


class QuadProducts(PairProducts):
    """VNNI's `vpdpbusd`: four uint8 x int8 products into one int32, exact. Activations enter as a + 128."""

    group = 4
    panel = "uint8"
    panel_offset = 128
    steps: tuple[int, ...] = (4,)
    chains = 10  # two products a cycle, and five cycles from one to the next of a sum (Intel; AMD has four)

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """As they are: [lanes, quad] is what `vpdpbusd` multiplies."""
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


class BytePairs(QuadProducts):
    """`vpmaddubsw`: sums of two uint8 x int8 products in int16, two of which `vpmaddwd` by ones adds.

    A fifth faster than `PairProducts`, which has twice the sums to add and weights to widen. But a sum that
    leaves int16 saturates: only weights that prove that none can are accepted, as those of 7 bits always do.
    (Any int8 weights fit by way of `vpsignb`, but that was measured slower than `PairProducts`.)
    """

    chains = 1

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Whether no pair of products can leave int16 for activations of 0 to 255.

        `weights` are [outputs, rows, columns, inputs]; pairs are those of a row of the window, or of a pixel
        where groups or dilation tear it apart.
        """
        if weights.dtype != np.int8:
            return False
        rows = weights.reshape(*weights.shape[:2], -1)
        return _pairs_fit(rows) and (weights.shape[3] % 2 == 0 or _pairs_fit(weights))

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
        words, ints = tir.vector("int16", 2 * self.lanes), tir.vector("int32", self.lanes)
        ones = tir.constant(1, "int16", 2 * self.lanes)
        wide = 4 * self.lanes
        rights = [tir.load(b, offset + j * wide, wide) for j in range(len(accumulators[0]))]
        for i, row in enumerate(rows):
            quad = T.reinterpret("int32", tir.load(a, row, 4))
            left = T.reinterpret(tir.vector("int8", wide), T.broadcast(quad, self.lanes))
            for j, right in enumerate(rights):
                pairs = tir.intrinsic(words, _BYTE_PAIR_PRODUCT[self.lanes], left, right)
                product = tir.intrinsic(ints, _PAIR_PRODUCT[self.lanes], pairs, ones)
                generic.accumulate(accumulators[i][j], self.lanes, product)


def _pairs_fit(runs: NDArray[np.generic]) -> bool:
    """Whether 255 times the positive weights of a pair, or the negative ones, stays within int16; in int8."""
    runs = np.pad(runs, [(0, 0)] * (runs.ndim - 1) + [(0, runs.shape[-1] % 2)])
    pairs = runs.reshape(-1, 2).astype(np.int32)
    positive, negative = pairs.clip(0).sum(axis=1), pairs.clip(None, 0).sum(axis=1)
    limits = np.iinfo(np.int16)
    highest, lowest = 255 * positive.max(initial=0), 255 * negative.min(initial=0)
    return bool(highest <= limits.max and lowest >= limits.min)


class DepthwisePairs(_Narrowing):
    """Two taps of a column interleaved as int16 pairs: one `pmaddwd` multiplies and adds both.

    `punpcklwd` and `punpckhwd` interleave within each 128 bits, so that the first accumulator holds the lower
    four channels of every eight and the second the upper four.
    """

    arch: Arch | None = "x86-64"
    group = 2
    vertical = True
    panel = "int16"  # widened once, on the way into the stripe
    panel_offset = 0
    weights = "int16"  # widening them anew for every pixel would cost more than their bytes
    tile = (4, 1)

    def __init__(
        self, name: str, features: frozenset[str], lanes: int, narrower: DepthwiseSet | None = None
    ) -> None:
        """Name an instruction set of `lanes` int32 per register."""
        self.name, self.features, self.lanes, self.narrower = name, features, lanes, narrower
        self.channels_inside = lanes < 16  # AVX-512 has registers for weights
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
# Where a product is added as it is made, and there is none to hold: rows of 7 are 4 and 3.
_TILES_16_REGISTERS_ADDED = (*_TILES_16_REGISTERS, (4, 3), (3, 3), (2, 3), (1, 3))
_TILES_32_REGISTERS = (
    (14, 2), (13, 2), (12, 2), (10, 2), (8, 2), (7, 2), (6, 2), (4, 2), (2, 2), (1, 2),
    (9, 3), (8, 3), (7, 3), (6, 3), (4, 3), (3, 3), (2, 3), (1, 3),
    (6, 4), (5, 4), (4, 4), (3, 4), (2, 4), (1, 4), (14, 1), (8, 1), (7, 1), (4, 1), (2, 1), (1, 1),
)  # fmt: skip

_AVX2 = frozenset({"avx2"})
_AVXVNNI = frozenset({"avx2", "avxvnni"})
_AVX512 = frozenset({"avx512bw", "avx512vl"})
_AVX512VNNI = frozenset({"avx512bw", "avx512vl", "avx512vnni"})

# Rates are Zen 4's, less a tenth for loads and edges; AVX-512 VNNI has Zen 5's, which are twice as fast.
SSE2 = PairProducts("sse2", frozenset(), 4, _TILES_16_REGISTERS, products=10)
AVX2 = PairProducts("avx2", _AVX2, 8, _TILES_16_REGISTERS, products=25)
AVX2BYTES = BytePairs("avx2bytes", _AVX2, 8, _TILES_16_REGISTERS, products=31)
AVXVNNI = QuadProducts("avxvnni", _AVXVNNI, 8, _TILES_16_REGISTERS_ADDED, products=58)
AVX512 = PairProducts("avx512", _AVX512, 16, _TILES_32_REGISTERS, products=28)
AVX512VNNI = QuadProducts("avx512vnni", _AVX512VNNI, 16, _TILES_32_REGISTERS, products=116)

DEPTHWISE_SSE2 = DepthwisePairs("sse2", frozenset(), 4)
DEPTHWISE_AVX2 = DepthwisePairs("avx2", _AVX2, 8, DEPTHWISE_SSE2)
DEPTHWISE_AVXVNNI = DepthwiseQuads("avxvnni", _AVXVNNI, 8)
DEPTHWISE_AVX512 = DepthwisePairs("avx512", _AVX512, 16, DEPTHWISE_AVX2)
DEPTHWISE_AVX512VNNI = DepthwiseQuads(
    "avx512vnni", _AVX512VNNI, 16, DepthwiseQuads("avx512vnni", _AVX512VNNI, 8)
)
