"""Depthwise convolution of any window for microcontrollers: any size, stride, dilation, outputs per channel.

A few channels at a time, as in `depthwise.py`, but the rows that a window sees lie one after another
and move up as it goes down: then loops need no more than a pitch, whatever the window. What moves is a row or
two of a few channels; the products of an output are many more.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.conv import conv2d, epilogue
from edgec.kernels.conv.mcu.depthwise import Form, RowShape
from edgec.kernels.isa.assembly import Assembly, address, linked
from edgec.kernels.isa.base import Output
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Conv2d, Demands, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization, Target

_ANY = 1 << 28
"""Elements of a buffer whose size is an argument."""


@dataclass(frozen=True)
class WindowParameters:
    """Run-time parameters: int32, in this order, behind low, high, zero point.

    Rows are the columns of an image that is turned, the only one then.
    """

    padding: Expr
    """The byte outside of the image, as the window's rows hold it, in a whole word."""
    blocks: Expr
    """Blocks of output channels."""
    outputs: Expr
    """Channels."""
    per_channel: Expr
    """Outputs of a channel."""
    rows: Expr
    """Rows of the output; the next three are of the output, too."""
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
    """Length of such a row, in pixels, padding included."""
    kernel_columns: Expr
    column_dilation: Expr
    words: Expr
    """Words of a block's constants."""


_FIELDS = len(WindowParameters.__dataclass_fields__)


class DepthwiseAny(Protocol):
    """An instruction set as this convolution sees it."""

    name: str
    arch: Arch | None
    requantization: Requantization
    """How sums become int8, in a target's words: `float32` or `fixed-point`."""
    features: frozenset[str]
    channels: int
    """Channels of a block."""
    pixel_bytes: int
    """Bytes of a block's pixel in a row."""
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

    geometry: WindowParameters
    form: Form
    rows: Buffer
    """The rows that the window sees."""
    first_row: Expr
    """The window's first row among them: 0 unless they are a ring."""
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


def codes(
    isa: DepthwiseAny, operation: Conv2d, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Code of a depthwise convolution, with several outputs per channel or one."""
    del target
    channels = operation.input_shape[3]
    if operation.groups != channels or channels == 1 or operation.residual is not None:
        return
    if not operation.weights.size:
        return
    images, rows, columns, _ = operation.output_shape
    ways = (False, True) if images == 1 and isa.mover else (False,)
    codes = [
        _code(isa, operation, demands, turned) for turned in ways if isa.accepts(_seen(operation, turned))
    ]
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


def _code(isa: DepthwiseAny, operation: Conv2d, demands: Demands, turned: bool) -> KernelCode:
    seen = _seen(operation, turned)
    images, _, _, channels = operation.input_shape
    outputs = len(operation.weights)
    same = operation.input_shape == operation.output_shape
    behind = outputs == channels and (same or not turned) and _behind(seen)
    inplace = (0,) if behind and demands.runs is None else ()
    apart, form = is_apart(isa, operation), isa.form(seen)
    parameters, scratch_bytes = _parameters(isa, seen, demands, turned)
    return KernelCode(
        key=f"mcu_depthwise_any {isa.name} {form} {apart} {bool(inplace)}",
        make=partial(_function, isa, form, apart, bool(inplace)),
        constants=(isa.constants(seen).reshape(-1), parameters),
        tiles=images,
        scratch_bytes=scratch_bytes,
        inplace=inplace,
        configuration="along columns" if turned else "along rows",
    )


def is_apart(isa: DepthwiseAny, operation: Conv2d) -> bool:
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


def _parameters(
    isa: DepthwiseAny, operation: Conv2d, demands: Demands, turned: bool
) -> tuple[NDArray[np.int32], int]:
    """Parameters, and bytes of the window's rows; `operation` is turned already, if so."""
    _, in_rows, in_columns, channels = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    _, kernel_rows, kernel_columns, _ = operation.weights.shape
    (stride, column_stride), (top, left) = operation.strides, operation.pads[:2]
    row_dilation, column_dilation = operation.dilations
    reach, wide = extent(kernel_rows, row_dilation), extent(kernel_columns, column_dilation)
    # Up to the window of an odd last pair of outputs, of an even number of taps; and even, for rows of words.
    length = -(-max(columns * column_stride + wide + 1, left + in_columns) // 2) * 2
    blocks, step = -(-outputs // isa.channels), pitch(demands.runs, outputs)
    geometry = WindowParameters(
        isa.padding(operation.input_zero_point), blocks, outputs, outputs // channels,
        rows, columns, *_steps(rows, columns, step, turned),
        in_rows, in_columns, *_steps(in_rows, in_columns, channels, turned),
        stride, column_stride, top, left, kernel_rows, row_dilation, reach,
        length, kernel_columns, column_dilation, isa.constants(operation).size // blocks,
    )  # fmt: skip
    values = [getattr(geometry, name) for name in WindowParameters.__dataclass_fields__]
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
    g = WindowParameters(*values)
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


def blocked(operation: Conv2d, width: int) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
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


def taps_of_row(operation: Conv2d) -> tuple[int, int, int]:
    """Taps of a row of the window, pixels from one to the next, and from a window to the next."""
    return int(operation.weights.shape[2]), operation.dilations[1], operation.strides[1]
