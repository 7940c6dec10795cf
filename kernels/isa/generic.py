"""Plain vector arithmetic that LLVM lowers for any processor; also the parts that instruction sets share."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa.base import ByRow, DepthwiseSet, Output
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch


def requantize(
    accumulators: Sequence[Expr], multipliers: Sequence[Expr], bounds: Sequence[Expr], lanes: int
) -> Expr:
    """Requantize with arithmetic alone, to one int8 vector of all lanes; `bounds` is `Output`'s."""
    narrowed = []
    for accumulator, multiplier in zip(accumulators, multipliers, strict=True):
        product = tir.cast(accumulator, "float32", lanes) * multiplier
        narrowed.append(round_and_clamp(product, bounds, lanes))
    return tir.cast(tir.concatenate(narrowed, lanes), "int8", lanes * len(narrowed))


def combine(kind: str, one: Expr, two: Expr, parameters: Sequence[Expr], lanes: int) -> Expr:
    """Combine two int8 vectors into one; `kind` is that of `operators.Binary`.

    `parameters` are int32 scalars: both zero points, both factors' bits, low, high, zero point.
    """
    terms = []
    for which, value in enumerate((one, two)):
        integer = tir.cast(value, "int32", lanes) - tir.broadcast(parameters[which], lanes)
        factor = tir.broadcast(T.reinterpret("float32", parameters[2 + which]), lanes)
        terms.append(tir.cast(integer, "float32", lanes) * factor)
    result = COMBINED[kind](*terms)
    if kind == "div":
        lowest = tir.constant(FAR_BELOW, "float32", lanes)
        result = T.Select(result > lowest, result, lowest)  # NaN is greater than nothing
    return tir.cast(round_and_clamp(result, parameters[4:7], lanes), "int8", lanes)


COMBINED: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": T.Div,
    "max": lambda a, b: T.Select(a >= b, a, b),
    "min": lambda a, b: T.Select(a <= b, a, b),
    "prelu": lambda a, b: T.Select(a < tir.constant(0.0, "float32", tir.lanes_of(a)), a * b, a),
}
"""What is computed of two vectors of numbers, by the kind of `operators.Binary`."""

FAR_BELOW = -(2.0**22)
"""Below every int8, whatever its zero point, and still rounded exactly by `round_and_clamp`."""


def round_and_clamp(value: Expr, parameters: Sequence[Expr], lanes: int) -> Expr:
    """float32 to int32: clamp(rne(value) + zero_point, low, high); `parameters` are low, high, zero_point."""
    low, high, zero_point = parameters
    offset = _rounding_offset(zero_point)
    bits = _rounded_bits(value, lanes)
    bits = T.max(T.min(bits, tir.broadcast(high - offset, lanes)), tir.broadcast(low - offset, lanes))
    return bits + tir.broadcast(offset, lanes)


def _rounded_bits(value: Expr, lanes: int) -> Expr:
    """Integers in the order of rne(value), and exactly rne(value) + ROUNDING_MAGIC_BITS within +-2**22.

    Adding 1.5 * 2**23 rounds to nearest even in the low bits of the sum. Up to infinity, and down to where
    the sum turns negative, its bits stay monotone as an integer; below that they are some negative integer.
    """
    total = value + tir.constant(tir.ROUNDING_MAGIC, "float32", lanes)
    return T.reinterpret(tir.vector("int32", lanes), total)


def _rounding_offset(zero_point: Expr) -> Expr:
    return zero_point - T.cast(tir.ROUNDING_MAGIC_BITS, "int32")


def accumulate(accumulator: tuple[Buffer, int], lanes: int, value: Expr) -> None:
    """accumulator += value, modulo 2**32: what leaves int32 on the way may come back."""
    buffer, element = accumulator
    total = tir.Wrapping(tir.load(buffer, element, lanes)) + tir.Wrapping(value)
    tir.store(buffer, element, total.value, lanes)


def interleaved_quads(taps: Sequence[Expr], dtype: str, wide: int) -> list[Expr]:
    """Up to four byte vectors, channel by channel next to each other: four int8 vectors of `wide` lanes.

    Two rounds of interleaving within 128 bits (`punpck`, `zip`) leave channels 16u + 4k .. 16u + 4k + 3 of
    every 16 in vector k.
    """
    taps = [*taps, *[tir.constant(0, dtype, wide)] * (4 - len(taps))]
    half = wide // 2
    quads: list[Expr] = []
    for upper in (0, 8):
        order = [k for u in range(upper, wide, 16) for i in range(u, u + 8) for k in (i, wide + i)]
        pairs = [
            T.reinterpret(tir.vector("int16", half), T.Shuffle([one, two], order))
            for one, two in (taps[:2], taps[2:])
        ]
        for quarter in (0, 4):
            order = [k for u in range(quarter, half, 8) for i in range(u, u + 4) for k in (i, half + i)]
            quads.append(T.reinterpret(tir.vector("int8", wide), T.Shuffle(pairs, order)))
    return quads


class Generic(ByRow):
    """Portable: int32 products, no intrinsic; any weights, int16 ones included."""

    name = "generic"
    arch: Arch | None = None
    features: frozenset[str] = frozenset()
    lanes = 4
    group = 1
    panel = "int8"
    panel_offset = 0
    steps: tuple[int, ...] = (1,)
    unroll = 0
    products = 1.0
    prefetches = False
    chains = 1
    tiles: tuple[tuple[int, int], ...] = ((4, 2), (2, 2), (1, 4), (1, 2), (1, 1))

    def __init__(self, weights: str = "int8") -> None:
        """Read `weights` of dtype int8, or int16 for imported weights that int8 can't hold."""
        self.weights = weights

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any weights of this dtype."""
        return weights.dtype == self.weights

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """As they are."""
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
        """One scalar of A against a vector of B, widened to int32."""
        del step
        for i, row in enumerate(rows):
            for j, accumulator in enumerate(accumulators[i]):
                left = tir.broadcast(T.cast(a[row], "int32"), self.lanes)
                right = tir.cast(tir.load(b, offset + j * self.lanes, self.lanes), "int32", self.lanes)
                accumulate(accumulator, self.lanes, left * right)

    def requantize(self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], output: Output) -> Expr:
        """Arithmetic alone."""
        return requantize(accumulators, multipliers, output.bounds, self.lanes)

    def requantize_and_add(
        self,
        accumulators: Sequence[Expr],
        multipliers: Sequence[Expr],
        output: Output,
        other: Expr,
        addition: Sequence[Expr],
    ) -> Expr:
        """One after the other."""
        value = self.requantize(accumulators, multipliers, output)
        return combine("add", value, other, addition, self.lanes * len(accumulators))


class GenericDepthwise:
    """Portable: one tap at a time in int32."""

    name = "generic"
    arch: Arch | None = None
    features: frozenset[str] = frozenset()
    lanes = 4
    order: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3),)
    group = 1
    vertical = False
    panel = "int8"
    panel_offset = 0
    weights = "int8"
    tile = (4, 1)
    channels_inside = True
    narrower: DepthwiseSet | None = None

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Any int8 weights."""
        return weights.dtype == np.int8

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """As they are."""
        return weights

    def products(
        self, accumulators: Sequence[tuple[Buffer, int]], a: Sequence[Expr], w: Buffer, offset: Expr
    ) -> None:
        """One product."""
        weights = tir.cast(tir.load(w, offset, self.lanes), "int32", self.lanes)
        accumulate(accumulators[0], self.lanes, tir.cast(a[0], "int32", self.lanes) * weights)

    def requantize(self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], output: Output) -> Expr:
        """Arithmetic alone."""
        return requantize(accumulators, multipliers, output.bounds, self.lanes)
