"""Convolution for microcontrollers: one small function for layers of any shape, and little scratch.

A layer's geometry is an argument, not code: layers share their function, so that a model's code stays small.
Two pixels are computed together. Their windows are copied into a panel (im2col of two pixels) in the form
that the instruction set multiplies; then blocks of channels go over it, in a loop written in assembler.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.codegen import extent
from edgec.kernels.codegen.extent import Extent
from edgec.kernels.conv import epilogue
from edgec.kernels.conv.epilogue import Epilogue
from edgec.kernels.isa.assembly import Assembly, linked
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Conv2d, Demands, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization, Target

_ANY = 1 << 28
"""Elements of a buffer whose size is an argument."""


@dataclass(frozen=True)
class ConvParameters:
    """Run-time parameters: int32, in this order behind the epilogue's, but for the first, the extent."""

    extent: Extent
    columns: Expr
    outputs: Expr
    """Channels of a group."""
    step: Expr
    """Bytes from one pixel of the output to the next."""
    length: Expr
    """Length of the reduction, padded."""
    channels: Expr
    in_columns: Expr
    stride_rows: Expr
    stride_columns: Expr
    left: Expr
    kernel_rows: Expr
    kernel_columns: Expr
    segment: Expr
    """Bytes of a row of the window, of one group's channels."""
    pitch: Expr
    """Bytes from one row of the input to the next."""
    padding: Expr
    """The byte that the image is padded with, four times."""
    groups: Expr
    taken: Expr
    """Channels of a group of the input."""
    row_dilation: Expr
    column_dilation: Expr

    @property
    def pixels(self) -> Expr:
        """Pixels of the output, in an image."""
        return self.extent.rows * self.columns

    def corner(self, pixel: Expr) -> tuple[Expr, Expr]:
        """Return row and column of the input where the pixel's window begins; perhaps in the padding."""
        row = T.truncdiv(pixel, self.columns)  # no negative one
        column = pixel - row * self.columns
        return row * self.stride_rows - self.extent.top, column * self.stride_columns - self.left

    def pixel(self, image: Expr, pixel: Expr) -> Expr:
        """Return the first element of an input pixel, of those that are all windows."""
        return (image * self.pixels + pixel) * self.channels

    def start(self, image: Expr, row: Expr, column: Expr) -> Expr:
        """Return the first element of an input pixel."""
        return ((image * self.extent.in_rows + row) * self.in_columns + column) * self.channels


_FIELDS = len(ConvParameters.__dataclass_fields__) - 1


@dataclass(frozen=True)
class Variant:
    """What sets the code of one function apart from another's."""

    dense: bool
    """There is one pixel, and its window is all of the input."""
    pointwise: bool
    """Windows are the pixels of the input, one by one."""
    scattered: bool
    """There are groups or dilation: no two taps of a window need lie beside each other."""
    words: bool
    """A pixel is a whole number of words."""
    ragged: bool
    """The last block of channels isn't full."""
    saturating: bool
    uniform: bool
    """One multiplier, kept once, is that of every channel."""
    residual: bool
    aliased: bool
    """The output may take over an input's buffer."""
    wide: bool = False
    """Multipliers take more than the usual fixed-point form (`thumb.wide`)."""


@dataclass(frozen=True)
class Layer:
    """What a block of code works on."""

    variant: Variant
    geometry: ConvParameters
    ending: Epilogue
    values: Sequence[Expr]
    """The epilogue's parameters."""
    x: Buffer
    other: Buffer | None
    weights: Sequence[Buffer]
    """The instruction set's own constants."""
    parameters: Buffer
    y: Buffer
    scratch: Buffer
    group: Expr
    """Which one is computed; 0 where windows aren't scattered."""

    def blocks_before(self, width: int) -> Expr:
        """Return how many blocks of channels the constants of the groups before have."""
        return self.group * ((self.geometry.outputs + (width - 1)) // width) if self.variant.scattered else 0

    def first_output(self, pixel: Expr) -> Expr:
        """Return where the group's results of a pixel begin."""
        start = pixel * self.geometry.step
        return start + self.group * self.geometry.outputs if self.variant.scattered else start

    def first_other(self, pixel: Expr) -> Expr:
        """Return the same of what is added to them, which lies densely."""
        g = self.geometry
        return (pixel * g.groups + self.group) * g.outputs if self.variant.scattered else pixel * g.outputs


@dataclass(frozen=True)
class Form:
    """What of a `Variant` isn't the instruction set's to say."""

    dense: bool
    pointwise: bool
    scattered: bool
    aliased: bool
    uniform: bool


class McuSet(Protocol):
    """An instruction set as this convolution sees it."""

    name: str
    arch: Arch | None
    requantization: Requantization
    """How sums become int8, in a target's words: `float32` or `fixed-point`."""
    features: frozenset[str]
    step: int
    """What the reduction is padded to a multiple of."""
    dtypes: tuple[str, ...]
    """Types of the constants that `pack` returns."""

    def accepts(self, operation: Conv2d) -> bool:
        """Whether its sums are exact here, and its windows can be gathered."""

    def variant(self, operation: Conv2d, form: "Form") -> Variant:
        """Return the code that the layer takes, of one group."""

    def pack(self, operation: Conv2d, length: int, form: "Form") -> tuple[NDArray[np.generic], ...]:
        """Weights, biases, multipliers: of each channel, or one if the form is `uniform`."""

    def scratch_bytes(self, variant: Variant, outputs: int, length: int) -> int:
        """Return the bytes of the panel, and of what is beside it."""

    def functions(self, variant: Variant) -> tuple[Assembly, ...]:
        """Loops that `gather` and `columns` call."""

    def gather(self, layer: Layer, image: Expr, pixels: Sequence[Expr]) -> None:
        """Write the copying of the pixels' windows into the panel, at the start of the scratch."""

    def columns(self, layer: Layer, pixels: Sequence[Expr]) -> None:
        """Write the loop over output channels; `pixels` are the output's, counted over all images."""


def codes(isa: McuSet, operation: Conv2d, target: Target, demands: Demands = FREE) -> Iterator[KernelCode]:
    """Code of a convolution of any geometry, but for groups of single channels."""
    weights = operation.weights
    del target
    if not weights.size or (operation.groups > 1 and weights.shape[3] == 1) or not isa.accepts(operation):
        return
    dilated = any(d > 1 < k for d, k in zip(operation.dilations, weights.shape[1:3], strict=True))
    scattered = dilated or operation.groups > 1
    images, in_rows, in_columns, _ = operation.input_shape
    kernel, size = weights.shape[1:3], weights[0].size
    contiguous = not any(operation.pads) and not scattered
    dense = contiguous and kernel == (in_rows, in_columns) and size % 4 == 0
    pointwise = contiguous and kernel == operation.strides == (1, 1)
    outputs, pixels = len(weights), int(np.prod(operation.output_shape[1:3]))
    inplace = []
    if demands.runs is None:
        # Pixels are written in order, and each after it was read.
        if (pointwise or dense) and (outputs == size or (images == 1 and outputs < size)):
            inplace.append(0)
        if operation.residual is not None and pixels % 2 == 0:  # an odd last pixel is computed twice
            inplace.append(1)
    groups = list(_groups(operation))
    largest = max(groups, key=lambda group: float(group.multiplier.max()))  # whose results take the most
    form = Form(dense, pointwise and not dense, scattered, bool(inplace), demands.uniform)
    variant = isa.variant(largest, form)
    length = -(-size // isa.step) * isa.step
    yield KernelCode(
        key=f"mcu_conv2d {isa.name} {variant}",
        make=partial(_function, isa, variant),
        constants=(
            *_packed(isa, groups, length, form),
            *_parameters(operation, length, demands)[: 2 - dense],
        ),
        tiles=images,
        scratch_bytes=isa.scratch_bytes(variant, len(groups[0].weights), length),
        inplace=tuple(inplace),
        configuration=f"{1 if dense else 2} pixels",
    )


def _groups(operation: Conv2d) -> Iterator[Conv2d]:
    """Yield the convolution of each group, of whose input and output the others' channels are left out."""
    if operation.groups == 1:
        yield operation
        return
    shape = *operation.input_shape[:3], operation.weights.shape[3]
    width = len(operation.weights) // operation.groups
    for first in range(0, len(operation.weights), width):
        own = slice(first, first + width)
        yield replace(
            operation, input_shape=shape, groups=1, weights=operation.weights[own], bias=operation.bias[own],
            multiplier=operation.multiplier[own],
        )  # fmt: skip


def _packed(isa: McuSet, groups: Sequence[Conv2d], length: int, form: Form) -> Iterator[NDArray[np.generic]]:
    """Yield the instruction set's constants, those of one group after those of another."""
    for parts in zip(*(isa.pack(group, length, form) for group in groups), strict=True):
        yield parts[0] if len(parts) == 1 else np.concatenate(parts)


def _parameters(
    operation: Conv2d, length: int, demands: Demands
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Parameters and extent, which a dense layer needs none of."""
    _, in_rows, in_columns, channels = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    _, kernel_rows, kernel_columns, taken = operation.weights.shape
    geometry = ConvParameters(
        Extent(rows, in_rows, operation.pads[0]), columns, outputs // operation.groups,
        pitch(demands.runs, outputs), length, channels, in_columns,
        *operation.strides, operation.pads[1], kernel_rows, kernel_columns,
        segment=kernel_columns * taken,
        pitch=in_columns * channels,
        padding=int(np.uint32((operation.input_zero_point & 0xFF) * 0x01010101).astype(np.int32)),
        groups=operation.groups,
        taken=taken,
        row_dilation=operation.dilations[0],
        column_dilation=operation.dilations[1],
    )  # fmt: skip
    _, *values = (getattr(geometry, name) for name in ConvParameters.__dataclass_fields__)
    parameters = np.concatenate([epilogue.parameters(operation, 0), np.array(values, np.int32)])
    return parameters, geometry.extent.array


def _function(isa: McuSet, variant: Variant) -> object:
    # What else an epilogue may know isn't worth another function.
    ending = Epilogue(variant.residual, variant.saturating, bounded=False, short=False, unsigned=False)
    return tir.kernel(
        [
            ("int8", _ANY),
            *([("int8", _ANY)] if variant.residual else []),
            *((dtype, _ANY) for dtype in isa.dtypes),
            ("int32", _FIELDS + ending.parameters),
            *([] if variant.dense else [("int32", extent.FIELDS)]),
            ("int8", _ANY),
        ],
        "int8",
        partial(_body, isa, variant, ending),
        noalias=not variant.aliased,
    )


def _body(isa: McuSet, variant: Variant, ending: Epilogue, x: Buffer, *buffers: Any) -> None:
    *others, y, scratch, begin, end = buffers
    other = others.pop(0) if variant.residual else None
    covered = Extent(*map(T.int32, (1, 1, 0)))
    if not variant.dense:
        covered = Extent(*tir.registers(others.pop(), extent.FIELDS))
    parameters = others.pop()
    values = tir.registers(parameters, ending.parameters + _FIELDS)
    geometry = ConvParameters(covered, *values[ending.parameters :])
    values = values[: ending.parameters]

    def pixels(image: Expr, group: Expr, chosen: list[Expr]) -> None:
        layer = Layer(variant, geometry, ending, values, x, other, others, parameters, y, scratch, group)
        isa.gather(layer, image, chosen)
        isa.columns(layer, [image * geometry.pixels + pixel for pixel in chosen])

    def pairs(image: Expr, group: Expr) -> None:
        with T.serial(0, (geometry.pixels + 1) // 2) as pair:
            # An odd last pixel is computed twice.
            pixels(image, group, [pair * 2, T.min(pair * 2 + 1, geometry.pixels - 1)])

    def images() -> None:
        with T.serial(begin, end) as image:
            if variant.dense:
                pixels(image, T.int32(0), [T.int32(0)])
            elif variant.scattered:
                with T.serial(0, geometry.groups) as group:
                    pairs(image, group)
            else:
                pairs(image, T.int32(0))

    linked(isa.functions(variant), images)


@dataclass(frozen=True)
class Window:
    """The part of a pixel's window that lies in the image; what is left of it is padding."""

    whole: Expr
    """Whether all of it does."""
    some: Expr
    """Whether any of it does."""
    source: Expr
    """First element, in the input."""
    rows: Expr
    size: Expr
    """Bytes of a row."""
    offset: Expr
    """Bytes of the whole window before that first element."""


def window(g: ConvParameters, image: Expr, pixel: Expr) -> Window:
    """Return where the pixel's window, which isn't dilated, lies."""
    row, column = g.corner(pixel)
    above, before = T.max(T.int32(0) - row, 0), T.max(T.int32(0) - column, 0)
    rows = T.min(g.kernel_rows, g.extent.in_rows - row) - above
    columns = T.min(g.kernel_columns, g.in_columns - column) - before
    return Window(
        whole=T.And(rows == g.kernel_rows, columns == g.kernel_columns),
        some=T.And(rows > 0, columns > 0),
        source=g.start(image, row + above, column + before),
        rows=rows,
        size=columns * g.channels,
        offset=(above * g.kernel_columns + before) * g.channels,
    )


def scattered(
    layer: Layer, image: Expr, pixel: Expr, copy: Callable[[Expr, Expr, Expr, Expr, Expr], None]
) -> None:
    """Write the gathering of a window whose taps lie apart, as far as they lie in the image.

    copy(source, offset, taps, size, step) is to copy `taps` times `size` adjacent bytes of the input from
    `source`, `step` bytes from one to the next, one after another to that offset in the window.
    """
    g = layer.geometry
    row, column = g.corner(pixel)
    dilation = g.column_dilation
    before = T.truncdiv(T.max(T.int32(0) - column, 0) + dilation - 1, dilation)  # taps that are padding
    behind = T.min(T.truncdiv(T.max(g.in_columns - column, 0) + dilation - 1, dilation), g.kernel_columns)
    with T.If(before < behind), T.Then(), T.serial(0, g.kernel_rows) as r:
        in_row = row + r * g.row_dilation
        with T.If(T.And(in_row >= 0, in_row < g.extent.in_rows)), T.Then():
            source = g.start(image, in_row, column + before * dilation) + layer.group * g.taken
            to = (r * g.kernel_columns + before) * g.taken
            copy(source, to, behind - before, g.taken, g.channels * dilation)
