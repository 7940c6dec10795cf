"""Depthwise convolution by the DSP instructions: channels are planes of int16."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.conv import conv2d
from edgec.kernels.conv.mcu import depthwise_loops
from edgec.kernels.conv.mcu.depthwise import DepthwiseParameters, Form, RowShape
from edgec.kernels.conv.mcu.depthwise_any import Work, blocked, extent
from edgec.kernels.isa import dsp
from edgec.kernels.isa.assembly import Assembly, address
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization


class DspRows:
    """Four channels as planes of int16, of which `smlad` multiplies two neighbours."""

    name = "dsp"
    arch: Arch | None = "arm-m"
    requantization: Requantization = "float32"
    features = frozenset({"dsp"})
    channels = 4
    pixel_bytes = 8
    constant_words = 32

    def accepts(self, operation: Conv2d) -> bool:
        """Any int8 weights."""
        return operation.weights.dtype == np.int8

    def pack(self, operation: Conv2d, weights: NDArray[np.generic]) -> NDArray[np.int32]:
        """Return weights, biases and multipliers, block by block, as the loops for DSP read them."""
        return dsp.depthwise_constants(weights, conv2d.folded_bias(operation, 0), operation.multiplier)

    def padding(self, zero_point: int) -> int:
        """Two int16."""
        return int(np.array([zero_point, zero_point], "<i2").view("<i4")[0])

    def form(self, operation: Conv2d) -> Form:
        """Return the stride, and whether results have no bounds but int8's own."""
        return operation.strides[0], operation.saturating

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """Return the loops that `fill`, `copy` and `outputs` call."""
        return dsp.FILL_WORDS, dsp.PLANES, dsp.PLANES_PIXEL, dsp.depthwise_rows(*form)

    def fill(self, ring: Buffer, to: Expr, padding: Expr, size: Expr) -> None:
        """Write the filling of `size` bytes of the ring from `to` on."""
        dsp.FILL_WORDS.call(None, address(ring, to), padding, size // 4)

    def copy(self, g: RowShape, x: Buffer, start: Expr, ring: Buffer, row: Expr) -> None:
        """Pairs of pixels that begin at a whole word of the planes; one before, one after, if need be."""
        plane = g.length * 2
        odd = g.left % 2
        pairs = (g.in_columns - odd) // 2

        def single(column: Expr) -> None:
            source = address(x, start + column * g.in_column_step)
            dsp.PLANES_PIXEL.call(None, source, address(ring, row + (g.left + column) * 2), plane)

        with T.If(odd > 0), T.Then():
            single(T.int32(0))
        with T.If(pairs > 0), T.Then():
            source = address(x, start + odd * g.in_column_step)
            to = address(ring, row + (g.left + odd) * 2)
            dsp.PLANES.call(None, source, g.in_column_step, to, plane, pairs)
        with T.If((g.in_columns - odd) % 2 > 0), T.Then():
            single(g.in_columns - 1)

    def outputs(
        self, g: DepthwiseParameters, form: Form, ring: Buffer, rows: Sequence[Expr], constants: Buffer,
        first: Expr, y: Buffer, to: Expr, parameters: Buffer, zero_point: Expr,
    ) -> None:  # fmt: skip
        """Write the computation of a row of outputs of a block."""
        _, saturating = form
        places = [address(ring, row) for row in rows]
        packed = g.columns + g.length * (2 << 16)
        dsp.depthwise_rows(*form).call(
            None, *places, address(y, to), address(constants, first), g.column_step, packed,
            zero_point if saturating else address(parameters, 0),
        )  # fmt: skip


class DspAny(DspRows):
    """Four channels as planes of int16, of which `smlad` multiplies two neighbours (dilated: or zeros)."""

    mover: Assembly | None = depthwise_loops.MOVE

    def accepts(self, operation: Conv2d) -> bool:
        """Whether `DspRows` would, and a row of the window isn't too much code."""
        return super().accepts(operation) and _pairs(operation) <= depthwise_loops.MOST_PAIRS

    def form(self, operation: Conv2d) -> Form:
        """Return pairs of taps of a row, and whether results have no bounds but int8's own."""
        return _pairs(operation), operation.saturating

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """By channel: bias, multiplier, pairs of weights row by row."""
        weights, bias, multiplier = blocked(operation, self.channels)
        blocks, width, rows, _ = weights.shape
        spread = np.zeros((blocks, width, rows, 2 * _pairs(operation)), "<i2")
        dilation = operation.dilations[1]
        spread[..., : extent(weights.shape[3], dilation) : dilation] = weights
        words = spread.view("<i4").reshape(blocks, width, -1)
        head = np.stack([bias, multiplier.view(np.int32)], axis=-1)
        return np.concatenate([head, words], axis=-1).reshape(blocks, -1)

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """Return the loops that `fill`, `copy` and `row` call."""
        return (
            dsp.FILL_WORDS,
            dsp.PLANES,
            dsp.PLANES_PIXEL,
            depthwise_loops.MOVE,
            depthwise_loops.WIDEN_CHANNEL,
            depthwise_loops.dsp_row(*form),
        )

    def copy_apart(self, work: Work, x: Buffer, start: Expr, row: Expr) -> None:
        """Plane by plane."""
        g = work.geometry
        with T.serial(0, self.channels) as lane:
            source = start + work.channel(work.block * self.channels + lane)
            to = address(work.rows, row + (lane * g.length + g.left) * 2)
            depthwise_loops.WIDEN_CHANNEL.call(None, address(x, source), g.in_column_step, to, g.in_columns)

    def row(self, work: Work) -> None:
        """Channel by channel."""
        g, (_, saturating) = work.geometry, work.form
        with T.serial(0, work.lanes) as lane:
            depthwise_loops.dsp_row(*work.form).call(
                None, address(work.rows, lane * (g.length * 2)), work.pitch * self.pixel_bytes,
                address(work.constants, work.first + lane * T.truncdiv(g.words, self.channels)),
                address(work.y, work.to + lane), g.column_step, g.columns, g.kernel_rows, g.column_stride * 2,
                work.output.zero_point if saturating else address(work.parameters, 0),
            )  # fmt: skip


def _pairs(operation: Conv2d) -> int:
    """Return the pairs of taps in a row of the window, those between them included."""
    return -(-extent(operation.weights.shape[2], operation.dilations[1]) // 2)
