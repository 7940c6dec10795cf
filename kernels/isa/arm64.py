"""arm64: NEON of Armv8.0 (byte pairs through int16), its dot products and its matrix products."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.isa.base import ByRow, DepthwiseSet, Output
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch

_SMMLA = "llvm.aarch64.neon.smmla.v4i32.v16i8"
_SDOT = "llvm.aarch64.neon.sdot.v4i32.v16i8"

_TILES = (
    (8, 2), (6, 4), (4, 4), (7, 2), (5, 4), (6, 3), (8, 3), (7, 3), (3, 4), (6, 2), (4, 2), (2, 4), (5, 2),
    (4, 6), (3, 2), (2, 2), (1, 4), (1, 8), (1, 2), (8, 1), (4, 1), (2, 1), (1, 1),
)  # fmt: skip


class _Narrowing:
    """How all sets of this file go back to int8."""

    def requantize(self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], output: Output) -> Expr:
        """Scale, round to nearest even in int32, narrow."""
        rounded = [_rounded(product) for product in _scaled(accumulators, multipliers)]
        return _narrowed(rounded, output.bounds, output.short)

    def requantize_and_add(
        self,
        accumulators: Sequence[Expr],
        multipliers: Sequence[Expr],
        output: Output,
        other: Expr,
        addition: Sequence[Expr],
    ) -> Expr:
        """Round and clamp as float32, which holds these integers exactly, and go on from there to the sum."""
        zero_points, bounds = addition[:2], addition[4:]
        factors = [_all(T.reinterpret("float32", bits)) for bits in addition[2:4]]
        # The addition's first operand is the value requantized here: one tensor, one zero point.
        least, most = (
            _all(T.cast(bound - output.zero_point, "float32")) for bound in (output.low, output.high)
        )
        lanes = 4 * len(accumulators)
        negated = T.broadcast(T.cast(T.int32(0) - zero_points[1], "int16"), lanes)
        others = T.cast(other, tir.vector("int16", lanes)) + negated
        sums = []
        for index, product in enumerate(_scaled(accumulators, multipliers)):
            value = tir.intrinsic("float32x4", "llvm.roundeven.v4f32", product)
            value = tir.intrinsic("float32x4", "llvm.aarch64.neon.fmaxnm.v4f32", value, least)
            value = tir.intrinsic("float32x4", "llvm.aarch64.neon.fminnm.v4f32", value, most)
            added = T.cast(tir.shuffle(others, range(4 * index, 4 * index + 4)), "float32x4")
            sums.append(_rounded(value * factors[0] + added * factors[1]))
        return _narrowed(sums, bounds, output.short)


def _all(value: Expr) -> Expr:
    return T.broadcast(value, 4)


def _scaled(accumulators: Sequence[Expr], multipliers: Sequence[Expr]) -> list[Expr]:
    return [
        T.cast(accumulator, "float32x4") * multiplier
        for accumulator, multiplier in zip(accumulators, multipliers, strict=True)
    ]


def _rounded(value: Expr) -> Expr:
    return tir.intrinsic("int32x4", "llvm.aarch64.neon.fcvtns.v4i32.v4f32", value)


def _narrowed(integers: Sequence[Expr], bounds: Sequence[Expr], short: bool) -> Expr:
    """Return clamp(integer + zero_point, low, high) of int32x4 vectors as one int8 vector.

    Each saturation (to int32, int16, int8) is monotone and wider than [low, high], so that clamping once at
    the end gives what clamping at every step would. With `short`, int16 holds every integer and nothing
    saturates to it: `uzp1` narrows two vectors at once. Where zero point and low are int8's lowest (ReLU),
    values saturate to 0..255, and flipping the sign bit subtracts 128.
    """
    low, high, zero_point = bounds
    wanted = 4 * len(integers)
    integers = [*integers, *integers[-1:]] if len(integers) % 2 else integers
    words = [_word(integers[i : i + 2], short) for i in range(0, len(integers), 2)]
    lanes = 8 * len(words)
    if tir.known(zero_point) == tir.known(low) == -128:
        narrowed = [tir.intrinsic("int8x8", "llvm.aarch64.neon.sqxtun.v8i8", word) for word in words]
        result = tir.concatenate(narrowed, 8) ^ tir.constant(-128, "int8", lanes)
    else:
        added = T.broadcast(T.cast(zero_point, "int16"), 8)
        words = [tir.intrinsic("int16x8", "llvm.sadd.sat.v8i16", word, added) for word in words]
        narrowed = [tir.intrinsic("int8x8", "llvm.aarch64.neon.sqxtn.v8i8", word) for word in words]
        result = tir.concatenate(narrowed, 8)
    result = T.max(result, T.broadcast(T.cast(low, "int8"), lanes))
    result = T.min(result, T.broadcast(T.cast(high, "int8"), lanes))
    return result if wanted == lanes else tir.shuffle(result, range(wanted))


def _word(pair: Sequence[Expr], short: bool) -> Expr:
    """Two int32x4 as one int16x8."""
    if short:
        return T.Shuffle([T.reinterpret("int16x8", value) for value in pair], list(range(0, 16, 2)))
    return tir.concatenate([tir.intrinsic("int16x4", "llvm.aarch64.neon.sqxtn.v4i16", v) for v in pair], 4)


class Neon(_Narrowing, ByRow):
    """Armv8.0: `smull` and `smlal` add two products in int16, `sadalp` adds pairs of those into int32.

    |a| <= 128 and |w| <= 127 keep the sum of two products within int16 (32512): exact. Three instructions
    make 16 products, where widening to int16 first takes four and twice the loads.
    """

    name = "neon"
    arch: Arch | None = "arm64"
    features: frozenset[str] = frozenset()
    lanes = 4
    group = 4
    panel = "int8"
    panel_offset = 0
    weights = "int8"
    steps: tuple[int, ...] = (8, 4)
    products = 7.0
    """Cortex-A72's, by its optimization guide."""
    prefetches = False
    chains = 1
    unroll = 0  # LLVM would add up the sums of several groups before it accumulates them
    tiles = tuple(tile for tile in _TILES if tile[0] * tile[1] <= 16)

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """No weight of -128: two of its products would leave int16."""
        return weights.dtype == np.int8 and (weights.size == 0 or int(weights.min()) > -128)

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[..., lanes, 4] to [..., 2, lanes, 2]: first pairs of all lanes, then second pairs."""
        pairs = weights.reshape(*weights.shape[:-1], 2, 2)
        return np.ascontiguousarray(np.swapaxes(pairs, -3, -2))

    def multiply_accumulate(
        self,
        accumulators: Sequence[Sequence[tuple[Buffer, int]]],
        a: Buffer,
        rows: Sequence[Expr],
        b: Buffer,
        offset: Expr,
        step: int,
    ) -> None:
        """Pairs of A in every lane against a vector of pairs of B, twice per accumulation."""
        vectors = len(accumulators[0])
        for quad in range(step // 4):
            for j in range(vectors):
                start = offset + (quad * vectors + j) * 16
                low, high = tir.load(b, start, 8), tir.load(b, start + 8, 8)
                for i, row in enumerate(rows):
                    pairs = T.reinterpret(f"int16x{step // 2}", tir.load(a, row, step))
                    first, second = (
                        T.reinterpret("int8x8", T.broadcast(tir.shuffle(pairs, [2 * quad + half]), 4))
                        for half in range(2)
                    )
                    products = T.cast(first, "int16x8") * T.cast(low, "int16x8")
                    products = products + T.cast(second, "int16x8") * T.cast(high, "int16x8")
                    sums = tir.intrinsic("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)
                    generic.accumulate(accumulators[i][j], 4, sums)


class DotProduct(Neon):
    """`sdot`: four int8 x int8 products into one int32, exact for every int8."""

    name = "dotprod"
    features = frozenset({"dotprod"})
    steps: tuple[int, ...] = (16, 8, 4)
    unroll = 1024  # half of what `ldp` reaches around its base
    products = 28.0
    tiles = tuple(tile for tile in _TILES if tile[0] * (tile[1] + 1) + tile[1] <= 32)

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights."""
        return weights.dtype == np.int8

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """As they are: [lanes, group] is what one or two products multiply."""
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
        """`sdot` by element: LLVM folds the broadcast of one quad of A into the instruction."""
        vectors = len(accumulators[0])
        loaded = step if step in self.steps else max(self.steps)
        lefts = [T.reinterpret(tir.vector("int32", loaded // 4), tir.load(a, row, loaded)) for row in rows]
        for quad in range(step // 4):
            for j in range(vectors):
                weights = tir.load(b, offset + (quad * vectors + j) * 16, 16)
                for i, quads in enumerate(lefts):
                    one = tir.shuffle(quads, [quad]) if loaded > 4 else quads
                    left = T.reinterpret("int8x16", T.broadcast(one, 4))
                    buffer, element = accumulators[i][j]
                    result = tir.intrinsic(
                        "int32x4", _SDOT,
                        tir.load(buffer, element, 4), weights, left,
                    )  # fmt: skip
                    tir.store(buffer, element, result, 4)


class MatrixProduct(DotProduct):
    """`smmla`: two rows of eight int8 by two columns of eight, into 2x2 int32; exact for every int8."""

    name = "i8mm"
    features = frozenset({"dotprod", "i8mm"})
    group = 8
    steps: tuple[int, ...] = (16, 8)
    row_cost = 0.5
    tiles = tuple(tile for tile in _TILES if tile[0] % 2 == 0 and tile[0] * (tile[1] + 1) + 4 <= 32)

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights, unless a row of the window fills no more than half of an eight."""
        return super().accepts(weights) and int(np.prod(weights.shape[2:])) > 4

    def whole_rows(self, rows: int) -> int:
        """Return pairs of them: the last of an odd number is computed twice."""
        return rows + rows % 2

    @contextmanager
    def around(self, tile: Sequence[Sequence[tuple[Buffer, int]]]) -> Iterator[None]:
        """Let sums be the 2x2 blocks that products are: lanes 0 and 1 of two rows, then 2 and 3 of both."""
        _exchange(tile)
        yield
        _exchange(tile)

    def multiply_accumulate(
        self,
        accumulators: Sequence[Sequence[tuple[Buffer, int]]],
        a: Buffer,
        rows: Sequence[Expr],
        b: Buffer,
        offset: Expr,
        step: int,
    ) -> None:
        """Eights of two rows side by side against eights of two lanes."""
        vectors = len(accumulators[0])
        loaded = [tir.load(a, row, step) for row in rows]
        for eight in range(step // 8):
            lanes = [*range(8 * eight, 8 * eight + 8), *range(step + 8 * eight, step + 8 * eight + 8)]
            pairs = [T.Shuffle(loaded[i : i + 2], lanes) for i in range(0, len(rows), 2)]
            for j in range(vectors):
                for half in range(2):
                    weights = tir.load(b, offset + (eight * vectors + j) * 32 + 16 * half, 16)
                    for i, pair in enumerate(pairs):
                        buffer, element = accumulators[2 * i + half][j]
                        sums = tir.intrinsic("int32x4", _SMMLA, tir.load(buffer, element, 4), pair, weights)
                        tir.store(buffer, element, sums, 4)


def _exchange(tile: Sequence[Sequence[tuple[Buffer, int]]]) -> None:
    """Exchange lanes 2 and 3 of every first row for lanes 0 and 1 of its second; twice is not at all."""
    for first, second in zip(tile[::2], tile[1::2], strict=True):
        for (one, i), (two, j) in zip(first, second, strict=True):
            kept = T.alloc_buffer((4,), "int32", scope="global")
            tir.store(kept, 0, tir.load(one, i, 4), 4)
            tir.store(one, i, T.Shuffle([tir.load(one, i, 4), tir.load(two, j, 4)], [0, 1, 4, 5]), 4)
            tir.store(two, j, T.Shuffle([tir.load(kept, 0, 4), tir.load(two, j, 4)], [2, 3, 6, 7]), 4)


class NeonDepthwise(_Narrowing):
    """Two taps in int16 (`smull`, `smlal`), then `saddw` into int32: 16 channels at once."""

    name = "neon"
    arch: Arch | None = "arm64"
    features: frozenset[str] = frozenset()
    lanes = 4
    order: tuple[tuple[int, ...], ...] = tuple(tuple(range(i, i + 4)) for i in range(0, 16, 4))
    group = 2
    vertical = False  # products aren't interleaved: any two taps pair
    panel = "int8"
    panel_offset = 0
    weights = "int8"
    tile = (4, 1)
    channels_inside = True
    narrower: DepthwiseSet | None = None

    def __init__(self, channels: int = 16) -> None:
        """Work on 16 or 8 channels at once."""
        self.order = tuple(tuple(range(i, i + 4)) for i in range(0, channels, 4))
        self.narrower = NeonDepthwise(8) if channels == 16 else None

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """No weight of -128: two of its products would leave int16."""
        return weights.dtype == np.int8 and (weights.size == 0 or int(weights.min()) > -128)

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """As they are."""
        return weights

    def products(
        self, accumulators: Sequence[tuple[Buffer, int]], a: Sequence[Expr], w: Buffer, offset: Expr
    ) -> None:
        """Products of all channels, then one accumulation per four."""
        channels = 4 * len(self.order)
        wide = tir.vector("int16", channels)
        weights = (tir.load(w, offset + tap * channels, channels) for tap in range(len(a)))
        first, *others = [T.cast(x, wide) * T.cast(one, wide) for x, one in zip(a, weights, strict=True)]
        sums = sum(others, first)
        for accumulator, order in zip(accumulators, self.order, strict=True):
            generic.accumulate(accumulator, 4, T.cast(tir.shuffle(sums, order), "int32x4"))


class DotProductDepthwise(NeonDepthwise):
    """Four taps of a column interleaved by `zip` for `sdot`: neighbouring pixels share the interleaving."""

    name = "dotprod"
    features = frozenset({"dotprod"})
    group = 4
    vertical = True
    tile = (2, 2)  # a window of 3x3 and the next row's: exactly four input rows

    def __init__(self) -> None:
        """Work on 16 channels at once."""
        super().__init__(16)
        self.narrower = None

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights."""
        return weights.dtype == np.int8

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[channel, tap]: interleaved as the activations will be."""
        return np.ascontiguousarray(weights.T)

    def products(
        self, accumulators: Sequence[tuple[Buffer, int]], a: Sequence[Expr], w: Buffer, offset: Expr
    ) -> None:
        """Interleave, multiply and add."""
        for index, quad in enumerate(generic.interleaved_quads(a, "int8", 16)):
            buffer, element = accumulators[index]
            sums, weights = tir.load(buffer, element, 4), tir.load(w, offset + index * 16, 16)
            result = tir.intrinsic("int32x4", _SDOT, sums, weights, quad)
            tir.store(buffer, element, result, 4)


NEON = Neon()
DOTPROD = DotProduct()
I8MM = MatrixProduct()
DEPTHWISE_NEON = NeonDepthwise()
DEPTHWISE_DOTPROD = DotProductDepthwise()
