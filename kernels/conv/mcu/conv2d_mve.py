"""Convolution by Helium: windows are copied as they are, and results requantized as vectors."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.conv import conv2d
from edgec.kernels.conv.mcu.conv2d import Form, Layer, Variant, scattered, window
from edgec.kernels.isa import generic, mve
from edgec.kernels.isa.assembly import Assembly, address
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Expr, T
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization


class Mve:
    """A `conv2d.McuSet`."""

    name = "mve"
    arch: Arch | None = "arm-m"
    requantization: Requantization = "float32"
    features = frozenset({"mve", "mve.fp"})
    step = mve.LANES
    dtypes: tuple[str, ...] = ("int32",)

    def accepts(self, operation: Conv2d) -> bool:
        """Any int8 weights."""
        return operation.weights.dtype == np.int8

    def variant(self, operation: Conv2d, form: Form) -> Variant:
        """Return the code that the layer takes; the loops take any bytes, channels and bounds."""
        residual = operation.residual is not None
        ragged = residual and len(operation.weights) % 4 > 0
        return Variant(
            form.dense, form.pointwise, form.scattered, True, ragged, False, form.uniform, residual,
            form.aliased,
        )  # fmt: skip

    def pack(self, operation: Conv2d, length: int, form: Form) -> tuple[NDArray[np.generic], ...]:
        """One stream, see `mve.stream`; a uniform multiplier and the other parameters of its loop first."""
        flat = operation.weights.reshape(len(operation.weights), -1)
        weights = np.zeros((len(flat), length), np.int8)
        weights[:, : flat.shape[1]] = flat
        bias, uniform = conv2d.folded_bias(operation, 0), form.uniform
        stream = mve.stream(weights, bias, operation.multiplier, 1 if form.dense else 2, uniform)
        return (np.concatenate([_parameters(operation), stream]) if uniform else stream,)

    def scratch_bytes(self, variant: Variant, outputs: int, length: int) -> int:
        """Windows, and two pixels of results before the addition."""
        pixels = 1 if variant.dense else 2
        return pixels * (length + (-(-outputs // 4) * 4 if variant.residual else 0))

    def functions(self, variant: Variant) -> tuple[Assembly, ...]:
        """Return the loops that `gather` and `columns` call."""
        filling = () if variant.dense or variant.pointwise else (mve.FILL,)
        return mve.COPY, *filling, _columns(variant)

    def gather(self, layer: Layer, image: Expr, pixels: Sequence[Expr]) -> None:
        """Write the copying of the pixels' windows into the panel, at the start of the scratch."""
        g = layer.geometry
        if layer.variant.dense:
            taken = g.kernel_rows * g.segment
            mve.COPY.call(
                None, address(layer.x, image * taken), address(layer.scratch, 0), taken, *_one_row()
            )
        elif layer.variant.pointwise:
            for i, pixel in enumerate(pixels):
                source = address(layer.x, g.pixel(image, pixel))
                to = address(layer.scratch, i * g.length)
                mve.COPY.call(None, source, to, g.channels, *_one_row())
        else:
            with T.serial(0, 2) as one_of_two:
                pixel, to = T.min(pixels[0] + one_of_two, g.pixels - 1), one_of_two * g.length
                if layer.variant.scattered:
                    mve.FILL.call(None, address(layer.scratch, to), g.padding, g.length)
                    scattered(layer, image, pixel, partial(self._copy_taps, layer, to))
                    return
                one = window(g, image, pixel)
                with T.If(T.Not(one.whole)), T.Then():
                    mve.FILL.call(None, address(layer.scratch, to), g.padding, g.length)
                with T.If(one.some), T.Then():
                    source, at = address(layer.x, one.source), address(layer.scratch, to + one.offset)
                    mve.COPY.call(None, source, at, one.size, one.rows, g.pitch, g.segment)

    def _copy_taps(
        self, layer: Layer, start: Expr, source: Expr, to: Expr, taps: Expr, size: Expr, step: Expr
    ) -> None:
        places = address(layer.x, source), address(layer.scratch, start + to)
        mve.COPY.call(None, *places, size, taps, step, size)

    def columns(self, layer: Layer, pixels: Sequence[Expr]) -> None:
        """Write the loop over output channels; `pixels` are the output's, counted over all images."""
        g, scratch = layer.geometry, layer.scratch
        outputs = [address(layer.y, layer.first_output(pixel)) for pixel in pixels]
        behind = g.length * len(pixels)
        pitch = (g.outputs + 3) // 4 * 4
        if layer.variant.residual:
            outputs = [address(scratch, behind + i * pitch) for i in range(len(pixels))]
        uniform, (constants,) = layer.variant.uniform, layer.weights
        start = layer.blocks_before(mve.WIDTH) * (g.length + (1 if uniform else 2) * mve.WIDTH)
        parameters = address(layer.parameters, 0)
        if uniform:
            start += layer.group * _PARAMETERS
            parameters, start = address(constants, start), start + _PARAMETERS
        _columns(layer.variant).call(
            None, address(constants, start), address(scratch, 0), g.length, *outputs, g.outputs, parameters
        )
        if layer.variant.residual:
            for i, pixel in enumerate(pixels):
                self._add(layer, behind + i * pitch, pixel)

    def _add(self, layer: Layer, start: Expr, pixel: Expr) -> None:
        g, lanes = layer.geometry, 1 if layer.variant.ragged else 4
        assert layer.other is not None, "there is a residual"
        with T.serial(0, g.outputs // lanes) as block:
            one = tir.load(layer.scratch, start + block * lanes, lanes)
            two = tir.load(layer.other, layer.first_other(pixel) + block * lanes, lanes)
            addition = layer.ending.addition(layer.values)
            tir.store(
                layer.y,
                layer.first_output(pixel) + block * lanes,
                generic.combine("add", one, two, addition, lanes),
                lanes,
            )


def _columns(variant: Variant) -> Assembly:
    return (mve.COLUMNS_1 if variant.dense else mve.COLUMNS_2)[variant.uniform]


_PARAMETERS = 4


def _parameters(operation: Conv2d) -> NDArray[np.int32]:
    """Low, high, zero point, and every channel's multiplier."""
    bounds = np.array([operation.low, operation.high, operation.output_zero_point], np.int32)
    return np.append(bounds, operation.multiplier[:1].view(np.int32))


def _one_row() -> tuple[Expr, Expr, Expr]:
    """Arguments of `mve.COPY` for one row."""
    return T.int32(1), T.int32(0), T.int32(0)
