"""Winograd's minimal filtering F(m x m, 3 x 3) in integers, exact to the bit.

S. Winograd, Arithmetic Complexity of Computations (1980); A. Lavin and S. Gray, Fast Algorithms for
Convolutional Neural Networks (2015). A tile of m x m outputs of one channel is

    A^T [(G g G^T) * (B^T d B)] A

for weights g [3, 3] and activations d [m + 2, m + 2]. G has fractions; here its rows are scaled to
integers, so that all sums come out as multiples, and the last step divides by them. In between int32 may
overflow: arithmetic modulo 2**32 forgets what the quotient doesn't need.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Expr, T


@dataclass(frozen=True)
class Transform:
    """F(m x m, 3 x 3)."""

    outputs: int
    """m."""
    weights: tuple[tuple[int, ...], ...]
    """G [m + 2, 3], its rows scaled to integers."""
    activations: tuple[tuple[int, ...], ...]
    """B^T [m + 2, m + 2]."""
    forward: Callable[[Sequence[Any]], list[Any]]
    """B^T times m + 2 int16 values."""
    inverse: Callable[[Sequence[Any]], list[Any]]
    """A^T times m + 2 int32 values, scaled: `forward` and products before, it makes multiples of m sums."""
    odd: int
    """What all m are multiplied by, but for powers of two; its inverse modulo 2**32 divides exactly."""
    shifts: tuple[int, ...]
    """The powers of two that the m are multiplied by."""
    bias: int
    """What a bias is multiplied by where it is added to the product of point (1, 1), which goes alike into
    every output."""
    forward_instructions: int
    """Instructions that a tile takes for one vector of int16, loads and stores included."""
    inverse_instructions: int
    """Instructions that a tile takes for one vector of int32."""
    weights_instructions: int
    """Instructions that one vector of int16 weights takes, loads and stores included."""

    @property
    def points(self) -> int:
        """m + 2: products per dimension of a tile; also the activations that it reads."""
        return self.outputs + 2

    def weigh(self, point: int, g: Sequence[Any]) -> Any:
        """Row `point` of G times three int16 values: what rows have in common, outer weights, comes first."""
        outer = [
            value * factor for value, factor in zip(g[::2], self.weights[point][::2], strict=True) if factor
        ]
        inner = [g[1] * self.weights[point][1]] if self.weights[point][1] else []
        return functools.reduce(operator.add, [*outer, *inner])

    def transformed(self, weights: NDArray[np.generic]) -> NDArray[np.int16]:
        """G g G^T: from int8 [K, 3, 3, C] to int16 [K, (m + 2)**2, C]."""
        g = np.array(self.weights, np.int64)
        result: NDArray[np.int64] = np.einsum(
            "ij,kjlc,ml->kimc", g, weights.astype(np.int64), g, optimize=True
        )
        return result.reshape(len(weights), self.points**2, weights.shape[3]).astype(np.int16)

    def proves(self, operation: Conv2d) -> bool:
        """Whether the sums of a convolution are what this computes, for all inputs there are.

        Values of int16 can't overflow: weights stay within (7 * 7) * 128, activations within (10 * 10) * 128.
        Those of int32 may: all is modulo 2**32. Of the sums' multiples that leaves the sums themselves modulo
        2**32 divided by the powers of two; so much has to hold them.
        """
        return operation.sums < 1 << (31 - 2 * max(self.shifts))

    def finished(self, value: Expr, row: int, column: int, lanes: int) -> Expr:
        """Divide a vector of int32 by what output (row, column) of a tile is a multiple by."""
        shift = self.shifts[row] + self.shifts[column]
        if self.odd != 1:  # through 64 bits, as TVM's int32 may not wrap
            wide = tir.cast(T.reinterpret(tir.vector("uint32", lanes), value), "uint64", lanes)
            product = wide * tir.constant(pow(self.odd**2, -1, 2**32), "uint64", lanes)
            value = T.reinterpret(tir.vector("int32", lanes), tir.cast(product, "uint32", lanes))
        return value >> tir.constant(shift, "int32", lanes)


def _forward_2(d: Sequence[Any]) -> list[Any]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _inverse_2(m: Sequence[Any]) -> list[Any]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _forward_4(d: Sequence[Any]) -> list[Any]:
    even, odd = d[4] - d[2], d[3] - d[1]
    twice = odd + odd
    fourth, third = d[4] - _fourfold(d[2]), d[3] - _fourfold(d[1])
    return [
        _fourfold(d[0] - d[2]) + even, fourth + third, fourth - third, even + twice, even - twice,
        (d[5] - d[3]) - (twice + twice),
    ]  # fmt: skip


def _fourfold(value: Any) -> Any:
    return (value + value) + (value + value)


def _inverse_4(m: Sequence[Any]) -> list[Any]:
    """24, 12, 6 and 6 times the sums: what all terms of a row have in common isn't multiplied out."""
    a, b, c, d = m[1] + m[2], m[3] + m[4], m[1] - m[2], m[3] - m[4]
    first, last = m[0] + (a + a), d + m[5]
    return [first + first + b, c + c + d, a + b, c + (last + last)]


F2 = Transform(
    2,
    ((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2)),
    ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    _forward_2, _inverse_2, 1, (1, 1), 4, 70, 50, 100,
)  # fmt: skip
"""16 products for 4 outputs, where 36 are needed directly."""

F4 = Transform(
    4,
    ((3, 0, 0), (-1, -1, -1), (-1, 1, -1), (1, 2, 4), (1, -2, 4), (0, 0, 3)),
    (
        (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
    ),
    _forward_4, _inverse_4, 3, (3, 2, 1, 1), 36, 280, 240, 190,
)  # fmt: skip
"""36 products for 16 outputs, where 144 are needed directly; interpolated at 0, 1, -1, 2, -2 and infinity."""
