"""Depthwise convolution for any core without an FPU, as loops for LLVM."""

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.conv.mcu.depthwise import Form, RowShape
from edgec.kernels.conv.mcu.depthwise_any import Work, blocked
from edgec.kernels.conv.mcu.depthwise_thumb import ThumbAny
from edgec.kernels.isa import thumb
from edgec.kernels.isa.assembly import Assembly
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch


class PlainAny(ThumbAny):
    """Four channels, in loops for LLVM."""

    name = "plain"
    arch: Arch | None = None
    features: frozenset[str] = frozenset()
    mover: Assembly | None = None

    def accepts(self, operation: Conv2d) -> bool:
        """Any int8 weights."""
        return operation.weights.dtype == np.int8

    def form(self, operation: Conv2d) -> Form:
        """Return whether results need more than the usual fixed-point form."""
        return (thumb.wide(operation.multiplier),)

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """By block: biases, `thumb.scales`, weights tap by tap."""
        weights, bias, multiplier = blocked(operation, self.channels)
        blocks, width, rows, columns = weights.shape
        taps = np.ascontiguousarray(weights.reshape(blocks, width, rows * columns).swapaxes(1, 2))
        scales = thumb.scales(multiplier.reshape(-1)).reshape(blocks, width * 2)
        return np.concatenate([bias, scales, taps.reshape(blocks, -1).view("<i4")], axis=1)

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """None."""
        del form
        return ()

    def fill(self, ring: Buffer, to: Expr, padding: Expr, size: Expr) -> None:
        """Write the filling of `size` bytes from `to` on."""
        with T.serial(0, size) as at:
            tir.store(ring, to + at, T.cast(padding, "int8"))

    def copy(self, g: RowShape, x: Buffer, start: Expr, ring: Buffer, row: Expr) -> None:
        """Write the copying of a row of the input, of adjacent channels, to the row that begins at `row`."""
        to = row + g.left * self.pixel_bytes
        with T.serial(0, g.in_columns) as column, T.unroll(0, self.channels) as lane:
            tir.store(
                ring, to + column * self.pixel_bytes + lane, x[start + column * g.in_column_step + lane]
            )

    def copy_apart(self, work: Work, x: Buffer, start: Expr, row: Expr) -> None:
        """Channel by channel."""
        g, count = work.geometry, self.channels
        with T.serial(0, count) as lane:
            source = start + work.channel(work.block * count + lane)
            to = row + g.left * count + lane
            with T.serial(0, g.in_columns) as column:
                tir.store(work.rows, to + column * count, x[source + column * g.in_column_step])

    def row(self, work: Work) -> None:
        """All channels together."""
        g, width, (wide,) = work.geometry, self.channels, work.form
        sums = T.alloc_buffer((width,), "int32", scope="global")
        weights = work.first + 3 * width
        with T.serial(0, g.columns) as column:
            for lane in range(width):
                tir.store(sums, lane, work.constants[work.first + lane])
            start = column * g.column_stride * self.pixel_bytes
            with T.serial(0, g.kernel_rows) as r:
                beyond = work.first_row + r * g.row_dilation
                row = T.Select(beyond >= g.reach, beyond - g.reach, beyond)
                from_tap = start + row * (g.length * self.pixel_bytes)
                with T.serial(0, g.kernel_columns) as c:
                    word = work.constants[weights + r * g.kernel_columns + c]
                    tap = from_tap + c * (g.column_dilation * self.pixel_bytes)
                    for lane in range(width):
                        weight = (word << (24 - 8 * lane)) >> 24
                        tir.store(sums, lane, sums[lane] + T.cast(work.rows[tap + lane], "int32") * weight)
            for lane in range(width):
                with T.If(work.lanes > lane), T.Then():
                    scale = work.first + width + 2 * lane
                    value = thumb.requantize(
                        sums[lane], work.constants[scale], work.constants[scale + 1], work.output.zero_point,
                        wide,
                    )  # fmt: skip
                    value = T.max(T.min(value, work.output.high), work.output.low)
                    tir.store(work.y, work.to + column * g.column_step + lane, T.cast(value, "int8"))
