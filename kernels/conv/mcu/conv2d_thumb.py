"""Convolution on cores without DSP instructions and FPU."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.conv import conv2d
from edgec.kernels.conv.mcu.conv2d import Form, Layer, Variant, scattered, window
from edgec.kernels.isa import dsp, fixed, thumb
from edgec.kernels.isa.assembly import Assembly, address
from edgec.kernels.isa.base import Output
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization


class Thumb:
    """A `conv2d.McuSet`."""

    name = "thumb"
    arch: Arch | None = "arm-m"
    requantization: Requantization = "fixed-point"
    features: frozenset[str] = frozenset({"thumb2"})
    step = 4
    dtypes: tuple[str, ...] = ("int8", "int32", "int32")

    def accepts(self, operation: Conv2d) -> bool:
        """Any int8 weights."""
        return operation.weights.dtype == np.int8

    def variant(self, operation: Conv2d, form: Form) -> Variant:
        """Return the code that the layer takes, of one group."""
        ragged, residual = len(operation.weights) % _width(form.dense) > 0, operation.residual is not None
        return Variant(
            form.dense, False, form.scattered, False, ragged, operation.saturating, form.uniform,
            residual, form.aliased, wide=thumb.wide(operation.multiplier),
        )  # fmt: skip

    def pack(self, operation: Conv2d, length: int, form: Form) -> tuple[NDArray[np.generic], ...]:
        """Weights [block, length, channel of the block], biases and scales, padded to whole blocks."""
        flat, width = operation.weights.reshape(len(operation.weights), -1), _width(form.dense)
        padded = -(-len(flat) // width) * width
        weights = np.zeros((padded, length), np.int8)
        weights[: len(flat), : flat.shape[1]] = flat
        bias, scales = np.zeros(padded, np.int32), np.zeros((padded, 2), np.int32)
        bias[: len(flat)] = conv2d.folded_bias(operation, 0)
        scales[: len(flat)] = thumb.scales(operation.multiplier)
        scales = scales[:1] if form.uniform else scales
        blocks = weights.reshape(-1, width, length).swapaxes(1, 2)
        return np.ascontiguousarray(blocks), bias, scales

    def scratch_bytes(self, variant: Variant, outputs: int, length: int) -> int:
        """Two windows; a dense layer is read in place, unless its output takes that place."""
        del outputs
        return length if variant.dense else 2 * length

    def functions(self, variant: Variant) -> tuple[Assembly, ...]:
        """Return the loops that `gather` and `columns` call."""
        return dsp.COPY, *((thumb.DOT_1X4,) if variant.dense else (dsp.FILL_WORDS, thumb.DOT_2X2))

    def gather(self, layer: Layer, image: Expr, pixels: Sequence[Expr]) -> None:
        """Write the copying of the pixels' windows into the panel, at the start of the scratch."""
        g, panel = layer.geometry, layer.scratch
        if layer.variant.dense:
            taken = g.kernel_rows * g.segment
            source, none = address(layer.x, image * taken), T.int32(0)
            dsp.COPY.call(None, source, address(panel, 0), taken, T.int32(1), none, none)
            return
        dsp.FILL_WORDS.call(None, address(panel, 0), g.padding, g.length // 2)
        with T.serial(0, 2) as i:
            pixel = T.min(pixels[0] + i, g.pixels - 1)
            if layer.variant.scattered:
                scattered(layer, image, pixel, partial(copy_taps, layer, i * g.length))
                return
            one = window(g, image, pixel)
            with T.If(one.some), T.Then():
                source, to = address(layer.x, one.source), address(panel, i * g.length + one.offset)
                dsp.COPY.call(None, source, to, one.size, one.rows, g.pitch - one.size, g.segment - one.size)

    def columns(self, layer: Layer, pixels: Sequence[Expr]) -> None:
        """Write the loop over output channels; `pixels` are the output's, counted over all images."""
        g, (_, bias, scales) = layer.geometry, layer.weights
        variant, width = layer.variant, _width(layer.variant.dense)
        sums = T.alloc_buffer((4,), "int32", scope="global")
        before = layer.blocks_before(width)
        with T.serial(0, (g.outputs + (width - 1)) // width) as block:
            channel, packed = block * width, (before + block) * width
            for i in range(4):
                tir.store(sums, i, bias[packed + i % width])
            self.products(layer, sums, (before + block) * (g.length * width))
            for c in range(width):
                if variant.ragged and c:
                    with T.If(channel + c < g.outputs), T.Then():
                        self._column(layer, pixels, sums, scales, channel, packed, c)
                else:
                    self._column(layer, pixels, sums, scales, channel, packed, c)

    def products(self, layer: Layer, sums: Buffer, weights: Expr) -> None:
        """Write the loop that adds the products of the panel and a block of weights to four sums."""
        g, dense = layer.geometry, layer.variant.dense
        panels = [address(layer.scratch, i * g.length) for i in range(1 if dense else 2)]
        dot = thumb.DOT_1X4 if dense else thumb.DOT_2X2
        dot.call(sums, *panels, address(layer.weights[0], weights), g.length // self.step)

    def clamped(self, value: Expr, output: Output) -> Expr:
        """Return an int32 within the output's bounds."""
        return thumb.clamped(value, output)

    def _column(
        self, layer: Layer, pixels: Sequence[Expr], sums: Buffer, scales: Buffer, channel: Expr, packed: Expr,
        c: int,
    ) -> None:  # fmt: skip
        output, width = layer.ending.output(layer.values), 4 // len(pixels)
        at = 2 * (layer.group if layer.variant.uniform else packed + c)
        for i, pixel in enumerate(pixels):
            value = thumb.requantize(
                sums[i * width + c], scales[at], scales[at + 1], output.zero_point, layer.variant.wide
            )
            value = self.clamped(value, output)
            if layer.other is not None:
                other = layer.other[layer.first_other(pixel) + channel + c]
                addition = layer.ending.addition(layer.values)
                value = fixed.combine("add", value, T.cast(other, "int32"), addition, 1)
            tir.store(layer.y, layer.first_output(pixel) + channel + c, T.cast(value, "int8"))


def copy_taps(layer: Layer, start: Expr, source: Expr, to: Expr, taps: Expr, size: Expr, step: Expr) -> None:
    """Write what `scattered` asks for, into the window that begins at `start` in the scratch."""
    places = address(layer.x, source), address(layer.scratch, start + to)
    dsp.COPY.call(None, *places, size, taps, step - size, T.int32(0))


def _width(dense: bool) -> int:
    """Channels of a block."""
    return 4 if dense else 2
