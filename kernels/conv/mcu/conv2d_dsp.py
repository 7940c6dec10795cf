"""Convolution by the DSP instructions: how windows become a panel of int16 pairs, and columns go over it."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.conv import conv2d
from edgec.kernels.conv.mcu.conv2d import ConvParameters, Form, Layer, Variant, Window, scattered, window
from edgec.kernels.conv.mcu.conv2d_thumb import copy_taps
from edgec.kernels.isa import dsp
from edgec.kernels.isa.assembly import Assembly, address
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization


class Dsp:
    """A `conv2d.McuSet`."""

    name = "dsp"
    arch: Arch | None = "arm-m"
    requantization: Requantization = "float32"
    features = frozenset({"dsp"})
    step = 8
    dtypes: tuple[str, ...] = ("int32",)

    def accepts(self, operation: Conv2d) -> bool:
        """Whether pairs' halfwords hold the weights, and int32 every sum times `dsp.SCALE`."""
        weights = operation.weights
        if weights.dtype != np.int8 or int(weights.min()) == -128:
            return False
        flat = weights.reshape(len(weights), -1).astype(np.int64)
        positive, negative = flat.clip(0).sum(axis=1), flat.clip(None, 0).sum(axis=1)
        low, high = -128 - operation.input_zero_point, 127 - operation.input_zero_point
        bias = operation.bias.astype(np.int64)
        reach = np.abs([bias + positive * a + negative * b for a, b in ((low, high), (high, low))]).max()
        scaled = operation.multiplier / np.float32(dsp.SCALE)
        exact = scaled * np.float32(dsp.SCALE) == operation.multiplier
        return bool(reach < 2**31 // dsp.SCALE and exact.all())

    def variant(self, operation: Conv2d, form: Form) -> Variant:
        """Return the code that the layer takes, of one group."""
        ragged = len(operation.weights) % _width(form.dense) > 0
        words = form.dense or (operation.input_shape[3] % 4 == 0 and not form.scattered)
        residual, pointwise = operation.residual is not None, form.pointwise and words
        return Variant(
            form.dense, pointwise, form.scattered, words, ragged, operation.saturating, form.uniform,
            residual, form.aliased,
        )  # fmt: skip

    def pack(self, operation: Conv2d, length: int, form: Form) -> tuple[NDArray[np.generic], ...]:
        """One stream, see `dsp.stream`."""
        flat = operation.weights.reshape(len(operation.weights), -1)
        weights = np.zeros((len(flat), length), np.int8)
        weights[:, : flat.shape[1]] = flat
        bias = conv2d.folded_bias(operation, 0).astype(np.int64)
        return (dsp.stream(weights, bias, operation.multiplier, _width(form.dense), form.uniform),)

    def scratch_bytes(self, variant: Variant, outputs: int, length: int) -> int:
        """Two bytes of each element; and the windows as they are, where they are gathered first."""
        if variant.dense:
            return 2 * length
        return 4 * length + (0 if variant.words else 2 * length)

    def functions(self, variant: Variant) -> tuple[Assembly, ...]:
        """Return the loops that `gather` and `columns` call."""
        if variant.dense:
            return dsp.WIDEN_DENSE, _columns(variant)
        if variant.pointwise:
            return dsp.WIDEN_PAIR, _columns(variant)
        gathering = (dsp.WIDEN_ONE, dsp.FILL_ONE) if variant.words else (dsp.COPY, dsp.FILL_WORDS)
        return dsp.WIDEN_PAIR, *gathering, _columns(variant)

    def gather(self, layer: Layer, image: Expr, pixels: Sequence[Expr]) -> None:
        """Write the copying of the pixels' windows into the panel, at the start of the scratch."""
        g, panel = layer.geometry, address(layer.scratch, 0)
        if layer.variant.dense:
            taken = g.kernel_rows * g.segment
            dsp.WIDEN_DENSE.call(None, address(layer.x, image * taken), panel, taken // 4)
        elif layer.variant.pointwise:
            first, second = (address(layer.x, g.pixel(image, pixel)) for pixel in pixels)
            dsp.WIDEN_PAIR.call(None, first, second, panel, g.channels // 4, T.int32(1), T.int32(0))
        elif layer.variant.words:
            windows = [window(g, image, pixel) for pixel in pixels]
            _gather_words(g, layer.x, layer.scratch, windows, image, pixels[0])
        else:
            _gather_bytes(layer, image, pixels[0])

    def columns(self, layer: Layer, pixels: Sequence[Expr]) -> None:
        """Write the loop over output channels; `pixels` are the output's, counted over all images."""
        g, (stream,), variant = layer.geometry, layer.weights, layer.variant
        panel, count = address(layer.scratch, 0), g.length // self.step
        width = _width(variant.dense)
        words, own = g.length * width // 4, 0 if variant.uniform else width
        start = layer.blocks_before(width) * (words + width + own) + layer.group * variant.uniform
        if _plain(variant):
            rows = [layer.first_output(pixel) for pixel in pixels]
            outputs = [address(layer.y, rows[0]), *(row - rows[0] for row in rows[1:])]
            zero_point = layer.ending.output(layer.values).zero_point
            _columns(variant).call(
                None, address(stream, start), panel, count, *outputs, g.outputs, zero_point
            )
            return
        sums = T.alloc_buffer((4,), "int32", scope="global")
        with T.serial(0, (g.outputs + (width - 1)) // width) as block:
            first, channel = start + variant.uniform + block * (words + width + own), block * width
            for i in range(4):
                tir.store(sums, i, stream[first + i % width])
            _columns(variant).call(sums, panel, address(stream, first + width), count)
            for c in range(width):
                kept = start if variant.uniform else first + width + words + c
                multiplier = T.reinterpret("float32", stream[kept])
                if variant.ragged and c:
                    with T.If(channel + c < g.outputs), T.Then():
                        self._column(layer, pixels, sums, multiplier, channel + c, c)
                else:
                    self._column(layer, pixels, sums, multiplier, channel + c, c)

    def _column(
        self, layer: Layer, pixels: Sequence[Expr], sums: Buffer, multiplier: Expr, channel: Expr, c: int
    ) -> None:
        output, saturating = layer.ending.output(layer.values), layer.variant.saturating
        width = 4 // len(pixels)
        for i, pixel in enumerate(pixels):
            value = dsp.requantize(sums[i * width + c], multiplier, output, saturating)
            if layer.other is not None:
                other = T.cast(layer.other[layer.first_other(pixel) + channel], "int32")
                value = dsp.added(value, other, layer.ending.addition(layer.values), saturating)
            tir.store(layer.y, layer.first_output(pixel) + channel, T.cast(value, "int8"))


def _plain(variant: Variant) -> bool:
    """Whether the loop over channels, results and all, is one in assembler."""
    return variant.saturating and not variant.residual and not variant.ragged


def _columns(variant: Variant) -> Assembly:
    if _plain(variant):
        return (dsp.COLUMNS_1 if variant.dense else dsp.COLUMNS_2)[variant.uniform]
    return dsp.DOT_1X4 if variant.dense else dsp.DOT_2X2


def _width(dense: bool) -> int:
    """Channels of a block."""
    return 4 if dense else 2


def _gather_words(
    g: ConvParameters, x: Buffer, panel: Buffer, windows: Sequence[Window], image: Expr, first: Expr
) -> None:
    """Widen both windows into the panel: together where no part of them is padding."""
    between = g.pitch - g.segment
    with T.If(T.And(windows[0].whole, windows[1].whole)):
        with T.Then():
            sources = [address(x, one.source) for one in windows]
            dsp.WIDEN_PAIR.call(None, *sources, address(panel, 0), g.segment // 4, g.kernel_rows, between)
        with T.Else(), T.serial(0, 2) as i:
            one = window(g, image, T.min(first + i, g.pixels - 1))
            dsp.FILL_ONE.call(None, address(panel, i * 4), g.padding, g.length // 4)
            with T.If(one.some), T.Then():
                to = address(panel, one.offset * 4 + i * 4)
                skipped = (g.segment - one.size) * 4
                dsp.WIDEN_ONE.call(
                    None, address(x, one.source), to, one.size // 4, one.rows, g.pitch - one.size, skipped
                )


def _gather_bytes(layer: Layer, image: Expr, first: Expr) -> None:
    """Copy both windows behind the panel, byte by byte, and widen them from there."""
    g, panel = layer.geometry, layer.scratch
    behind = g.length * 4
    dsp.FILL_WORDS.call(None, address(panel, behind), g.padding, g.length // 2)
    with T.serial(0, 2) as i:
        pixel, start = T.min(first + i, g.pixels - 1), behind + i * g.length
        if layer.variant.scattered:
            scattered(layer, image, pixel, partial(copy_taps, layer, start))
        else:
            one = window(g, image, pixel)
            with T.If(one.some), T.Then():
                to = address(panel, start + one.offset)
                source, between = address(layer.x, one.source), g.pitch - one.size
                dsp.COPY.call(None, source, to, one.size, one.rows, between, g.segment - one.size)
    copies = [address(panel, behind + i * g.length) for i in range(2)]
    dsp.WIDEN_PAIR.call(None, *copies, address(panel, 0), g.length // 4, T.int32(1), T.int32(0))
