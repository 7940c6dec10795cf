"""Resizing of images by linear interpolation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WEIGHT_BITS = 10
"""Bits after the point of the weights that integers are interpolated with, in each direction."""


@dataclass(frozen=True, eq=False)
class Interpolate:
    """Linear interpolation of [N, H, W, C] between two rows and two columns.

    With weights a of the second row and b of the second column, of int8 in units of 2**-WEIGHT_BITS = 1 / u:
    y = ((x00 * (u - b) + x01 * b) * (u - a) + (x10 * (u - b) + x11 * b) * a + u * u / 2) >> 2 * WEIGHT_BITS;
    of float32, where u is 1, without the rounding: three sums of two products, each rounded.
    Scale and zero point stay.
    """

    input_shape: tuple[int, int, int, int]
    row_places: NDArray[np.int32]
    """[output rows, 2]: the two rows of the input."""
    row_weights: NDArray[np.int32] | NDArray[np.float32]
    """[output rows]: the second one's; int32 for int8."""
    column_places: NDArray[np.int32]
    """[output columns, 2]."""
    column_weights: NDArray[np.int32] | NDArray[np.float32]
    """[output columns]."""
    dtype: str = "int8"
    """Type of the codes or numbers that it reads and writes."""

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """[N, output rows, output columns, C]."""
        return self.input_shape[0], len(self.row_places), len(self.column_places), self.input_shape[3]
