"""Winograd's minimal filtering F(m x m, 3 x 3) in integers, exact to the bit.

S. Winograd, Arithmetic Complexity of Computations (1980); A. Lavin and S. Gray, Fast Algorithms for
Convolutional Neural Networks (2015). A tile of m x m outputs of one channel is

    A^T [(G g G^T) * (B^T d B)] A

for weights g [3, 3] and activations d [m + 2, m + 2]. G has fractions; here its rows are scaled to
integers, and `Transform.inverse` takes the scale out again: every shift there drops bits that are zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.tir import Expr, T

_INT32 = 2**31
# Output channels whose bounds are computed at a time, to stay in the cache.
_BLOCK = 8
# 9 * 954437177 = 1 (mod 2**32): multiplying by it divides multiples of 9.
_INVERSE_OF_9 = 954437177


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
    """A^T times m + 2 int32 values, scaled: `forward` and products before, it makes a multiple of m sums."""
    bias: int
    """What a bias is multiplied by where it is added to the product of point (1, 1), which goes alike into
    every output."""
    finish: Callable[[Expr, int], Expr]
    """Divide a vector of int32 by the square of that multiple."""
    forward_instructions: int
    """Of a tile and one vector of int16, loads and stores included."""
    inverse_instructions: int
    """Of a tile and one vector of int32."""

    @property
    def points(self) -> int:
        """m + 2: products per dimension of a tile; also the activations that it reads."""
        return self.outputs + 2

    def transformed(self, weights: NDArray[np.generic]) -> NDArray[np.int16]:
        """G g G^T: from int8 [K, 3, 3, C] to int16 [K, (m + 2)**2, C]."""
        g = np.array(self.weights, np.int64)
        result: NDArray[np.int64] = np.einsum(
            "ij,kjlc,ml->kimc", g, weights.astype(np.int64), g, optimize=True
        )
        return result.reshape(len(weights), self.points**2, weights.shape[3]).astype(np.int16)

    def proves(self, weights: NDArray[np.generic], bias: NDArray[np.int32]) -> bool:
        """Whether no value on the way to the sums can leave its integer type, for `weights` [K, 3, 3, C].

        Of int16 values that holds for any int8 operands: weights stay within (7 * 7) * 128, activations
        within (10 * 10) * 128. An int32 value is a sum of activations times coefficients, which are computed
        here from the weights as the value itself is computed from products; |d| <= 128 bounds the sum.
        """
        largest = self.bias * int(np.abs(bias.astype(np.int64)).max(initial=0))
        return self.bound(weights) + largest < _INT32

    def bound(self, weights: NDArray[np.generic]) -> int:
        """Return what no int32 value on the way to the sums, bias apart, can exceed in magnitude."""
        transformed = self.transformed(weights)
        blocks = range(0, len(weights), _BLOCK)
        return max(self._bound(transformed[start : start + _BLOCK]) for start in blocks)

    def _bound(self, transformed: NDArray[np.int16]) -> int:
        """Return the largest magnitude that `inverse` can meet in either dimension."""
        outputs, _, channels = transformed.shape
        grid = transformed.reshape(outputs, self.points, self.points, channels).astype(np.int32)
        matrix = np.array(self.activations, np.int32)
        seen: list[int] = []
        rows = []
        for j, line in enumerate(matrix):
            # Down the rows of a tile; along its columns all coefficients of point j are those of `line`.
            reach = int(np.abs(line).sum())
            column = [_Form(grid[:, i, j, :, None] * matrix[i], reach, seen) for i in range(self.points)]
            # Sums of one row of outputs: of three rows of activations, and the same for every row.
            first = self.inverse(column)[0].coefficients
            assert not first[..., 3:].any(), "a sum reads three rows"
            rows.append(_Form(first[..., :3, None] * line, 1, seen))
        self.inverse(rows)
        return max(seen)


class _Form:
    """A linear form of activations that `Transform.inverse` computes with as if with its value."""

    def __init__(self, coefficients: NDArray[np.int32], factor: int, seen: list[int]) -> None:
        """Take `coefficients` [K, C, ...]; note in `seen` the largest that factor times the value can be."""
        self.coefficients, self.factor, self.seen = coefficients, factor, seen
        sums = np.abs(coefficients).reshape(len(coefficients), -1).sum(axis=1, dtype=np.int64)
        seen.append(int(sums.max(initial=0)) * factor * 128)

    def __add__(self, other: "_Form") -> "_Form":
        return _Form(self.coefficients + other.coefficients, self.factor, self.seen)

    def __sub__(self, other: "_Form") -> "_Form":
        return _Form(self.coefficients - other.coefficients, self.factor, self.seen)

    def __rshift__(self, bits: int) -> "_Form":
        assert not (self.coefficients & ((1 << bits) - 1)).any(), "a shift drops no bit that is set"
        return _Form(self.coefficients >> bits, self.factor, self.seen)


def _forward_2(d: Sequence[Any]) -> list[Any]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _inverse_2(m: Sequence[Any]) -> list[Any]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _finish_2(value: Expr, lanes: int) -> Expr:
    return value >> tir.constant(2, "int32", lanes)


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
    """Three times the sums; what is halved is even, what is quartered a multiple of four."""
    a, b = (m[1] + m[2]) >> 1, (m[3] + m[4]) >> 1
    c, d = a - m[2], m[3] - m[4]
    return [a + ((m[0] + b) >> 2), c + (d >> 2), a + b, c + d + m[5]]


def _finish_4(value: Expr, lanes: int) -> Expr:
    """Divide by 9 modulo 2**32, where odd numbers have inverses; through 64 bits, as int32 may not wrap."""
    wide = tir.cast(T.reinterpret(tir.vector("uint32", lanes), value), "uint64", lanes)
    product = wide * tir.constant(_INVERSE_OF_9, "uint64", lanes)
    return T.reinterpret(tir.vector("int32", lanes), tir.cast(product, "uint32", lanes))


F2 = Transform(
    2,
    ((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2)),
    ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    _forward_2, _inverse_2, 4, _finish_2, 70, 50,
)  # fmt: skip
"""16 products for 4 outputs, where 36 are needed directly."""

F4 = Transform(
    4,
    ((3, 0, 0), (-1, -1, -1), (-1, 1, -1), (1, 2, 4), (1, -2, 4), (0, 0, 3)),
    (
        (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
    ),
    _forward_4, _inverse_4, 36, _finish_4, 280, 240,
)  # fmt: skip
"""36 products for 16 outputs, where 144 are needed directly; interpolated at 0, 1, -1, 2, -2 and infinity."""
