"""Depthwise convolution in float32: read in place, vectors of channels, adjacent pixels sharing loads.

Nothing is converted, so nothing need be copied: rows of the window that lie in the padding shorten the loop
over rows, columns that do are left out of the code of the first and last pixels of a row.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgec.kernels import tir
from edgec.kernels.isa.fma import FloatSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, FloatConv2d, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# (adjacent pixels, vectors of channels) computed together, the most likely first.
_TILES = {32: ((8, 2), (4, 2), (8, 1), (4, 4)), 16: ((4, 2), (8, 1), (6, 1), (4, 1))}
# Tiles that a layer is cut into at least, where it can be, so that threads share them out evenly.
_WANTED_TILES = 8


Taps = tuple[int, ...]
"""Columns of a window."""


@dataclass(frozen=True)
class _Shape:
    """All that decides the code."""

    image: tuple[int, int, int]
    """Rows, columns, channels."""
    rows: int
    columns: int
    images: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    dilations: tuple[int, int]
    tile_rows: int
    pixels: int
    vectors: int
    low: float
    high: float
    pitch: int
    """Elements of the result from one pixel to the next."""

    @property
    def bands(self) -> int:
        """Tiles of an image."""
        return -(-self.rows // self.tile_rows)

    def inside(self, column: int) -> Taps:
        """Columns of the window that lie in the image for the pixel at `column` of a row."""
        first = column * self.strides[1] - self.pads[1]
        taps = range(self.kernel[1])
        return tuple(tap for tap in taps if 0 <= first + tap * self.dilations[1] < self.image[1])


def codes(
    isa: FloatSet, operation: FloatConv2d, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Yield code of a depthwise convolution with one output per channel; none for any other convolution."""
    images, height, width, channels = operation.input_shape
    if operation.groups != channels or len(operation.weights) != channels or operation.residual:
        return
    if channels == 1:
        return
    _, rows, columns, _ = operation.output_shape
    kernel = (int(operation.weights.shape[1]), int(operation.weights.shape[2]))
    del target
    tile_rows = -(-rows // min(rows, _WANTED_TILES))
    for pixels, vectors in _TILES[isa.registers]:
        shape = _Shape(
            (height, width, channels), rows, columns, images, kernel, operation.strides, operation.pads[:2],
            operation.dilations, tile_rows, min(pixels, columns), min(vectors, -(-channels // isa.lanes)),
            operation.low, operation.high, pitch(demands.runs, channels),
        )  # fmt: skip
        yield _code(isa, operation, shape)


def _code(isa: FloatSet, operation: FloatConv2d, shape: _Shape) -> KernelCode:
    channels = shape.image[2]
    return KernelCode(
        key=f"float_depthwise {isa.name} {shape}",
        make=partial(_function, isa, shape),
        constants=(np.ascontiguousarray(operation.weights.reshape(channels, -1).T), operation.bias),
        tiles=shape.images * shape.bands,
        configuration=f"{shape.pixels}x{shape.vectors} registers, {shape.tile_rows} rows",
    )


def _function(isa: FloatSet, shape: _Shape) -> object:
    height, width, channels = shape.image
    sizes = (
        shape.images * height * width * channels, math.prod(shape.kernel) * channels, channels,
        (shape.images * shape.rows * shape.columns - 1) * shape.pitch + channels,
    )  # fmt: skip
    return tir.kernel([("float32", size) for size in sizes], "float32", partial(_body, isa, shape))


def _body(
    isa: FloatSet, shape: _Shape, x: Buffer, weights: Buffer, bias: Buffer, y: Buffer, scratch: Buffer,
    begin: Expr, end: Expr,
) -> None:  # fmt: skip
    del scratch
    channels = shape.image[2]
    lanes = min(
        isa.lanes, 1 << (channels.bit_length() - 1)
    )  # a register wider than the image is used in part
    block = shape.vectors * lanes
    full, rest = divmod(channels, block)
    # The last vectors overlap those before them: some channels are computed twice, none in part.
    tail = [min(start, channels - lanes) for start in range(full * block, channels, lanes)]
    accumulators = [T.alloc_buffer((block,), "float32", scope="global") for _ in range(shape.pixels)]

    with T.serial(begin, end) as index:
        image, row0 = index // shape.bands, index % shape.bands * shape.tile_rows

        def rows(channel: Expr, starts: Sequence[int]) -> None:
            def row(r: Expr) -> None:
                pixels = _Pixels(
                    isa, shape, lanes, accumulators, x, weights, bias, y, image, row0 + r, channel, starts
                )
                for first, count, taps in _runs(shape):

                    def tile(p: Expr, first: int = first, taps: Sequence[Taps] = taps) -> None:
                        pixels.emit(first + p * shape.pixels, taps)

                    tir.serial(count, tile)

            if shape.rows % shape.tile_rows:
                with T.serial(0, T.min(shape.tile_rows, shape.rows - row0)) as r:
                    row(r)
            else:
                tir.serial(shape.tile_rows, row)

        if full:
            tir.serial(full, lambda n: rows(n * block, range(0, block, lanes)))
        if rest:
            rows(0, tail)


@dataclass(frozen=True)
class _Pixels:
    """Adjacent pixels of one row, a few vectors of channels at once."""

    isa: FloatSet
    shape: _Shape
    lanes: int
    accumulators: list[Buffer]
    x: Buffer
    weights: Buffer
    bias: Buffer
    y: Buffer
    image: Expr
    row: Expr
    channel: Expr
    starts: Sequence[int]
    """First channel of each vector, behind `channel`."""

    def emit(self, column: Expr, taps: Sequence[Taps]) -> None:
        """Write the code of the pixels from `column`, given each one's columns of the window."""
        shape, lanes = self.shape, self.lanes
        vectors = [(start, place * lanes) for place, start in enumerate(self.starts)]
        for accumulator in self.accumulators[: len(taps)]:
            for start, place in vectors:
                tir.store(accumulator, place, tir.load(self.bias, self.channel + start, lanes), lanes)
        self._sum(column, taps, vectors)
        for pixel, accumulator in enumerate(self.accumulators[: len(taps)]):
            at = (self.image * shape.rows + self.row) * shape.columns + column + pixel
            for start, place in vectors:
                value = tir.clipped(tir.load(accumulator, place, lanes), shape.low, shape.high, lanes)
                tir.store(self.y, at * shape.pitch + self.channel + start, value, lanes)

    def _sum(self, column: Expr, taps: Sequence[Taps], vectors: list[tuple[int, int]]) -> None:
        shape, lanes = self.shape, self.lanes
        height, width, channels = shape.image
        top = self.row * shape.strides[0] - shape.pads[0]
        left = column * shape.strides[1] - shape.pads[1]
        # In the order of the input's columns: a column's vector serves all pixels while it is loaded.
        products = sorted(
            (pixel * shape.strides[1] + tap * shape.dilations[1], pixel, tap)
            for pixel, columns in enumerate(taps)
            for tap in columns
        )

        def window_row(r: Expr) -> None:
            line = (self.image * height + top + r * shape.dilations[0]) * width + left
            for at, pixel, tap in products:
                for start, place in vectors:
                    channel = self.channel + start
                    a = tir.load(self.x, (line + at) * channels + channel, lanes)
                    w = tir.load(self.weights, (r * shape.kernel[1] + tap) * channels + channel, lanes)
                    accumulator = tir.load(self.accumulators[pixel], place, lanes)
                    total = self.isa.multiply_add(a, w, accumulator, lanes)
                    tir.store(self.accumulators[pixel], place, total, lanes)

        if _always_empty(shape):
            return  # TVM takes no loop of constant length 0
        first, last = _rows_inside(shape, top)
        if first is None:
            tir.serial(last, window_row)
        else:  # from 0, as TVM forgets an inner loop's start where it moves the outer one's
            with T.serial(0, last - first) as r:
                window_row(first + r)


def _rows_inside(shape: _Shape, top: Expr) -> tuple[Expr | None, Expr]:
    """Return which rows of the window lie in the image where its first lies at row `top`: first and end.

    None and the window's height where all of them always do.
    """
    extent, dilation = shape.kernel[0], shape.dilations[0]
    lowest = (shape.rows - 1) * shape.strides[0] - shape.pads[0] + (extent - 1) * dilation
    if not shape.pads[0] and lowest < shape.image[0]:
        return None, extent
    return (
        T.max(0, (dilation - 1 - top) // dilation),
        T.min(extent, (shape.image[0] - 1 - top) // dilation + 1),
    )


def _always_empty(shape: _Shape) -> bool:
    """Whether the windows of all rows lie in the padding altogether."""
    return all(
        not 0 <= row * shape.strides[0] - shape.pads[0] + tap * shape.dilations[0] < shape.image[0]
        for row in range(shape.rows)
        for tap in range(shape.kernel[0])
    )


def _runs(shape: _Shape) -> list[tuple[int, int, list[Taps]]]:
    """Cut a row into (first column, tiles, taps of each pixel): equal neighbours share their code."""
    runs: list[tuple[int, int, list[Taps]]] = []
    for start in range(0, shape.columns, shape.pixels):
        taps = [shape.inside(c) for c in range(start, min(start + shape.pixels, shape.columns))]
        if runs and runs[-1][2] == taps:
            first, count, _ = runs.pop()
            runs.append((first, count + 1, taps))
        else:
            runs.append((start, 1, taps))
    return runs
