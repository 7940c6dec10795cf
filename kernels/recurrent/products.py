"""Products of a recurrent layer: rows of a panel by constant weights, rounded to int16."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgec.arrays import Array
from edgec.kernels import tir
from edgec.kernels.codegen import stripe, tile
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.conv import conv2d
from edgec.kernels.conv.epilogue import Epilogue
from edgec.kernels.conv.mcu import conv2d_dsp
from edgec.kernels.isa import dsp, fixed, generic
from edgec.kernels.isa.assembly import Assembly, address
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch


class Multiplier(Protocol):
    """How an instruction set multiplies and rounds for a recurrent layer."""

    name: str
    arch: Arch | None
    features: frozenset[str]
    lanes: int
    """Results of a row come in so many."""
    panel: str
    """Type of the panel's elements."""
    panel_offset: int
    """What is added to an int8 number on its way into the panel."""
    rows: tuple[int, ...]
    """Rows of inputs to multiply together, those expected to be fastest first."""
    lanes_of_states: bool
    """Whether states are computed by vectors, where the target has some."""
    dtypes: tuple[str, ...]
    """Types of the constants of a product."""
    functions: tuple[Assembly, ...]
    """Loops that `emit` calls."""
    aliased: bool
    """Whether buffers may not be promised to lie apart."""

    def accepts(self, product: Conv2d) -> bool:
        """Whether the products are exact here."""

    def register_tile(self, product: Conv2d, rows: int) -> tuple[int, int]:
        """Return the rows and vectors that are computed together."""

    def constants(self, product: Conv2d, shape: Geometry) -> tuple[Array, ...]:
        """Return weights, biases and multipliers as `emit` reads them."""

    def spare_words(self, shape: Geometry) -> int:
        """Return the int32 of scratch that `emit` takes besides panel and results."""

    def accumulators(self, shape: Geometry) -> list[Buffer]:
        """Allocate what `emit` keeps sums in."""

    def emit(self, product: "Product", first: Expr) -> None:
        """Multiply the panel, whose rows are those from `first` on."""

    def rounded(self, value: Expr, multiplier: Expr, zero_point: Expr, bits: int, lanes: int) -> Expr:
        """Return clamp(rne(float32(value) * multiplier) + zero_point) to so many bits, as int32."""


@dataclass(frozen=True, eq=False)
class Product:
    """One product of a layer."""

    by: Multiplier
    shape: Geometry
    """The product as a convolution by a 1x1 window of an image of one row: pixels are rows."""
    constants: Sequence[Buffer]
    panel: Buffer
    results: Buffer
    """[rows, pitch] int16, in steps of the curves' arguments."""
    spare: Buffer
    accumulators: list[Buffer]
    """What `emit` keeps sums in."""

    @property
    def pitch(self) -> int:
        """Results of a row."""
        return pitch(self.by, self.shape)

    def put(self, row: Expr, offset: Expr, value: Expr, lanes: int) -> None:
        """Write int8 numbers of a row into the panel."""
        place = row * self.shape.channels + offset
        tir.store(self.panel, place, stripe.convert(self.shape, value, lanes), lanes)

    def load(self, row: Expr, output: Expr, lanes: int) -> Expr:
        """Return results of a row as int32."""
        return tir.cast(tir.load(self.results, row * self.pitch + output, lanes), "int32", lanes)


def pitch(by: Multiplier, shape: Geometry) -> int:
    """Return the results of a row, with those that complete the last vector."""
    return -(-shape.outputs // by.lanes) * by.lanes


class Tiles:
    """Register tiles, as of convolutions."""

    rows: tuple[int, ...] = (16, 64, 1)
    lanes_of_states = True
    functions: tuple[Assembly, ...] = ()

    def __init__(self, isa: InstructionSet, integers: bool = False) -> None:
        """Take an instruction set; with `integers` no float instruction is used."""
        self.isa, self.integers = isa, integers
        self.name, self.arch, self.features, self.lanes = isa.name, isa.arch, isa.features, isa.lanes
        self.panel, self.panel_offset, self.aliased = isa.panel, isa.panel_offset, bool(isa.unroll)
        self.dtypes: tuple[str, ...] = (isa.weights, "int32", "float32")

    def accepts(self, product: Conv2d) -> bool:
        """Whether the weights are exact here."""
        return self.isa.accepts(product.weights)

    def register_tile(self, product: Conv2d, rows: int) -> tuple[int, int]:
        """Return the one that is expected to be fastest."""
        walk = tile.Reduction((1, 1), (0, 0), int(product.weights.shape[3]), 1, True)
        return tile.ranked(self.isa, rows, len(product.weights), walk)[0]

    def constants(self, product: Conv2d, shape: Geometry) -> tuple[Array, ...]:
        """Return them as convolutions have them."""
        return conv2d.constants(self.isa, product, shape)[:3]

    def spare_words(self, shape: Geometry) -> int:
        """Return none."""
        del shape
        return 0

    def accumulators(self, shape: Geometry) -> list[Buffer]:
        """Return those of a register tile."""
        return tile.allocate(self.isa, shape.register_tile)

    def emit(self, product: Product, first: Expr) -> None:
        """Write the tiles of all rows."""
        weights, bias, multiplier = product.constants

        def store_sums(row: Expr, channel: Expr, vectors: Sequence[Expr]) -> None:
            for number, vector in enumerate(vectors):
                output = channel + number * self.lanes
                scale = tir.load(multiplier, output, self.lanes)
                value = self.rounded(vector, scale, T.int32(0), 16, self.lanes)
                place = row * product.pitch + output
                tir.store(product.results, place, tir.cast(value, "int16", self.lanes), self.lanes)

        nothing = stripe.Destination(product.results, lambda row, column: T.int32(0))
        conv2d.Block(
            self.isa, product.shape, Epilogue(False, True, False, False, False), product.accumulators,
            stripe.Tile(0, 0, first, product.panel, 0), lambda body: body(0), weights, bias, None,
            [T.int32(0)] * 4, None, nothing, store_sums=store_sums,
        ).emit()  # fmt: skip

    def rounded(self, value: Expr, multiplier: Expr, zero_point: Expr, bits: int, lanes: int) -> Expr:
        """Round in the form that the target has."""
        end = 1 << (bits - 1)
        bounds = T.int32(-end), T.int32(end - 1), zero_point
        if not self.integers:
            return generic.round_and_clamp(tir.cast(value, "float32", lanes) * multiplier, bounds, lanes)
        mantissa, shift = fixed.fixed_point(T.reinterpret(tir.vector("int32", lanes), multiplier), lanes)
        product = tir.cast(value, "int64", lanes) * tir.cast(mantissa, "int64", lanes)
        return fixed.shift_and_clamp(product, shift, bounds, lanes)


class Dsp:
    """Pairs of int16 by DSP instructions, a row by four outputs at a time."""

    name = "dsp"
    arch: Arch | None = "arm-m"
    features = frozenset({"dsp"})
    lanes = 4
    panel = "int8"
    panel_offset = 0
    rows: tuple[int, ...] = (1,)
    lanes_of_states = False
    dtypes: tuple[str, ...] = ("int32",)
    functions: tuple[Assembly, ...] = (dsp.WIDEN_DENSE, dsp.DOT_1X4)
    aliased = False

    def accepts(self, product: Conv2d) -> bool:
        """Whether sums and multipliers are exact when they are scaled."""
        return _CONVOLUTIONS.accepts(product)

    def register_tile(self, product: Conv2d, rows: int) -> tuple[int, int]:
        """One row, four outputs."""
        del product, rows
        return 1, 1

    def constants(self, product: Conv2d, shape: Geometry) -> tuple[Array, ...]:
        """One stream, see `dsp.stream`."""
        weights = np.zeros((len(product.weights), _length(shape)), np.int8)
        weights[:, : shape.channels] = product.weights.reshape(len(weights), -1)
        bias = conv2d.folded_bias(product, 0).astype(np.int64)
        return (dsp.stream(weights, bias, product.multiplier, self.lanes, uniform=False).reshape(-1),)

    def spare_words(self, shape: Geometry) -> int:
        """Return those of a row as pairs."""
        return _length(shape) // 2

    def accumulators(self, shape: Geometry) -> list[Buffer]:
        """Return one buffer, of one sum for each output."""
        del shape
        return [T.alloc_buffer((self.lanes,), "int32", scope="global")]

    def emit(self, product: Product, first: Expr) -> None:
        """Write the loops over rows and outputs."""
        (stream,), (sums,), length = product.constants, product.accumulators, _length(product.shape)
        words, shape = 2 * self.lanes + length, product.shape
        count: Expr = shape.tile_columns
        if shape.columns % shape.tile_columns:
            count = T.min(shape.tile_columns, shape.columns - first)
        with T.serial(0, count) as row:
            source = address(product.panel, row * shape.channels)
            dsp.WIDEN_DENSE.call(None, source, address(product.spare, 0), T.int32(length // 4))
            with T.serial(0, product.pitch // self.lanes) as block:
                start = block * words
                for i in range(self.lanes):
                    tir.store(sums, i, stream[start + i])
                weights = address(stream, start + self.lanes)
                panel, steps = address(product.spare, 0), T.int32(length // 8)
                dsp.DOT_1X4.call(sums, panel, weights, steps)
                for i in range(self.lanes):
                    multiplier = T.reinterpret("float32", stream[start + self.lanes + length + i])
                    value = self.rounded(sums[i], multiplier, T.int32(0), 16, 1)
                    place = row * product.pitch + block * self.lanes + i
                    tir.store(product.results, place, T.cast(value, "int16"))

    def rounded(self, value: Expr, multiplier: Expr, zero_point: Expr, bits: int, lanes: int) -> Expr:
        """Round by the FPU, and saturate."""
        assert lanes == 1, "there are no vectors"
        return dsp.saturated(T.cast(value, "float32") * multiplier, zero_point, bits)


_CONVOLUTIONS = conv2d_dsp.Dsp()


def _length(shape: Geometry) -> int:
    """Return the elements of a row that are multiplied, padded by zero weights."""
    return -(-shape.channels // 8) * 8
