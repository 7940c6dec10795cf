"""Convolution for any core without an FPU: what `conv2d_thumb` does in assembler, as loops for LLVM."""

from collections.abc import Sequence
from functools import partial

from edgec.kernels import tir
from edgec.kernels.conv.mcu.conv2d import Layer, Variant, scattered, window
from edgec.kernels.conv.mcu.conv2d_thumb import Thumb
from edgec.kernels.isa.assembly import Assembly
from edgec.kernels.isa.base import Output
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch


class Plain(Thumb):
    """A `conv2d.McuSet` of no instruction set in particular."""

    name = "plain"
    arch: Arch | None = None
    features: frozenset[str] = frozenset()
    step = 1

    def functions(self, variant: Variant) -> tuple[Assembly, ...]:
        """None."""
        del variant
        return ()

    def gather(self, layer: Layer, image: Expr, pixels: Sequence[Expr]) -> None:
        """Write the copying of the pixels' windows into the panel, at the start of the scratch."""
        g, panel = layer.geometry, layer.scratch
        if layer.variant.dense:
            taken = g.kernel_rows * g.segment
            _copy(layer.x, image * taken, panel, T.int32(0), taken)
            return
        with T.serial(0, g.length * 2) as at:
            tir.store(panel, at, T.cast(g.padding, "int8"))
        with T.serial(0, 2) as i:
            pixel = T.min(pixels[0] + i, g.pixels - 1)
            if layer.variant.scattered:
                scattered(layer, image, pixel, partial(_copy_taps, layer, i * g.length))
                return
            one = window(g, image, pixel)
            with T.If(one.some), T.Then(), T.serial(0, one.rows) as row:
                source, to = one.source + row * g.pitch, i * g.length + one.offset + row * g.segment
                _copy(layer.x, source, panel, to, one.size)

    def products(self, layer: Layer, sums: Buffer, weights: Expr) -> None:
        """Write the loop that adds the products of the panel and a block of weights to four sums."""
        g, panel, (w, *_) = layer.geometry, layer.scratch, layer.weights
        pixels, width = (1, 4) if layer.variant.dense else (2, 2)
        with T.serial(0, g.length // self.step) as quad, T.unroll(0, self.step) as k:
            element = quad * self.step + k
            left = [T.cast(panel[i * g.length + element], "int32") for i in range(pixels)]
            right = [T.cast(w[weights + element * width + c], "int32") for c in range(width)]
            for i in range(pixels):
                for c in range(width):
                    at = i * width + c
                    tir.store(sums, at, sums[at] + left[i] * right[c])

    def clamped(self, value: Expr, output: Output) -> Expr:
        """Return an int32 within the output's bounds."""
        return T.max(T.min(value, output.high), output.low)


class Unrolled(Plain):
    """The same with four products of a sum at a time, for which RISC-V has registers enough."""

    name = "unrolled"
    arch: Arch | None = "riscv32"
    step = 4


def _copy_taps(layer: Layer, start: Expr, source: Expr, to: Expr, taps: Expr, size: Expr, step: Expr) -> None:
    with T.serial(0, taps) as tap:
        _copy(layer.x, source + tap * step, layer.scratch, start + to + tap * size, size)


def _copy(x: Buffer, source: Expr, panel: Buffer, to: Expr, size: Expr) -> None:
    with T.serial(0, size) as at:
        tir.store(panel, to + at, x[source + at])
