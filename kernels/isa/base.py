"""What the kernel families ask of an instruction set."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.tir import Buffer, Expr
from edgec.targets.architectures import Arch


@dataclass(frozen=True)
class Output:
    """What becomes of int32 sums: clamp(rne(float32(sum) * multiplier) + zero_point, low, high)."""

    low: Expr
    """int32, as are the other two; a constant where it is int8's own bound, so that no code clamps to it."""
    high: Expr
    zero_point: Expr
    """A constant where it is int8's lowest value."""
    bounded: bool
    """Every value to be rounded is known to lie within int32."""
    short: bool
    """Every value to be rounded is known to lie within int16, even."""

    @property
    def bounds(self) -> tuple[Expr, Expr, Expr]:
        """Low, high, zero point."""
        return self.low, self.high, self.zero_point


class InstructionSet(Protocol):
    """An int8 instruction set: vectors of int32 accumulators and the products that feed them."""

    name: str
    arch: Arch | None
    features: frozenset[str]
    lanes: int
    """int32 accumulators per vector register."""
    group: int
    """Consecutive products that one accumulator lane takes from one B vector."""
    products: float
    """Multiply-accumulates per cycle of a large convolution, what loads and edges take included."""
    row_cost: float
    """Vector instructions that a row's operand takes each time besides being loaded."""
    panel: str
    """dtype in which the A operand (activations) is read."""
    panel_offset: int
    """What is added to an activation on its way into the panel (128 where the hardware wants uint8)."""
    weights: str
    """dtype of packed weights."""
    steps: tuple[int, ...]
    """Lengths of reduction that `multiply_accumulate` takes at once, longest first; the last is `group`.

    Where reading on is safe, it takes any multiple of `group` up to the longest as well.
    """
    unroll: int
    """Bytes of B that the body of a loop over the reduction may read; 0: unrolling doesn't help."""
    prefetches: bool
    """Whether to prefetch weights was measured to gain."""
    chains: int
    """Sums that products must be added to in turn, or they wait for one another; 1 where they don't."""
    tiles: tuple[tuple[int, int], ...]
    """(rows, vectors) register tiles that fit the register file, the most productive first."""

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Whether the products of these weights are exact here."""

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[..., groups, vectors, lanes, group] to the order that `multiply_accumulate` reads."""

    def whole_rows(self, rows: int) -> int:
        """Return how many rows are computed where `rows` are wanted."""

    def around(self, tile: Sequence[Sequence[tuple[Buffer, int]]]) -> AbstractContextManager[None]:
        """Write what comes in front of the first product of a tile's sums, and behind the last."""

    def multiply_accumulate(
        self,
        accumulators: Sequence[Sequence[tuple[Buffer, int]]],
        a: Buffer,
        rows: Sequence[Expr],
        b: Buffer,
        offset: Expr,
        step: int,
    ) -> None:
        """accumulators[i][j] += A[rows[i] : rows[i] + step] · B, B's reduction starting at `offset`.

        An accumulator is a (buffer, element) pair of `lanes` int32.
        """

    def requantize(self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], output: Output) -> Expr:
        """One int8 vector of all lanes, each lane with its multiplier."""

    def requantize_and_add(
        self,
        accumulators: Sequence[Expr],
        multipliers: Sequence[Expr],
        output: Output,
        other: Expr,
        addition: Sequence[Expr],
    ) -> Expr:
        """Return what `requantize` does plus the int8 vector `other`, as `operators.Binary` adds.

        `addition` are the parameters of `generic.combine`, with `other` as the second operand.
        """


class ByRow:
    """What most sets answer: they multiply row by row, and need nothing around that."""

    row_cost = 0.0

    def whole_rows(self, rows: int) -> int:
        """Return as many."""
        return rows

    def around(self, _tile: Sequence[Sequence[tuple[Buffer, int]]]) -> AbstractContextManager[None]:
        """Write nothing."""
        return nullcontext()


class DepthwiseSet(Protocol):
    """An int8 instruction set as depthwise convolution sees it: blocks of channels, a few taps at a time."""

    name: str
    arch: Arch | None
    features: frozenset[str]
    lanes: int
    """int32 accumulators per vector register."""
    order: tuple[tuple[int, ...], ...]
    """[accumulator][lane] -> channel of the block: the order that interleaving taps leaves them in."""
    group: int
    """Taps that one product sums."""
    vertical: bool
    """Group taps of a column, so that neighbouring pixels share what interleaving them costs."""
    panel: str
    """dtype in which activations are read."""
    panel_offset: int
    """What is added to an activation on its way into the panel."""
    weights: str
    """dtype of packed weights."""
    tile: tuple[int, int]
    """Adjacent pixels, and rows where their taps are interleaved, that are likeliest fastest together."""
    channels_inside: bool
    """Whether loops over channels do better inside those over pixels: registers wouldn't hold a block's
    weights from one pixel to the next."""
    narrower: "DepthwiseSet | None"
    """For the last channels, where half a block or less is left."""

    def accepts(self, weights: NDArray[np.generic]) -> bool:
        """Whether the products of these weights are exact here."""

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """[group, channels of a block] to the order that `products` reads."""

    def products(
        self, accumulators: Sequence[tuple[Buffer, int]], a: Sequence[Expr], w: Buffer, offset: Expr
    ) -> None:
        """accumulators += sum of a[t] * w[t]; fewer than `group` taps where the window has no more."""

    def requantize(self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], output: Output) -> Expr:
        """As `InstructionSet.requantize`."""
