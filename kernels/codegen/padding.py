"""Window rows that lie in the padding: left out of a convolution's products, and added to its bias instead.

Padding holds the input's zero point z, so that such a row adds z * sum(w) to every output of a row of pixels:
a constant per channel. There are as many biases as there are numbers of rows to leave out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Expr, T


@dataclass(frozen=True)
class PaddingRows:
    """How many rows of the window may lie above the image, and how many below: never some of each."""

    top: int
    bottom: int

    @property
    def biases(self) -> int:
        """How many there are: for no row, for 1 to `top` rows above, for 1 to `bottom` rows below."""
        return 1 + self.top + self.bottom


def padding_rows(shape: Geometry) -> PaddingRows:
    """Return what can be left out of a convolution.

    Nothing where rows are dilated, where a window reaches past both ends of the image, or where one lies in
    the padding altogether.
    """
    kernel, stride, pad = shape.kernel[0], shape.strides[0], shape.pads[0]
    above = [min(kernel, max(0, pad - row * stride)) for row in range(shape.rows)]
    below = [min(kernel, max(0, row * stride - pad + kernel - shape.in_rows)) for row in range(shape.rows)]
    odd = any((a and b) or kernel in (a, b) for a, b in zip(above, below, strict=True))
    return PaddingRows(0, 0) if odd or shape.dilations[0] > 1 else PaddingRows(max(above), max(below))


def biases(
    operation: Conv2d, folded: NDArray[np.int32], padding: int, left_out: PaddingRows
) -> list[NDArray[np.int32]]:
    """Return the biases, from the one `folded` for the whole window; `padding` is the panel's value there.

    They may leave int32 where the whole sum doesn't: sums wrap around, and come back.
    """
    rows = operation.weights.astype(np.int64).sum(axis=(2, 3)) * padding
    above = [rows[:, :count].sum(axis=1) for count in range(left_out.top + 1)]
    below = [rows[:, rows.shape[1] - count :].sum(axis=1) for count in range(1, left_out.bottom + 1)]
    return [(folded + extra).astype(np.int32) for extra in (*above, *below)]


def window(shape: Geometry, left_out: PaddingRows, row: Expr) -> tuple[Expr, Expr, Expr]:
    """Return, for an output row: first of the window rows to multiply, how many, and which bias it takes."""
    kernel = shape.kernel[0]
    start = row * shape.strides[0] - shape.pads[0]
    above = T.min(T.max(T.int32(0) - start, 0), kernel)
    below = T.min(T.max(start + (kernel - shape.in_rows), 0), kernel)
    # TVM sees that it is 1 at least, LLVM doesn't: it would copy all accumulators once more for that case.
    count = tir.intrinsic("int32", "llvm.smax.i32", kernel - above - below, T.int32(1))
    return above, count, above + below + left_out.top * T.min(below, 1)
