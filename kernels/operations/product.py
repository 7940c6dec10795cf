"""Products of two activations: what attention, and everything bilinear, is made of."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.operations.tensors import code_range


@dataclass(frozen=True)
class Matrices:
    """How a batch of matrices lies in a buffer: strides in elements, so that a transpose is no copy."""

    size: int
    """Elements of the buffer."""
    offset: int
    """The first element of the first matrix."""
    batch: tuple[int, ...]
    """Elements from one matrix to the next, per dimension of the batch; 0 where one serves for all."""
    row: int
    """Elements from one row to the next."""
    column: int
    """Elements from one column to the next."""


@dataclass(frozen=True)
class Product:
    """Matrix products of two int8 activations, one for every index of the batch.

    acc[m, n] = sum over k of (a[m, k] - z_a) * (b[k, n] - z_b);
    y[m, n] = clamp(rne(float32(acc) * multiplier) + output_zero_point, low, high).
    """

    batch: tuple[int, ...]
    rows: int
    """Rows of the left operand and of the result."""
    inner: int
    """Products that are summed, at most LONGEST."""
    columns: int
    """Columns of the right operand and of the result."""
    left: Matrices
    """Neighbouring columns lie side by side: its column stride is 1."""
    right: Matrices
    """Neighbouring rows or neighbouring columns lie side by side."""
    result: Matrices
    """Neighbouring columns lie side by side; nothing lies between its elements."""
    multiplier: float
    """float32(s_a * s_b / s_y), computed in float64."""
    zero_points: tuple[int, int]
    """The operands', z_a and z_b."""
    output_zero_point: int
    low: int
    high: int
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""

    @property
    def reach(self) -> float:
        """The magnitude that no value to be rounded exceeds, whatever the inputs and zero points are."""
        lowest, highest = code_range(self.dtype)
        return float(self.inner * (highest - lowest) ** 2 * abs(self.multiplier))

    @property
    def saturating(self) -> bool:
        """Whether the codes' own range is all that results are clamped to."""
        return (self.low, self.high) == code_range(self.dtype)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return math.prod(self.batch) * self.rows * self.inner * self.columns


@dataclass(frozen=True, eq=False)
class Attention:
    """Softmax of scores times values, for every index of the batch: rows of scores, never the whole matrix.

    t[m, n] = clamp(rne(float32(sum over k of (q[m, k] - z_q) * (k[k, n] - z_k)) * score_multiplier),
    -32767, 32767) + mask_steps[mask[m, n] + 128]; e[m, n] = table[min(max over n of t[m, n] - t[m, n], 255)];
    y[m, c] = clamp(rne(float32(sum over n of e[m, n] * (v[n, c] - z_v)) * (multiplier / float32(sum over n
    of e[m, n]))) + output_zero_point, low, high).
    """

    batch: tuple[int, ...]
    rows: int
    """Queries."""
    inner: int
    """Products that are summed to a score, at most LONGEST."""
    length: int
    """Keys and values, at most LONGEST."""
    columns: int
    """Numbers of a value and of the result."""
    queries: Matrices
    """[rows, inner], numbers side by side."""
    keys: Matrices
    """[inner, length], which is the keys transposed."""
    values: Matrices
    """[length, columns]."""
    result: Matrices
    """[rows, columns], numbers side by side, nothing between its elements."""
    mask: Matrices | None
    """[rows, length] of int8, side by side along the keys; None: there is no fourth input."""
    mask_steps: NDArray[np.int32]
    """[256]: what each code of the mask adds to a score, in steps of the table, in [-32768, 32767]."""
    score_multiplier: float
    """float32(s_q * s_k * scale / STEP), computed in float64."""
    table: NDArray[np.uint8]
    """[256]: rne(255 * exp(-d * STEP)); the last is 0."""
    multiplier: float
    """float32(s_v / s_y), computed in float64."""
    zero_points: tuple[int, int, int]
    """Those of query, key and value."""
    output_zero_point: int
    low: int
    high: int
    dtype: str = "int8"
    """What operands, mask and result are."""

    @property
    def saturating(self) -> bool:
        """Whether int8's own range is all that results are clamped to."""
        return (self.low, self.high) == code_range(self.dtype)

    @property
    def reach(self) -> float:
        """The magnitude that no value to be rounded exceeds: results are averages of values."""
        return 256 * abs(self.multiplier)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return math.prod(self.batch) * self.rows * self.length * (self.inner + self.columns)


STEP = 1 / 40
"""Difference of two scores by which the table of exponentials goes on: 255 of them are where it is 0."""

LONGEST = 16384
"""Products that may be summed: whatever the zero points are, no sum on the way leaves int32."""
