"""Recurrent layers: LSTM, GRU and RNN, one direction of them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.operations.conv import Conv2d

RecurrentKind = Literal["lstm", "gru", "gru-linear-before-reset", "rnn"]
"""What a step computes; the two kinds of GRU reset the hidden state before or behind its product."""

GATES: dict[RecurrentKind, int] = {"lstm": 4, "gru": 3, "gru-linear-before-reset": 3, "rnn": 1}
"""Gates of a step, in ONNX's order: i, o, f, c; z, r, h; one."""

CURVES: dict[RecurrentKind, tuple[int, ...]] = {
    "lstm": (0, 0, 0, 1), "gru": (0, 0, 1), "gru-linear-before-reset": (0, 0, 1), "rnn": (0,),
}  # fmt: skip
"""Which of an operation's curves each gate is put through; a third of LSTM's is its cell's."""

CURVE_STEPS = 1 << 14
"""Steps of a curve's argument on either side of 0."""

CURVE_BITS = 15
"""A curve's values are in units of 2**-15."""


def curve(start: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return a curve of its values at 257 equally spaced arguments, each at most 1 in magnitude.

    Entry i holds value i in its upper 16 bits and what the next one adds to it in its lower 16.
    """
    units = np.clip(np.rint(start * (1 << CURVE_BITS)), -(2**15), 2**15 - 1).astype(np.int64)
    return np.asarray((units[:-1] << 16) | (np.diff(units) & 0xFFFF), np.uint32).view(np.int32)


@dataclass(frozen=True, eq=False)
class Recurrent:
    """One direction of an LSTM, GRU or RNN: int8 hidden state, int16 cell (or GRU's state).

    docs/semantics.md has the formulas. Inputs are x [steps, batch, inputs], then, where they are given, the
    initial hidden state [batch, hidden] and the initial cell; the result is [steps, batch, hidden].
    """

    kind: RecurrentKind
    steps: int
    batch: int
    reverse: bool
    """Whether the last step is computed first."""
    products: tuple[Conv2d, ...]
    """What is multiplied by weights, with 1x1 windows, as int16 in steps of the curves' arguments: the input
    of all steps, and the hidden state; GRU's last gate alone where the state is reset before its product."""
    curves: NDArray[np.int32]
    """[curves, 256], see `curve`."""
    fraction: int
    """Bits of the int16 state behind the point, at most 15."""
    cell_shift: int
    """Bits by which the cell is finer than steps of the third curve; negative where it is coarser."""
    initial_hidden: bool
    """Whether the initial hidden state, codes of the result's scale, is an input; it is zero if not."""
    initial_cell: bool
    """Whether the initial cell, int8, is an input; it is zero if not."""
    state_multiplier: float
    """float32: what an initial state's code, less its zero point, is multiplied by to be an int16 state."""
    state_zero_point: int
    """Zero point of the codes that the int16 state begins with: the cell's, or GRU's hidden state's."""
    multiplier: float
    """float32: what the new hidden state is multiplied by to be in steps of the result."""
    output_zero_point: int
    dtype: str = "int8"
    """Type of the codes that it reads and writes."""

    @property
    def hidden(self) -> int:
        """Numbers of a hidden state."""
        return len(self.products[0].weights) // GATES[self.kind]

    @property
    def inputs(self) -> int:
        """Numbers that a step reads."""
        return int(self.products[0].weights.shape[3])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return self.steps * self.batch * sum(int(product.weights.size) for product in self.products)
