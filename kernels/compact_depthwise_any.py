"""Depthwise convolution of any window for microcontrollers: any size, stride, dilation, outputs per channel.

A few channels at a time, as in `compact_depthwise`, but the rows that a window sees lie one after another
and move up as it goes down: then loops need no more than a pitch, whatever the window. What moves is a row or
two of a few channels; the products of an output are many more.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import conv2d, epilogue, tir
from edgec.kernels.compact_depthwise import DspRows, Form, MveRows, RowShape, ThumbRows
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
    """Run-time parameters: int32, in this order, behind low, high, zero point.

    Rows are the columns of an image that is turned, the only one then.
    """

    padding: Expr
    """The byte outside of the image, as the window's rows hold it, in a whole word."""
    blocks: Expr
    """Of output channels."""
    outputs: Expr
    """Channels."""
    per_channel: Expr
    """Outputs of a channel."""
    rows: Expr
    """Of the output, as are the next three."""
    columns: Expr
    row_step: Expr
    """Bytes from one row to the next."""
    column_step: Expr
    in_rows: Expr
    in_columns: Expr
    in_row_step: Expr
    in_column_step: Expr
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
    mover: Assembly | None
    """Moves so many times eight bytes up; None where rows are a ring, and stay."""

    def accepts(self, operation: Conv2d) -> bool:
        """Whether its sums and results are exact here."""

    def form(self, operation: Conv2d) -> Form:
        """Return what of the layer is code."""

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """Weights, biases and multipliers: [blocks, words]."""

    def padding(self, zero_point: int) -> int:
        """Return the word that rows are filled with."""

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """Loops that the next ones call."""

    def fill(self, ring: Buffer, to: Expr, padding: Expr, size: Expr) -> None:
        """Write the filling of `size` bytes from `to` on."""

    def copy(self, g: RowShape, x: Buffer, start: Expr, ring: Buffer, row: Expr) -> None:
        """Write the copying of a row of the input, of adjacent channels, to the row that begins at `row`."""

    def copy_apart(self, work: "Work", x: Buffer, start: Expr, row: Expr) -> None:
        """Write the same for outputs whose channels aren't adjacent; `start` is the input's first channel."""

    def row(self, work: "Work") -> None:
        """Write the computation of a row of outputs of a block."""


@dataclass(frozen=True)
class Work:
    """A row of outputs of a block of channels."""

    geometry: Geometry
    form: Form
    rows: Buffer
    """Of the window."""
    first_row: Expr
    """Of the window, among the rows: 0 unless they are a ring."""
    block: Expr
    constants: Buffer
    y: Buffer
    to: Expr
    """The first output."""
    lanes: Expr
    """Channels that there are, of the block."""
    parameters: Buffer
    output: Output

    @property
    def pitch(self) -> Expr:
        """Pixels from one row of the window to its next."""
        return self.geometry.row_dilation * self.geometry.length

    @property
    def first(self) -> Expr:
        """The block's first word among the constants."""
        return self.block * self.geometry.words

    def channel(self, output: Expr) -> Expr:
        """Return the input's channel that an output channel is made of, or the last one's."""
        return T.truncdiv(T.min(output, self.geometry.outputs - 1), self.geometry.per_channel)


def codes(isa: DepthwiseAny, operation: Conv2d, target: Target) -> Iterator[KernelCode]:
    """Code of a depthwise convolution, with several outputs per channel or one."""
    del target
    channels = operation.input_shape[3]
    if operation.groups != channels or channels == 1 or operation.residual is not None:
        return
    if not operation.weights.size:
        return
    images, rows, columns, _ = operation.output_shape
    ways = (False, True) if images == 1 and isa.mover else (False,)
    codes = [_code(isa, operation, turned) for turned in ways if isa.accepts(_seen(operation, turned))]
    # Fewer and longer rows are less to move up; working in place is worth more.
    if rows > columns and len({code.inplace for code in codes}) == 1:
        codes.reverse()
    yield from codes


def _seen(operation: Conv2d, turned: bool) -> Conv2d:
    """Return the operation, with rows and columns exchanged if it is turned."""
    if not turned:
        return operation
    images, in_rows, in_columns, channels = operation.input_shape
    top, left, bottom, right = operation.pads
    return replace(
        operation, input_shape=(images, in_columns, in_rows, channels),
        weights=operation.weights.swapaxes(1, 2), strides=operation.strides[::-1],
        pads=(left, top, right, bottom), dilations=operation.dilations[::-1],
    )  # fmt: skip


def _code(isa: DepthwiseAny, operation: Conv2d, turned: bool) -> KernelCode:
    seen = _seen(operation, turned)
    images, _, _, channels = operation.input_shape
    outputs = len(operation.weights)
    same = operation.input_shape == operation.output_shape
    behind = outputs == channels and (same or not turned) and _behind(seen)
    inplace = (0,) if behind and operation.runs is None else ()
    apart, form = _apart(isa, operation), isa.form(seen)
    parameters, scratch_bytes = _parameters(isa, seen, turned)
    return KernelCode(
        key=f"compact_depthwise_any {isa.name} {form} {apart} {bool(inplace)}",
        make=partial(_function, isa, form, apart, bool(inplace)),
        constants=(isa.constants(seen).reshape(-1), parameters),
        tiles=images,
        scratch_bytes=scratch_bytes,
        inplace=inplace,
        configuration="along columns" if turned else "along rows",
    )


def _apart(isa: DepthwiseAny, operation: Conv2d) -> bool:
    """Whether a block's outputs aren't of as many adjacent channels."""
    outputs = len(operation.weights)
    return outputs != operation.input_shape[3] or outputs % isa.channels > 0


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


def _parameters(isa: DepthwiseAny, operation: Conv2d, turned: bool) -> tuple[NDArray[np.int32], int]:
    """Parameters, and bytes of the window's rows; `operation` is turned already, if so."""
    _, in_rows, in_columns, channels = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    _, kernel_rows, kernel_columns, _ = operation.weights.shape
    (stride, column_stride), (top, left) = operation.strides, operation.pads[:2]
    row_dilation, column_dilation = operation.dilations
    reach, wide = extent(kernel_rows, row_dilation), extent(kernel_columns, column_dilation)
    # Up to the window of an odd last pair of outputs, of an even number of taps; and even, for rows of words.
    length = -(-max(columns * column_stride + wide + 1, left + in_columns) // 2) * 2
    blocks, step = -(-outputs // isa.channels), pitch(operation.runs, outputs)
    geometry = Geometry(
        isa.padding(operation.input_zero_point), blocks, outputs, outputs // channels,
        rows, columns, *_steps(rows, columns, step, turned),
        in_rows, in_columns, *_steps(in_rows, in_columns, channels, turned),
        stride, column_stride, top, left, kernel_rows, row_dilation, reach,
        length, kernel_columns, column_dilation, isa.constants(operation).size // blocks,
    )  # fmt: skip
    values = [getattr(geometry, name) for name in Geometry.__dataclass_fields__]
    own = epilogue.parameters(operation, 0)[:3]
    return np.concatenate([own, np.array(values, np.int32)]), reach * length * isa.pixel_bytes


def _steps(rows: int, columns: int, step: int, turned: bool) -> tuple[int, int]:
    """Bytes from one row to the next, and from one column, of an image that may be turned."""
    return (step, rows * step) if turned else (columns * step, step)


def _function(isa: DepthwiseAny, form: Form, apart: bool, aliased: bool) -> object:
    return tir.kernel(
        [("int8", _ANY), ("int32", _ANY), ("int32", 3 + _FIELDS), ("int8", _ANY)],
        "int8",
        partial(_body, isa, form, apart),
        noalias=not aliased,
    )


def _body(
    isa: DepthwiseAny, form: Form, apart: bool, x: Buffer, constants: Buffer,
    parameters: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr,
) -> None:  # fmt: skip
    low, high, zero_point, *values = tir.registers(parameters, 3 + _FIELDS)
    g = Geometry(*values)
    output = Output(low, high, zero_point, bounded=False, short=False)
    row_bytes = g.length * isa.pixel_bytes
    row_step, in_row_step = g.row_step, g.in_row_step
    if isa.mover is None:  # which turns no image: two numbers less to keep
        row_step, in_row_step = g.columns * g.column_step, g.in_columns * g.in_column_step

    def lines(work: Work, image: Expr, row: Expr) -> None:
        """Bring the window's rows in."""
        # A product: of a choice LLVM would make two loops.
        kept = T.max(g.reach - g.row_stride, 0) * T.cast(row > 0, "int32")
        if isa.mover:
            with T.If(kept > 0), T.Then():
                source = address(scratch, g.row_stride * row_bytes)
                isa.mover.call(None, address(scratch, 0), source, kept * row_bytes // 8)
        with T.serial(0, g.reach - kept) as new:
            window_row = row * g.row_stride + kept + new
            in_row = window_row - g.top
            to = (kept + new if isa.mover else T.truncmod(window_row, g.reach)) * row_bytes
            with T.If(T.And(in_row >= 0, in_row < g.in_rows)):
                with T.Then():
                    start = (image * g.in_rows + in_row) * in_row_step
                    if apart:
                        isa.copy_apart(work, x, start, to)
                    else:
                        isa.copy(g, x, start + work.block * isa.channels, scratch, to)
                with T.Else():
                    isa.fill(scratch, to, g.padding, row_bytes)

    def images() -> None:
        with T.serial(begin, end) as image, T.serial(0, g.blocks) as block:
            isa.fill(scratch, T.int32(0), g.padding, row_bytes * g.reach)
            first = block * isa.channels
            lanes = T.min(g.outputs - first, isa.channels)
            with T.serial(0, g.rows) as row:
                to = (image * g.rows + row) * row_step + first
                first_row = T.int32(0) if isa.mover else T.truncmod(row * g.row_stride, g.reach)
                work = Work(
                    g, form, scratch, first_row, block, constants, y, to, lanes, parameters, output
                )  # fmt: skip
                lines(work, image, row)
                isa.row(work)

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

    mover: Assembly | None = depthwise_any.MOVE

    def accepts(self, operation: Conv2d) -> bool:
        """As `DspRows`, where a row of the window isn't too much code."""
        return super().accepts(operation) and _pairs(operation) <= depthwise_any.MOST_PAIRS

    def form(self, operation: Conv2d) -> Form:
        """Return pairs of taps of a row, and whether results have no bounds but int8's own."""
        return _pairs(operation), operation.saturating

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """By channel: bias, multiplier, pairs of weights row by row."""
        weights, bias, multiplier = _blocked(operation, self.channels)
        blocks, width, rows, _ = weights.shape
        spread = np.zeros((blocks, width, rows, 2 * _pairs(operation)), "<i2")
        dilation = operation.dilations[1]
        spread[..., : extent(weights.shape[3], dilation) : dilation] = weights
        words = spread.view("<i4").reshape(blocks, width, -1)
        head = np.stack([bias, multiplier.view(np.int32)], axis=-1)
        return np.concatenate([head, words], axis=-1).reshape(blocks, -1)

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """See `DepthwiseAny.loops`."""
        return (
            dsp.FILL_WORDS,
            dsp.PLANES,
            dsp.PLANES_PIXEL,
            depthwise_any.MOVE,
            depthwise_any.WIDEN_CHANNEL,
            depthwise_any.dsp_row(*form),
        )

    def copy_apart(self, work: Work, x: Buffer, start: Expr, row: Expr) -> None:
        """Plane by plane."""
        g = work.geometry
        with T.serial(0, self.channels) as lane:
            source = start + work.channel(work.block * self.channels + lane)
            to = address(work.rows, row + (lane * g.length + g.left) * 2)
            depthwise_any.WIDEN_CHANNEL.call(None, address(x, source), g.in_column_step, to, g.in_columns)

    def row(self, work: Work) -> None:
        """Channel by channel."""
        g, (_, saturating) = work.geometry, work.form
        with T.serial(0, work.lanes) as lane:
            depthwise_any.dsp_row(*work.form).call(
                None, address(work.rows, lane * (g.length * 2)), work.pitch * self.pixel_bytes,
                address(work.constants, work.first + lane * T.truncdiv(g.words, self.channels)),
                address(work.y, work.to + lane), g.column_step, g.columns, g.kernel_rows, g.column_stride * 2,
                work.output.zero_point if saturating else address(work.parameters, 0),
            )  # fmt: skip


def _pairs(operation: Conv2d) -> int:
    """Of taps in a row of the window, those between them included."""
    return -(-extent(operation.weights.shape[2], operation.dilations[1]) // 2)


def _row(operation: Conv2d) -> tuple[int, int, int]:
    """Taps of a row of the window, pixels from one to the next, and from a window to the next."""
    return int(operation.weights.shape[2]), operation.dilations[1], operation.strides[1]


class MveAny(MveRows):
    """Eight channels, as they are."""

    mover: Assembly | None = depthwise_any.MVE_MOVE

    def accepts(self, operation: Conv2d) -> bool:
        """As `MveRows`, where a row of the window isn't too much code, and the sums hold its products."""
        rows, (columns, dilation, stride) = operation.weights.shape[1], _row(operation)
        held = columns <= depthwise_any.MOST_TAPS and rows * -(-columns // 2) <= depthwise_any.MOST_GROUPS
        reached = extent(columns, dilation) + stride <= depthwise_any.MOST_PIXELS
        return super().accepts(operation) and held and reached

    def form(self, operation: Conv2d) -> Form:
        """Return what a row of the window is, if bounds are int8's own, and if a block isn't full."""
        return *_row(operation), operation.saturating, len(operation.weights) % self.channels > 0

    def constants(self, operation: Conv2d) -> NDArray[np.int32]:
        """See `depthwise_any.mve_constants`.

        Behind them, where channels aren't adjacent, one byte for each output: which channel of the input it
        is made of, counted from the first output's.
        """
        weights, bias, multiplier = _blocked(operation, self.channels)
        own = depthwise_any.mve_constants(weights.reshape(*bias.shape, -1), bias, multiplier)
        if not _apart(self, operation):
            return own
        outputs = len(operation.weights)
        channels = np.arange(bias.size).clip(None, outputs - 1) * operation.groups // outputs
        offsets = (channels.reshape(bias.shape) - channels.reshape(bias.shape)[:, :1]).astype(np.int8)
        return np.concatenate([own, offsets.view("<i4")], axis=1)

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """See `DepthwiseAny.loops`."""
        own = depthwise_any.MVE_MOVE, depthwise_any.MVE_GATHER, depthwise_any.mve_row(*form)
        return mve.FILL, mve.PIXELS, *own

    def copy_apart(self, work: Work, x: Buffer, start: Expr, row: Expr) -> None:
        """All channels together."""
        g = work.geometry
        source = start + work.channel(work.block * self.channels)
        offsets = address(work.constants, work.first + g.words - self.channels // 4)
        to = address(work.rows, row + g.left * self.pixel_bytes)
        depthwise_any.MVE_GATHER.call(None, address(x, source), g.in_column_step, to, g.in_columns, offsets)

    def row(self, work: Work) -> None:
        """All channels together."""
        g = work.geometry
        depthwise_any.mve_row(*work.form).call(
            None, address(work.rows, 0), work.pitch * self.pixel_bytes, address(work.constants, work.first),
            address(work.y, work.to), g.column_step, g.columns, g.kernel_rows, address(work.parameters, 0),
            work.lanes,
        )  # fmt: skip


class ThumbAny(ThumbRows):
    """Four channels, byte by byte, in fixed point."""

    mover: Assembly | None = depthwise_any.MOVE

    def accepts(self, operation: Conv2d) -> bool:
        """As `ThumbRows`, where a row of the window isn't too much code."""
        columns, dilation, stride = _row(operation)
        wide = extent(columns, dilation) <= 2 * depthwise_any.MOST_PAIRS >= stride
        return super().accepts(operation) and wide

    def form(self, operation: Conv2d) -> Form:
        """Return that, and what results need."""
        return *_row(operation), thumb.ending(operation)

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

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """See `DepthwiseAny.loops`."""
        return (
            dsp.FILL_WORDS,
            thumb.PIXELS,
            depthwise_any.MOVE,
            depthwise_any.COPY_CHANNEL,
            depthwise_any.thumb_row(*form),
        )

    def copy_apart(self, work: Work, x: Buffer, start: Expr, row: Expr) -> None:
        """Channel by channel."""
        g, count = work.geometry, self.channels
        with T.serial(0, count) as lane:
            source = address(x, start + work.channel(work.block * count + lane))
            to = address(work.rows, row + g.left * count + lane)
            depthwise_any.COPY_CHANNEL.call(None, source, g.in_column_step, to, T.int32(count), g.in_columns)

    def row(self, work: Work) -> None:
        """Channel by channel."""
        g, (*_, ending) = work.geometry, work.form
        with T.serial(0, work.lanes) as lane:
            depthwise_any.thumb_row(*work.form).call(
                None, address(work.rows, lane), work.pitch * self.pixel_bytes,
                address(work.constants, work.first + lane * T.truncdiv(g.words, self.channels)),
                address(work.y, work.to + lane), g.column_step, g.columns,
                address(work.parameters, 0) if ending.clipped else work.output.zero_point,
            )  # fmt: skip


class PlainAny(ThumbAny):
    """Four channels, in loops for LLVM."""

    name = "plain"
    arch: str | None = None
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
        weights, bias, multiplier = _blocked(operation, self.channels)
        blocks, width, rows, columns = weights.shape
        taps = np.ascontiguousarray(weights.reshape(blocks, width, rows * columns).swapaxes(1, 2))
        scales = thumb.scales(multiplier.reshape(-1)).reshape(blocks, width * 2)
        return np.concatenate([bias, scales, taps.reshape(blocks, -1).view("<i4")], axis=1)

    def loops(self, form: Form) -> tuple[Assembly, ...]:
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
