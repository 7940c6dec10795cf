"""What of an image a call of a kernel for microcontrollers covers: all of it, or a stripe of rows.

A stripe is an image with other padding. So the kernels read these three numbers at run time, from an array
of their own, and whoever calls them for a stripe (`conv/mcu/chain.py`) gives another one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.tir import Expr


@dataclass(frozen=True)
class Extent:
    """int32, in this order."""

    rows: Expr
    """Rows of the output."""
    in_rows: Expr
    """Rows of the input, from the first that is there on."""
    top: Expr
    """Rows of padding above that; less than none where the window begins further below."""

    @property
    def array(self) -> NDArray[np.int32]:
        """The constant of a call for a whole image, whose numbers are known."""
        return np.array([self.rows, self.in_rows, self.top], np.int32)


FIELDS = len(Extent.__dataclass_fields__)
