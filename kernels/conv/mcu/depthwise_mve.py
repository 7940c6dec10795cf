"""Depthwise convolution by Helium: a vector is of eight channels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.conv import conv2d
from edgec.kernels.conv.mcu import depthwise_loops
from edgec.kernels.conv.mcu.depthwise import DepthwiseParameters, Form, RowShape
from edgec.kernels.conv.mcu.depthwise_any import Work, blocked, extent, is_apart, taps_of_row
from edgec.kernels.isa import mve
from edgec.kernels.isa.assembly import Assembly, address
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Buffer, Expr
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization


class MveRows:
    """Eight channels, as they are."""

    name = "mve"
    arch: Arch | None = "arm-m"
    requantization: Requantization = "float32"
    features = frozenset({"mve", "mve.fp"})
    channels = mve.DEPTHWISE_CHANNELS
    pixel_bytes = 8
    constant_words = 34

    def accepts(self, operation: Conv2d) -> bool:
        """No weight of -128: two of its products would leave int16."""
        return operation.weights.dtype == np.int8 and int(operation.weights.min()) > -128

    def pack(self, operation: Conv2d, weights: NDArray[np.generic]) -> NDArray[np.int32]:
        """Return weights, biases and multipliers, block by block, as the loops for Helium read them."""
        flat = np.ascontiguousarray(weights).reshape(len(weights), -1)
        return mve.depthwise_constants(flat, conv2d.folded_bias(operation, 0), operation.multiplier)

    def padding(self, zero_point: int) -> int:
        """Return the byte."""
        return zero_point

    def form(self, operation: Conv2d) -> Form:
        """Return nothing."""
        del operation
        return ()

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """Return the loops that `fill`, `copy` and `outputs` call."""
        del form
        return mve.FILL, mve.PIXELS, mve.DEPTHWISE

    def fill(self, ring: Buffer, to: Expr, padding: Expr, size: Expr) -> None:
        """Write the filling of `size` bytes of the ring from `to` on."""
        mve.FILL.call(None, address(ring, to), padding, size)

    def copy(self, g: RowShape, x: Buffer, start: Expr, ring: Buffer, row: Expr) -> None:
        """Write the copying of a row of the input from `start` to the ring's row that begins at `row`."""
        to = address(ring, row + g.left * self.pixel_bytes)
        mve.PIXELS.call(None, address(x, start), g.in_column_step, to, g.in_columns)

    def outputs(
        self, g: DepthwiseParameters, form: Form, ring: Buffer, rows: Sequence[Expr], constants: Buffer,
        first: Expr, y: Buffer, to: Expr, parameters: Buffer, zero_point: Expr,
    ) -> None:  # fmt: skip
        """Write the computation of a row of outputs of a block."""
        del form, zero_point
        places = [address(ring, row) for row in rows]
        mve.DEPTHWISE.call(
            None, *places, address(constants, first), address(y, to), g.column_stride * self.pixel_bytes,
            g.column_step, g.columns, address(parameters, 0),
        )  # fmt: skip


class MveAny(MveRows):
    """Eight channels, as they are."""

    mover: Assembly | None = depthwise_loops.MVE_MOVE

    def accepts(self, operation: Conv2d) -> bool:
        """Whether `MveRows` would, a window's row isn't too much code, and the sums hold its products."""
        rows, (columns, dilation, stride) = operation.weights.shape[1], taps_of_row(operation)
        held = columns <= depthwise_loops.MOST_TAPS and rows * -(-columns // 2) <= depthwise_loops.MOST_GROUPS
        reached = extent(columns, dilation) + stride <= depthwise_loops.MOST_PIXELS
        return super().accepts(operation) and held and reached

    def form(self, operation: Conv2d) -> Form:
        """Return what a row of the window is, if bounds are int8's own, and if a block isn't full."""
        return *taps_of_row(operation), operation.saturating, len(operation.weights) % self.channels > 0

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """Return weights, biases and multipliers, block by block, as the loops for Helium read them.

        Behind them, where channels aren't adjacent, one byte for each output: which channel of the input it
        is made of, counted from the first output's.
        """
        weights, bias, multiplier = blocked(operation, self.channels)
        own = depthwise_loops.mve_constants(weights.reshape(*bias.shape, -1), bias, multiplier)
        if not is_apart(self, operation):
            return own
        outputs = len(operation.weights)
        channels = np.arange(bias.size).clip(None, outputs - 1) * operation.groups // outputs
        offsets = (channels.reshape(bias.shape) - channels.reshape(bias.shape)[:, :1]).astype(np.int8)
        return np.concatenate([own, offsets.view("<i4")], axis=1)

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """Return the loops that `fill`, `copy` and `row` call."""
        own = depthwise_loops.MVE_MOVE, depthwise_loops.MVE_GATHER, depthwise_loops.mve_row(*form)
        return mve.FILL, mve.PIXELS, *own

    def copy_apart(self, work: Work, x: Buffer, start: Expr, row: Expr) -> None:
        """All channels together."""
        g = work.geometry
        source = start + work.channel(work.block * self.channels)
        offsets = address(work.constants, work.first + g.words - self.channels // 4)
        to = address(work.rows, row + g.left * self.pixel_bytes)
        depthwise_loops.MVE_GATHER.call(None, address(x, source), g.in_column_step, to, g.in_columns, offsets)

    def row(self, work: Work) -> None:
        """All channels together."""
        g = work.geometry
        depthwise_loops.mve_row(*work.form).call(
            None, address(work.rows, 0), work.pitch * self.pixel_bytes, address(work.constants, work.first),
            address(work.y, work.to), g.column_step, g.columns, g.kernel_rows, address(work.parameters, 0),
            work.lanes,
        )  # fmt: skip
