"""Plain vector arithmetic that LLVM lowers for any processor; also the parts that instruction sets share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa.base import DepthwiseSet
from edgec.kernels.tir import Buffer, Expr, T


def requantize(
    accumulators: Sequence[Expr], multipliers: Sequence[Expr], parameters: Sequence[Expr], lanes: int
) -> Expr:
    """Requantize with arithmetic alone: one int8 vector of all accumulators' lanes."""
    narrowed = []
    for accumulator, multiplier in zip(accumulators, multipliers, strict=True):
        product = tir.cast(accumulator, "float32", lanes) * multiplier
        narrowed.append(round_and_clamp(product, parameters, lanes))
    return tir.cast(tir.concatenate(narrowed, lanes), "int8", lanes * len(narrowed))


def round_and_clamp(value: Expr, parameters: Sequence[Expr], lanes: int) -> Expr:
    """float32 to int32: clamp(rne(value) + zero_point, low, high); `parameters` are low, high, zero_point."""
    low, high, zero_point = parameters
    integer = rounded(value, zero_point, lanes)
    return T.max(T.min(integer, tir.broadcast(high, lanes)), tir.broadcast(low, lanes))


def rounded(value: Expr, zero_point: Expr, lanes: int) -> Expr:
    """float32 to int32: rne(value) + zero_point within +-2**22, and beyond that some integer further out still.

    Adding 1.5 * 2**23 rounds to nearest even in the low bits of the sum. Up to infinity those bits stay
    monotone as an integer, and taking the constant's bits off again doesn't overflow, so that clamping the
    result to any int8 or int16 range gives what clamping the rounded value would.
    """
    total = tir.fence(value, lanes) + tir.constant(tir.ROUNDING_MAGIC, "float32", lanes)
    bits = T.reinterpret(tir.vector("int32", lanes), total)
    return bits + tir.broadcast(zero_point - T.cast(tir.ROUNDING_MAGIC_BITS, "int32"), lanes)


def accumulate(accumulator: tuple[Buffer, int], lanes: int, value: Expr) -> None:
    """accumulator += value."""
    buffer, element = accumulator
    tir.store(buffer, element, tir.load(buffer, element, lanes) + value, lanes)


class Generic:
    """Portable: int32 products, no intrinsic; any weights, int16 ones included."""

    name = "generic"
    arch = None
    features: frozenset[str] = frozenset()
    lanes = 4
    group = 1
    panel = "int8"
    panel_offset = 0
    steps = (1,)
    tiles = ((4, 2), (2, 2), (1, 4), (1, 2), (1, 1))

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

    def requantize(
        self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], parameters: Sequence[Expr]
    ) -> Expr:
        """Arithmetic alone."""
        return requantize(accumulators, multipliers, parameters, self.lanes)


class GenericDepthwise:
    """Portable: one tap at a time in int32."""

    name = "generic"
    arch: str | None = None
    features: frozenset[str] = frozenset()
    lanes = 4
    order: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3),)
    group = 1
    vertical = False
    panel = "int8"
    panel_offset = 0
    weights = "int8"
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

    def requantize(
        self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], parameters: Sequence[Expr]
    ) -> Expr:
        """Arithmetic alone."""
        return requantize(accumulators, multipliers, parameters, self.lanes)
