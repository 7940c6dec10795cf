"""Depthwise convolution of any window for microcontrollers: any size, stride, dilation, outputs per channel.

A few channels at a time, as in `compact_depthwise`, but the rows that a window sees lie one after another
and move up as it goes down: then loops need no more than a pitch, whatever the window. What moves is a row or
two of a few channels; the products of an output are many more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import conv2d, epilogue, tir
from edgec.kernels.compact_depthwise import DspRows, MveRows, RowShape, ThumbRows
from edgec.kernels.isa import depthwise_any, dsp, mve, thumb
from edgec.kernels.isa.assembly import Assembly, address, linked
from edgec.kernels.isa.base import Output
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Conv2d, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

_ANY = 1 << 28
"""Elements of a buffer whose size is an argument."""


@dataclass(frozen=True)
class Geometry:
    """Run-time parameters: int32, in this order, behind low, high, zero point."""

    padding: Expr
    """The byte outside of the image, as the window's rows hold it, in a whole word."""
    blocks: Expr
    """Of output channels."""
    outputs: Expr
    """Channels, as are the next two."""
    channels: Expr
    step: Expr
    """Bytes from one pixel of the output to the next."""
    per_channel: Expr
    """Outputs of a channel."""
    rows: Expr
    """Of the output, as is the next."""
    columns: Expr
    in_rows: Expr
    in_columns: Expr
    row_stride: Expr
    column_stride: Expr
    top: Expr
    left: Expr
    kernel_rows: Expr
    row_dilation: Expr
    reach: Expr
    """Rows that the window sees, those between its own included."""
    length: Expr
    """Of such a row, in pixels, padding included."""
    kernel_columns: Expr
    column_dilation: Expr
    words: Expr
    """Of a block's constants."""

    @property
    def in_column_step(self) -> Expr:
        """Bytes from one pixel of the input to the next."""
        return self.channels


_FIELDS = len(Geometry.__dataclass_fields__)


class DepthwiseAny(Protocol):
    """An instruction set as this convolution sees it."""

    name: str
    arch: str | None
    requantization: str
    """As in a target's description."""
    features: frozenset[str]
    channels: int
    """Of a block."""
    pixel_bytes: int
    """Of a block's pixel in a row."""
    ring: bool
    """Whether rows stay where they are, and the window's first is another one each time."""

    def accepts(self, operation: Conv2d) -> bool:
        """Whether its sums and results are exact here."""

    def form(self, operation: Conv2d) -> tuple[int, ...]:
        """Return what of the window's columns is code, not an argument."""

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """Weights, biases and multipliers: [blocks, words]."""

    def table(self, operation: Conv2d, length: int) -> NDArray[np.int32]:
        """Return more parameters, behind the geometry."""

    def padding(self, zero_point: int) -> int:
        """Return the word that rows are filled with."""

    def loops(self, form: tuple[int, ...]) -> tuple[Assembly, ...]:
        """Loops that the next ones call."""

    def fill(self, ring: Buffer, to: Expr, padding: Expr, size: Expr) -> None:
        """Write the filling of `size` bytes from `to` on."""

    def move(self, rows: Buffer, source: Expr, size: Expr) -> None:
        """Write the moving of `size` bytes, a multiple of eight, from `source` to the start of the rows."""

    def copy(self, g: RowShape, x: Buffer, start: Expr, ring: Buffer, row: Expr) -> None:
        """Write the copying of a row of the input, of adjacent channels, to the row that begins at `row`."""

    def copy_channel(self, g: Geometry, x: Buffer, source: Expr, ring: Buffer, row: Expr, lane: Expr) -> None:
        """Write the copying of one channel, of the input, from `source` on, to a lane of that row."""

    def row(self, work: "Work") -> None:
        """Write the computation of a row of outputs of a block."""


@dataclass(frozen=True)
class Work:
    """A row of outputs of a block of channels."""

    geometry: Geometry
    form: tuple[int, ...]
    rows: Buffer
    """Of the window."""
    first_row: Expr
    """Of the window, among the rows: 0 unless they are a ring."""
    pitch: Expr
    """Bytes from one row of the window to its next."""
    constants: Buffer
    first: Expr
    """The block's, in the constants."""
    y: Buffer
    to: Expr
    """The first output."""
    lanes: Expr
    """Channels that there are, of the block."""
    parameters: Buffer
    output: Output


def codes(isa: DepthwiseAny, operation: Conv2d, target: Target) -> Iterator[KernelCode]:
    """Code of a depthwise convolution, with several outputs per channel or one."""
    del target
    images, _, _, channels = operation.input_shape
    outputs, kernel = len(operation.weights), operation.weights.shape[1:3]
    if operation.groups != channels or channels == 1 or operation.residual is not None:
        return
    if not operation.weights.size or not isa.accepts(operation):
        return
    adjacent = outputs == channels and outputs % isa.channels == 0
    behind = outputs == channels and _behind(operation)
    inplace = (0,) if behind and operation.runs is None else ()
    parameters, reach, length = _parameters(isa, operation)
    constants = isa.constants(operation)
    yield KernelCode(
        key=f"compact_depthwise_any {isa.name} {isa.form(operation)} {adjacent} {bool(inplace)}",
        make=partial(_function, isa, isa.form(operation), adjacent, bool(inplace)),
        constants=(constants.reshape(-1), parameters),
        tiles=images,
        scratch_bytes=reach * length * isa.pixel_bytes,
        inplace=inplace,
        configuration=f"{kernel[0]}x{kernel[1]}",
    )


def extent(size: int, dilation: int) -> int:
    """Return what a window of `size` reaches over."""
    return (size - 1) * dilation + 1


def _behind(operation: Conv2d) -> bool:
    """Whether every row of outputs ends before the first row that is still to be read."""
    images, in_rows, in_columns, _ = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    reach = extent(operation.weights.shape[1], operation.dilations[0])
    read = [min(in_rows, row * operation.strides[0] + reach - operation.pads[0]) for row in range(rows)]
    behind = all((row + 1) * columns <= count * in_columns for row, count in enumerate(read))
    return behind and (images == 1 or rows * columns == in_rows * in_columns)


def _parameters(isa: DepthwiseAny, operation: Conv2d) -> tuple[NDArray[np.int32], int, int]:
    _, in_rows, in_columns, channels = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    _, kernel_rows, kernel_columns, _ = operation.weights.shape
    (stride, column_stride), (top, left) = operation.strides, operation.pads[:2]
    row_dilation, column_dilation = operation.dilations
    reach, wide = extent(kernel_rows, row_dilation), extent(kernel_columns, column_dilation)
    # Up to the window of an odd last pair of outputs, of an even number of taps; and even, for rows of words.
    length = -(-max(columns * column_stride + wide + 1, left + in_columns) // 2) * 2
    blocks = -(-outputs // isa.channels)
    geometry = Geometry(
        isa.padding(operation.input_zero_point), blocks, outputs, channels,
        pitch(operation.runs, outputs), outputs // channels, rows,
        columns, in_rows, in_columns, stride, column_stride, top, left, kernel_rows, row_dilation, reach,
        length, kernel_columns, column_dilation, isa.constants(operation).size // blocks,
    )  # fmt: skip
    values = [getattr(geometry, name) for name in Geometry.__dataclass_fields__]
    own = epilogue.parameters(operation, 0)[:3]
    return np.concatenate([own, np.array(values, np.int32), isa.table(operation, length)]), reach, length


def _function(isa: DepthwiseAny, form: tuple[int, ...], adjacent: bool, aliased: bool) -> object:
    return tir.kernel(
        [("int8", _ANY), ("int32", _ANY), ("int32", _ANY), ("int8", _ANY)],
        "int8",
        partial(_body, isa, form, adjacent),
        noalias=not aliased,
    )


def _body(
    isa: DepthwiseAny, form: tuple[int, ...], adjacent: bool, x: Buffer, constants: Buffer,
    parameters: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr,
) -> None:  # fmt: skip
    low, high, zero_point, *values = tir.registers(parameters, 3 + _FIELDS)
    g = Geometry(*values)
    output = Output(low, high, zero_point, bounded=False, short=False)
    row_bytes = g.length * isa.pixel_bytes

    def copied(image: Expr, block: Expr, in_row: Expr, to: Expr) -> None:
        start = (image * g.in_rows + in_row) * g.in_columns * g.channels
        if adjacent:
            isa.copy(g, x, start + block * isa.channels, scratch, to)
            return
        with T.serial(0, isa.channels) as lane:
            channel = T.truncdiv(T.min(block * isa.channels + lane, g.outputs - 1), g.per_channel)
            isa.copy_channel(g, x, start + channel, scratch, to, lane)

    def lines(image: Expr, block: Expr, row: Expr) -> None:
        """Bring the window's rows in."""
        kept = T.Select(row == 0, T.int32(0), T.max(g.reach - g.row_stride, 0))
        if not isa.ring:
            with T.If(kept > 0), T.Then():
                isa.move(scratch, g.row_stride * row_bytes, kept * row_bytes)
        with T.serial(0, g.reach - kept) as new:
            window_row = row * g.row_stride + kept + new
            in_row = window_row - g.top
            to = (T.truncmod(window_row, g.reach) if isa.ring else kept + new) * row_bytes
            with T.If(T.And(in_row >= 0, in_row < g.in_rows)):
                with T.Then():
                    copied(image, block, in_row, to)
                with T.Else():
                    isa.fill(scratch, to, g.padding, row_bytes)

    def images() -> None:
        with T.serial(begin, end) as image, T.serial(0, g.blocks) as block:
            isa.fill(scratch, T.int32(0), g.padding, row_bytes * g.reach)
            with T.serial(0, g.rows) as row:
                lines(image, block, row)
                first = block * isa.channels
                to = (image * g.rows + row) * g.columns * g.step + first
                lanes = T.min(g.outputs - first, isa.channels)
                down = g.row_dilation * row_bytes
                first_row = T.truncmod(row * g.row_stride, g.reach) if isa.ring else T.int32(0)
                isa.row(
                    Work(
                        g, form, scratch, first_row, down, constants, block * g.words, y, to, lanes,
                        parameters, output,
                    )
                )  # fmt: skip

    linked(isa.loops(form), images)


def _blocked(
    operation: Conv2d, width: int
) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
    """Return [blocks, channels, rows, columns] weights, [blocks, channels] biases and multipliers.

    What is beyond the last channel is zero.
    """
    outputs, kernel_rows, kernel_columns, _ = operation.weights.shape
    padded = -(-outputs // width) * width
    weights = np.zeros((padded, kernel_rows, kernel_columns), np.int8)
    weights[:outputs] = operation.weights[..., 0]
    bias, multiplier = np.zeros(padded, np.int32), np.zeros(padded, np.float32)
    bias[:outputs], multiplier[:outputs] = conv2d.folded_bias(operation, 0), operation.multiplier
    shape = -1, width
    return (
        weights.reshape(*shape, kernel_rows, kernel_columns),
        bias.reshape(shape),
        multiplier.reshape(shape),
    )


class DspAny(DspRows):
    """Four channels as planes of int16, of which `smlad` multiplies two neighbours (dilated: or zeros)."""

    ring = False

    def accepts(self, operation: Conv2d) -> bool:
        """As `DspRows`, where a row of the window isn't too much code."""
        return super().accepts(operation) and self.form(operation)[0] <= depthwise_any.MOST_PAIRS

    def form(self, operation: Conv2d) -> tuple[int, ...]:
        """Pairs of taps of a row."""
        return (-(-extent(operation.weights.shape[2], operation.dilations[1]) // 2),)

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """By channel: bias, multiplier, pairs of weights row by row."""
        weights, bias, multiplier = _blocked(operation, self.channels)
        (pairs,), (blocks, width, rows, _) = self.form(operation), weights.shape
        spread = np.zeros((blocks, width, rows, 2 * pairs), "<i2")
        dilation = operation.dilations[1]
        spread[..., : extent(weights.shape[3], dilation) : dilation] = weights
        words = spread.view("<i4").reshape(blocks, width, -1)
        head = np.stack([bias, multiplier.view(np.int32)], axis=-1)
        return np.concatenate([head, words], axis=-1).reshape(blocks, -1)

    def table(self, operation: Conv2d, length: int) -> NDArray[np.int32]:
        """None."""
        del operation, length
        return np.zeros(0, np.int32)

    def loops(self, form: tuple[int, ...]) -> tuple[Assembly, ...]:
        """See `DepthwiseAny.loops`."""
        return (
            dsp.FILL_WORDS,
            dsp.PLANES,
            dsp.PLANES_PIXEL,
            depthwise_any.MOVE,
            depthwise_any.WIDEN_CHANNEL,
            depthwise_any.dsp_row(*form),
        )

    def move(self, rows: Buffer, source: Expr, size: Expr) -> None:
        """See `DepthwiseAny.move`."""
        depthwise_any.MOVE.call(None, address(rows, 0), address(rows, source), size // 8)

    def copy_channel(self, g: Geometry, x: Buffer, source: Expr, ring: Buffer, row: Expr, lane: Expr) -> None:
        """See `DepthwiseAny.copy_channel`."""
        to = address(ring, row + (lane * g.length + g.left) * 2)
        depthwise_any.WIDEN_CHANNEL.call(None, address(x, source), g.channels, to, g.in_columns)

    def row(self, work: Work) -> None:
        """Channel by channel."""
        g = work.geometry
        with T.serial(0, work.lanes) as lane:
            depthwise_any.dsp_row(*work.form).call(
                None, address(work.rows, lane * (g.length * 2)), work.pitch,
                address(work.constants, work.first + lane * T.truncdiv(g.words, self.channels)),
                address(work.y, work.to + lane), g.step, g.columns, g.kernel_rows, g.column_stride * 2,
                work.output.zero_point,
            )  # fmt: skip


class MveAny(MveRows):
    """Eight channels, as they are; a table says where the taps lie."""

    ring = False

    def form(self, operation: Conv2d) -> tuple[int, ...]:
        """Nothing."""
        del operation
        return ()

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """By block: biases of even and of odd channels, weights tap by tap in pairs, multipliers."""
        weights, bias, multiplier = _blocked(operation, self.channels)
        taps = weights[0, 0].size
        padded = np.zeros((len(weights), taps + taps % 2, self.channels), np.int8)
        padded[:, :taps] = weights.reshape(len(weights), self.channels, taps).swapaxes(1, 2)
        words = padded.reshape(len(weights), -1).view("<i4")
        scales = multiplier.view(np.int32)
        return np.concatenate([bias[:, 0::2], bias[:, 1::2], words, scales[:, 0::2], scales[:, 1::2]], axis=1)

    def table(self, operation: Conv2d, length: int) -> NDArray[np.int32]:
        """How many pairs of taps there are, and where each tap lies."""
        (rows, columns), (down, across) = operation.weights.shape[1:3], operation.dilations
        places = [
            (r * down * length + c * across) * self.pixel_bytes for r in range(rows) for c in range(columns)
        ]
        return np.array([-(-len(places) // 2), *places, *[0] * (len(places) % 2)], np.int32)

    def loops(self, form: tuple[int, ...]) -> tuple[Assembly, ...]:
        """See `DepthwiseAny.loops`."""
        del form
        return mve.FILL, mve.COPY, mve.PIXELS, depthwise_any.COPY_CHANNEL, depthwise_any.MVE_ROW

    def move(self, rows: Buffer, source: Expr, size: Expr) -> None:
        """See `DepthwiseAny.move`."""
        one, none = T.int32(1), T.int32(0)
        mve.COPY.call(None, address(rows, source), address(rows, 0), size, one, none, none)

    def copy_channel(self, g: Geometry, x: Buffer, source: Expr, ring: Buffer, row: Expr, lane: Expr) -> None:
        """See `DepthwiseAny.copy_channel`."""
        to = address(ring, row + g.left * self.pixel_bytes + lane)
        depthwise_any.COPY_CHANNEL.call(
            None, address(x, source), g.channels, to, T.int32(self.pixel_bytes), g.in_columns
        )

    def row(self, work: Work) -> None:
        """All channels together."""
        g = work.geometry
        depthwise_any.MVE_ROW.call(
            None, address(work.rows, 0), address(work.parameters, 3 + _FIELDS),
            address(work.constants, work.first), address(work.y, work.to), g.column_stride * self.pixel_bytes,
            g.step, g.columns, address(work.parameters, 0), work.lanes,
        )  # fmt: skip


class ThumbAny(ThumbRows):
    """Four channels, byte by byte, in fixed point."""

    ring = False

    def accepts(self, operation: Conv2d) -> bool:
        """As `ThumbRows`, where a row of the window isn't too much code."""
        columns, dilation, stride = self.form(operation)
        wide = extent(columns, dilation) <= 2 * depthwise_any.MOST_PAIRS >= stride
        return super().accepts(operation) and wide

    def form(self, operation: Conv2d) -> tuple[int, ...]:
        """Taps of a row, pixels from one to the next, and from a window to the next."""
        return int(operation.weights.shape[2]), operation.dilations[1], operation.strides[1]

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """By channel: rows, bias, `thumb.scales`, weights."""
        weights, bias, multiplier = _blocked(operation, self.channels)
        blocks, width, rows, columns = weights.shape
        words = -(-rows * columns // 4)
        padded = np.zeros((blocks, width, words * 4), np.int8)
        padded[..., : rows * columns] = weights.reshape(blocks, width, -1)
        scales = thumb.scales(multiplier.reshape(-1)).reshape(blocks, width, 2)
        head = np.stack([np.full_like(bias, rows), bias, scales[..., 0], scales[..., 1]], axis=-1)
        return np.concatenate([head, padded.view("<i4")], axis=-1).reshape(blocks, -1)

    def table(self, operation: Conv2d, length: int) -> NDArray[np.int32]:
        """None."""
        del operation, length
        return np.zeros(0, np.int32)

    def loops(self, form: tuple[int, ...]) -> tuple[Assembly, ...]:
        """See `DepthwiseAny.loops`."""
        return (
            dsp.FILL_WORDS,
            thumb.PIXELS,
            depthwise_any.MOVE,
            depthwise_any.COPY_CHANNEL,
            depthwise_any.thumb_row(*form),
        )

    def move(self, rows: Buffer, source: Expr, size: Expr) -> None:
        """See `DepthwiseAny.move`."""
        depthwise_any.MOVE.call(None, address(rows, 0), address(rows, source), size // 8)

    def copy_channel(self, g: Geometry, x: Buffer, source: Expr, ring: Buffer, row: Expr, lane: Expr) -> None:
        """See `DepthwiseAny.copy_channel`."""
        to = address(ring, row + g.left * self.pixel_bytes + lane)
        depthwise_any.COPY_CHANNEL.call(
            None, address(x, source), g.channels, to, T.int32(self.pixel_bytes), g.in_columns
        )

    def row(self, work: Work) -> None:
        """Channel by channel."""
        g = work.geometry
        with T.serial(0, work.lanes) as lane:
            depthwise_any.thumb_row(*work.form).call(
                None, address(work.rows, lane), work.pitch,
                address(work.constants, work.first + lane * T.truncdiv(g.words, self.channels)),
                address(work.y, work.to + lane), g.step, g.columns, work.output.zero_point,
            )  # fmt: skip


class PlainAny(ThumbAny):
    """Four channels, in loops for LLVM."""

    name = "plain"
    arch: str | None = None
    features: frozenset[str] = frozenset()
    ring = True

    def accepts(self, operation: Conv2d) -> bool:
        """Any int8 weights, with multipliers of the usual size."""
        return operation.weights.dtype == np.int8 and thumb.holds(operation.multiplier)

    def form(self, operation: Conv2d) -> tuple[int, ...]:
        """Nothing."""
        del operation
        return ()

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """By block: biases, `thumb.scales`, weights tap by tap."""
        weights, bias, multiplier = _blocked(operation, self.channels)
        blocks, width, rows, columns = weights.shape
        taps = np.ascontiguousarray(weights.reshape(blocks, width, rows * columns).swapaxes(1, 2))
        scales = thumb.scales(multiplier.reshape(-1)).reshape(blocks, width * 2)
        return np.concatenate([bias, scales, taps.reshape(blocks, -1).view("<i4")], axis=1)

    def loops(self, form: tuple[int, ...]) -> tuple[Assembly, ...]:
        """None."""
        del form
        return ()

    def fill(self, ring: Buffer, to: Expr, padding: Expr, size: Expr) -> None:
        """See `DepthwiseAny.fill`."""
        with T.serial(0, size) as at:
            tir.store(ring, to + at, T.cast(padding, "int8"))

    def copy(self, g: RowShape, x: Buffer, start: Expr, ring: Buffer, row: Expr) -> None:
        """See `DepthwiseAny.copy`."""
        to = row + g.left * self.pixel_bytes
        with T.serial(0, g.in_columns) as column, T.unroll(0, self.channels) as lane:
            tir.store(
                ring, to + column * self.pixel_bytes + lane, x[start + column * g.in_column_step + lane]
            )

    def copy_channel(self, g: Geometry, x: Buffer, source: Expr, ring: Buffer, row: Expr, lane: Expr) -> None:
        """See `DepthwiseAny.copy_channel`."""
        to = row + g.left * self.pixel_bytes + lane
        with T.serial(0, g.in_columns) as column:
            tir.store(ring, to + column * self.pixel_bytes, x[source + column * g.channels])

    def row(self, work: Work) -> None:
        """All channels together."""
        g, width = work.geometry, self.channels
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
                        sums[lane], work.constants[scale], work.constants[scale + 1], work.output.zero_point
                    )
                    value = T.max(T.min(value, work.output.high), work.output.low)
                    tir.store(work.y, work.to + column * g.step + lane, T.cast(value, "int8"))
