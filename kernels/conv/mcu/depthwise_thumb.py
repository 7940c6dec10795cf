"""Depthwise convolution on cores without DSP instructions and FPU."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.conv import conv2d
from edgec.kernels.conv.mcu import depthwise_loops
from edgec.kernels.conv.mcu.depthwise import DepthwiseParameters, Form, RowShape
from edgec.kernels.conv.mcu.depthwise_any import Work, blocked, extent, taps_of_row
from edgec.kernels.isa import dsp, thumb
from edgec.kernels.isa.assembly import Assembly, address
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization


class ThumbRows:
    """Four channels, byte by byte, in fixed point."""

    name = "thumb"
    arch: Arch | None = "arm-m"
    requantization: Requantization = "fixed-point"
    features: frozenset[str] = frozenset({"thumb2"})
    channels = 4
    pixel_bytes = 4
    constant_words = 24

    def accepts(self, operation: Conv2d) -> bool:
        """Any int8 weights."""
        return operation.weights.dtype == np.int8

    def pack(self, operation: Conv2d, weights: NDArray[np.generic]) -> NDArray[np.int32]:
        """Return weights, biases and multipliers, block by block, as the loops read them."""
        flat = np.ascontiguousarray(weights).reshape(len(weights), -1)
        return thumb.depthwise_constants(flat, conv2d.folded_bias(operation, 0), operation.multiplier)

    def padding(self, zero_point: int) -> int:
        """Four bytes."""
        return int(np.uint32((zero_point & 0xFF) * 0x01010101).astype(np.int32))

    def form(self, operation: Conv2d) -> Form:
        """Return what results need."""
        return (thumb.ending(operation),)

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """Return the loops that `fill`, `copy` and `outputs` call."""
        return dsp.FILL_WORDS, thumb.PIXELS, thumb.depthwise(*form)

    def fill(self, ring: Buffer, to: Expr, padding: Expr, size: Expr) -> None:
        """Write the filling of `size` bytes of the ring from `to` on."""
        dsp.FILL_WORDS.call(None, address(ring, to), padding, size // 4)

    def copy(self, g: RowShape, x: Buffer, start: Expr, ring: Buffer, row: Expr) -> None:
        """Write the copying of a row of the input from `start` to the ring's row that begins at `row`."""
        to = address(ring, row + g.left * self.pixel_bytes)
        thumb.PIXELS.call(None, address(x, start), g.in_column_step, to, g.in_columns)

    def outputs(
        self, g: DepthwiseParameters, form: Form, ring: Buffer, rows: Sequence[Expr], constants: Buffer,
        first: Expr, y: Buffer, to: Expr, parameters: Buffer, zero_point: Expr,
    ) -> None:  # fmt: skip
        """Channel by channel."""
        (ending,) = form
        with T.serial(0, self.channels) as channel:
            places = [address(ring, row + channel) for row in rows]
            one = address(constants, first + channel * (self.constant_words // self.channels))
            thumb.depthwise(ending).call(
                None, *places, address(y, to + channel), one, g.column_stride * self.pixel_bytes,
                g.column_step, g.columns, address(parameters, 0) if ending.clipped else zero_point,
            )  # fmt: skip


class ThumbAny(ThumbRows):
    """Four channels, byte by byte, in fixed point."""

    mover: Assembly | None = depthwise_loops.MOVE

    def accepts(self, operation: Conv2d) -> bool:
        """Whether `ThumbRows` would, and a row of the window isn't too much code."""
        columns, dilation, stride = taps_of_row(operation)
        wide = extent(columns, dilation) <= 2 * depthwise_loops.MOST_PAIRS >= stride
        return super().accepts(operation) and wide

    def form(self, operation: Conv2d) -> Form:
        """Return that, and what results need."""
        return *taps_of_row(operation), thumb.ending(operation)

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """By channel: rows, bias, `thumb.scales`, weights."""
        weights, bias, multiplier = blocked(operation, self.channels)
        blocks, width, rows, columns = weights.shape
        words = -(-rows * columns // 4)
        padded = np.zeros((blocks, width, words * 4), np.int8)
        padded[..., : rows * columns] = weights.reshape(blocks, width, -1)
        scales = thumb.scales(multiplier.reshape(-1)).reshape(blocks, width, 2)
        head = np.stack([np.full_like(bias, rows), bias, scales[..., 0], scales[..., 1]], axis=-1)
        return np.concatenate([head, padded.view("<i4")], axis=-1).reshape(blocks, -1)

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """Return the loops that `fill`, `copy` and `row` call."""
        return (
            dsp.FILL_WORDS,
            thumb.PIXELS,
            depthwise_loops.MOVE,
            depthwise_loops.COPY_CHANNEL,
            depthwise_loops.thumb_row(*form),
        )

    def copy_apart(self, work: Work, x: Buffer, start: Expr, row: Expr) -> None:
        """Channel by channel."""
        g, count = work.geometry, self.channels
        with T.serial(0, count) as lane:
            source = address(x, start + work.channel(work.block * count + lane))
            to = address(work.rows, row + g.left * count + lane)
            depthwise_loops.COPY_CHANNEL.call(
                None, source, g.in_column_step, to, T.int32(count), g.in_columns
            )

    def row(self, work: Work) -> None:
        """Channel by channel."""
        g, (*_, ending) = work.geometry, work.form
        with T.serial(0, work.lanes) as lane:
            depthwise_loops.thumb_row(*work.form).call(
                None, address(work.rows, lane), work.pitch * self.pixel_bytes,
                address(work.constants, work.first + lane * T.truncdiv(g.words, self.channels)),
                address(work.y, work.to + lane), g.column_step, g.columns,
                address(work.parameters, 0) if ending.clipped else work.output.zero_point,
            )  # fmt: skip
