"""3x3 depthwise convolution for microcontrollers: a few channels at a time, over a ring of three rows.

A layer's geometry is an argument, not code. The ring holds what the window sees of some channels in the form
that the instruction set multiplies; each row of the input is copied into it once. The output may take over
the input's buffer: no row is written before all that needs it was read. Rows are the image's columns where
those are the longer ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.codegen import extent
from edgec.kernels.codegen.extent import Extent
from edgec.kernels.conv import epilogue
from edgec.kernels.isa.assembly import Assembly, linked
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Conv2d, Demands, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization, Target

_ANY = 1 << 28
"""Elements of a buffer whose size is an argument."""
_WINDOW = 3
Form = tuple[Any, ...]
"""What of a layer is code, not an argument."""


@dataclass(frozen=True)
class DepthwiseParameters:
    """Run-time parameters: int32, in this order behind low, high, zero point, but for the first, the extent.

    A row is what the loops go along.
    """

    extent: Extent
    padding: Expr
    """The byte outside of the image, as the ring holds it, in a whole word."""
    blocks: Expr
    """Blocks of channels."""
    columns: Expr
    """Columns of the output; the next two are of the output, too."""
    row_step: Expr
    """Bytes from one row to the next."""
    column_step: Expr
    in_columns: Expr
    in_row_step: Expr
    in_column_step: Expr
    row_stride: Expr
    column_stride: Expr
    left: Expr
    length: Expr
    """Length of a row in the ring, in pixels, padding included."""
    in_bytes: Expr
    """Bytes of an input image; the next are those of an output image."""
    bytes: Expr


class RowShape(Protocol):
    """What the copying of a row needs to know of the geometry."""

    @property
    def length(self) -> Expr:
        """Length of a row in the ring, in pixels."""

    @property
    def left(self) -> Expr:
        """Pixels of padding in front."""

    @property
    def in_columns(self) -> Expr:
        """Pixels of the input."""

    @property
    def in_column_step(self) -> Expr:
        """Bytes from one of them to the next."""


_FIELDS = len(DepthwiseParameters.__dataclass_fields__) - 1


class DepthwiseRows(Protocol):
    """An instruction set as this convolution sees it."""

    name: str
    arch: Arch | None
    requantization: Requantization
    """How sums become int8, in a target's words: `float32` or `fixed-point`."""
    features: frozenset[str]
    channels: int
    """Channels of a block."""
    pixel_bytes: int
    """Bytes of a block's pixel in the ring."""
    constant_words: int
    """Words of a block's constants."""

    def accepts(self, operation: Conv2d) -> bool:
        """Whether its sums and results are exact here."""

    def pack(self, operation: Conv2d, weights: NDArray[np.generic]) -> NDArray[np.int32]:
        """[channels, 3, 3] weights, biases and multipliers, block by block."""

    def padding(self, zero_point: int) -> int:
        """Return the word that the ring is filled with."""

    def form(self, operation: Conv2d) -> Form:
        """Return what of the layer is code."""

    def loops(self, form: Form) -> tuple[Assembly, ...]:
        """Loops that the next three call."""

    def fill(self, ring: Buffer, to: Expr, padding: Expr, size: Expr) -> None:
        """Write the filling of `size` bytes from `to` on."""

    def copy(self, g: DepthwiseParameters, x: Buffer, start: Expr, ring: Buffer, row: Expr) -> None:
        """Write the copying of a row of the input from `start` to the ring's row that begins at `row`."""

    def outputs(
        self, g: DepthwiseParameters, form: Form, ring: Buffer, rows: Sequence[Expr], constants: Buffer,
        first: Expr, y: Buffer, to: Expr, parameters: Buffer, zero_point: Expr,
    ) -> None:  # fmt: skip
        """Write the computation of a row of outputs of a block."""


def codes(
    isa: DepthwiseRows, operation: Conv2d, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Code of a 3x3 depthwise convolution, requantized as the instruction set does it."""
    channels = operation.input_shape[3]
    _, rows, columns, _ = operation.output_shape
    del target
    if operation.groups != channels or len(operation.weights) != channels or channels % isa.channels:
        return
    if operation.weights.shape[1:] != (_WINDOW, _WINDOW, 1) or operation.residual is not None:
        return
    if operation.dilations != (1, 1) or operation.strides not in ((1, 1), (2, 2)):
        return
    if not isa.accepts(operation):
        return
    if rows > columns and operation.strides == (1, 1):
        yield _code(isa, operation, demands, turned=True)
    yield _code(isa, operation, demands, turned=False)


def _code(isa: DepthwiseRows, operation: Conv2d, demands: Demands, turned: bool) -> KernelCode:
    images, form = operation.input_shape[0], isa.form(operation)
    same = operation.input_shape == operation.output_shape
    # Outputs lie in front of the inputs that they are made of, row by row.
    behind = same or (images == 1 and not turned and _behind(operation))
    inplace = (0,) if behind and demands.runs is None else ()
    weights = operation.weights[..., 0]
    parameters, length = _parameters(isa, operation, demands, turned)
    return KernelCode(
        key=f"mcu_depthwise {isa.name} {form} {bool(inplace)}",
        make=partial(_function, isa, form, bool(inplace)),
        constants=(isa.pack(operation, weights.swapaxes(1, 2) if turned else weights), *parameters),
        tiles=images,
        scratch_bytes=_WINDOW * length * isa.pixel_bytes,
        inplace=inplace,
        configuration="along columns" if turned else "along rows",
    )


def _behind(operation: Conv2d) -> bool:
    """Whether every row of outputs ends before the first row that is still to be read."""
    _, in_rows, in_columns, _ = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    read = [min(in_rows, row * operation.strides[0] + _WINDOW - operation.pads[0]) for row in range(rows)]
    return all((row + 1) * columns <= count * in_columns for row, count in enumerate(read))


def _parameters(
    isa: DepthwiseRows, operation: Conv2d, demands: Demands, turned: bool
) -> tuple[tuple[NDArray[np.int32], ...], int]:
    """Parameters and extent, and the length of a row in the ring."""
    _, in_rows, in_columns, channels = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    stride, (top, left) = operation.strides[0], operation.pads[:2]
    if turned:
        in_rows, in_columns, rows, columns, top, left = in_columns, in_rows, columns, rows, left, top
    # The window of the last pair of outputs; even, so that rows of int16 begin at words.
    length = -(-max(columns * stride + _WINDOW, left + in_columns) // 2) * 2
    step = pitch(demands.runs, channels)
    steps = [(columns * step, step), (in_columns * channels, channels)]
    if turned:
        steps = [(step, rows * step), (channels, in_rows * channels)]
    geometry = DepthwiseParameters(
        Extent(rows, in_rows, top), isa.padding(operation.input_zero_point), channels // isa.channels,
        columns, *steps[0], in_columns, *steps[1], stride, stride, left, length,
        in_rows * in_columns * channels, rows * columns * step,
    )  # fmt: skip
    _, *values = (getattr(geometry, name) for name in DepthwiseParameters.__dataclass_fields__)
    parameters = np.concatenate([epilogue.parameters(operation, 0)[:3], np.array(values, np.int32)])
    return (parameters, geometry.extent.array), length


def _function(isa: DepthwiseRows, form: Form, aliased: bool) -> object:
    return tir.kernel(
        [
            ("int8", _ANY),
            ("int32", _ANY),
            ("int32", 3 + _FIELDS),
            ("int32", extent.FIELDS),
            ("int8", _ANY),
        ],
        "int8",
        partial(_body, isa, form),
        noalias=not aliased,
    )


def _body(
    isa: DepthwiseRows, form: Form, x: Buffer, constants: Buffer, parameters: Buffer,
    covered: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr,
) -> None:  # fmt: skip
    values = tir.registers(parameters, 3 + _FIELDS)
    whole = Extent(*tir.registers(covered, extent.FIELDS))
    g, zero_point = DepthwiseParameters(whole, *values[3:]), values[2]
    row_bytes = g.length * isa.pixel_bytes

    def image(index: Expr) -> None:
        with T.serial(0, g.blocks) as block:
            isa.fill(scratch, T.int32(0), g.padding, row_bytes * _WINDOW)
            with T.serial(0, whole.rows) as row:
                new = T.Select(row == 0, T.int32(_WINDOW), g.row_stride)
                with T.serial(0, new) as i:
                    window_row = row * g.row_stride + (_WINDOW - new) + i
                    in_row, to = window_row - whole.top, window_row % _WINDOW * row_bytes
                    with T.If(T.And(in_row >= 0, in_row < whole.in_rows)):
                        with T.Then():
                            start = index * g.in_bytes + in_row * g.in_row_step + block * isa.channels
                            isa.copy(g, x, start, scratch, to)
                        with T.Else():
                            isa.fill(scratch, to, g.padding, row_bytes)
                rows = [(row * g.row_stride + i) % _WINDOW * row_bytes for i in range(_WINDOW)]
                to = index * g.bytes + row * g.row_step + block * isa.channels
                first = block * isa.constant_words
                isa.outputs(g, form, scratch, rows, constants, first, y, to, parameters, zero_point)

    def images() -> None:
        with T.serial(begin, end) as index:
            image(index)

    linked(isa.loops(form), images)
