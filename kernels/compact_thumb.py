"""Convolution on cores without DSP instructions and FPU."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import conv2d, tir
from edgec.kernels.compact_conv2d import Layer, Variant, window
from edgec.kernels.isa import dsp, fixed, thumb
from edgec.kernels.isa.assembly import Assembly, address
from edgec.kernels.operators import Conv2d
from edgec.kernels.tir import Buffer, Expr, T


class Thumb:
    """A `compact_conv2d.CompactSet`."""

    name = "thumb"
    features: frozenset[str] = frozenset()
    step = 4
    dtypes: tuple[str, ...] = ("int8", "int32", "int32")

    def accepts(self, operation: Conv2d) -> bool:
        """Any int8 weights, with multipliers of the usual size."""
        return operation.weights.dtype == np.int8 and thumb.holds(operation.multiplier)

    def variant(self, operation: Conv2d, dense: bool, pointwise: bool, aliased: bool) -> Variant:
        """See `CompactSet.variant`."""
        del pointwise
        ragged, residual = len(operation.weights) % _width(dense) > 0, operation.residual is not None
        return Variant(dense, False, False, ragged, operation.saturating, residual, aliased)

    def pack(self, operation: Conv2d, length: int, dense: bool) -> tuple[NDArray[np.generic], ...]:
        """Weights [block, length, channel of the block], biases and scales, padded to whole blocks."""
        flat, width = operation.weights.reshape(len(operation.weights), -1), _width(dense)
        padded = -(-len(flat) // width) * width
        weights = np.zeros((padded, length), np.int8)
        weights[: len(flat), : flat.shape[1]] = flat
        bias, scales = np.zeros(padded, np.int32), np.zeros((padded, 2), np.int32)
        bias[: len(flat)] = conv2d.folded_bias(operation, 0)
        scales[: len(flat)] = thumb.scales(operation.multiplier)
        blocks = weights.reshape(-1, width, length).swapaxes(1, 2)
        return np.ascontiguousarray(blocks), bias, scales

    def scratch_bytes(self, variant: Variant, outputs: int, length: int) -> int:
        """Two windows; a dense layer is read in place, unless its output takes that place."""
        del outputs
        return length if variant.dense else 2 * length

    def functions(self, variant: Variant) -> tuple[Assembly, ...]:
        """See `CompactSet.functions`."""
        return dsp.COPY, *((thumb.DOT_1X4,) if variant.dense else (dsp.FILL_WORDS, thumb.DOT_2X2))

    def gather(self, layer: Layer, image: Expr, pixels: Sequence[Expr]) -> None:
        """See `CompactSet.gather`."""
        g, panel = layer.geometry, layer.scratch
        if layer.variant.dense:
            taken = g.kernel_rows * g.segment
            source, none = address(layer.x, image * taken), T.int32(0)
            dsp.COPY.call(None, source, address(panel, 0), taken, T.int32(1), none, none)
            return
        dsp.FILL_WORDS.call(None, address(panel, 0), g.padding, g.length // 2)
        with T.serial(0, 2) as i:
            one = window(g, image, T.min(pixels[0] + i, g.pixels - 1))
            with T.If(one.some), T.Then():
                source, to = address(layer.x, one.source), address(panel, i * g.length + one.offset)
                dsp.COPY.call(None, source, to, one.size, one.rows, g.pitch - one.size, g.segment - one.size)

    def columns(self, layer: Layer, pixels: Sequence[Expr]) -> None:
        """See `CompactSet.columns`."""
        g, (weights, bias, scales) = layer.geometry, layer.weights
        variant, width = layer.variant, _width(layer.variant.dense)
        sums = T.alloc_buffer((4,), "int32", scope="global")
        panels = [address(layer.scratch, i * g.length) for i in range(len(pixels))]
        with T.serial(0, (g.outputs + (width - 1)) // width) as block:
            channel = block * width
            for i in range(4):
                tir.store(sums, i, bias[channel + i % width])
            dot = thumb.DOT_1X4 if variant.dense else thumb.DOT_2X2
            dot.call(sums, *panels, address(weights, block * (g.length * width)), g.length // self.step)
            for c in range(width):
                if variant.ragged and c:
                    with T.If(channel + c < g.outputs), T.Then():
                        self._column(layer, pixels, sums, scales, channel, c)
                else:
                    self._column(layer, pixels, sums, scales, channel, c)

    def _column(
        self, layer: Layer, pixels: Sequence[Expr], sums: Buffer, scales: Buffer, channel: Expr, c: int
    ) -> None:
        g, output, width = layer.geometry, layer.ending.output(layer.values), 4 // len(pixels)
        at = (channel + c) * 2
        for i, pixel in enumerate(pixels):
            value = thumb.requantize(sums[i * width + c], scales[at], scales[at + 1], output)
            if layer.other is not None:
                other = layer.other[pixel * g.outputs + channel + c]
                addition = layer.ending.addition(layer.values)
                value = fixed.combine("add", value, T.cast(other, "int32"), addition, 1)
            tir.store(layer.y, pixel * g.step + channel + c, T.cast(value, "int8"))


def _width(dense: bool) -> int:
    """Channels of a block."""
    return 4 if dense else 2
