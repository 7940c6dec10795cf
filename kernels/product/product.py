"""Matrix products of two activations: register tiles as of convolutions, the right operand packed first.

A tile of the result is a block of rows of one matrix. A thread packs a matrix's right operand where it
begins with one, into scratch of its own, and sums up its columns there: the left operand's zero point goes
into a bias, as it does where weights are constants, and the right one's into a term per row.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from edgec.kernels import tir
from edgec.kernels.codegen import stripe, tile
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.conv import conv2d
from edgec.kernels.conv.epilogue import Epilogue
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, Matrices, Product
from edgec.kernels.product import operands
from edgec.kernels.product.packing import Packing, pack
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Rows of a tile, the most likely fastest first.
_ROWS = (64, 128, 32, 256)
# Register tiles worth trying, of those that the model of the machine ranks first.
_TILES = 4
_LOW, _HIGH, _ZERO_POINT, _LEFT, _RIGHT, _PARAMETERS = range(6)
"""What the code reads at run time, the zero points of the operands last."""


@dataclass(frozen=True)
class Plan:
    """A product as the loops see it; equal plans share their code."""

    batch: tuple[int, ...]
    left: Matrices
    result: Matrices
    shape: Geometry
    """One product as a convolution by a 1x1 window of an image of one row: pixels are rows."""
    packing: Packing
    saturating: bool
    bounded: bool
    unsigned: bool

    @property
    def blocks(self) -> int:
        """Tiles of a matrix."""
        return self.shape.blocks[1]

    @property
    def ending(self) -> Epilogue:
        """How sums become int8."""
        return Epilogue(False, self.saturating, self.bounded, False, self.unsigned)

    @property
    def columns(self) -> int:
        """Columns of the result, with those that vector loads of the last ones reach."""
        return sum(columns.blocks * columns.vectors for columns in self.packing.blocks) * self.packing.lanes

    @property
    def bias(self) -> int:
        """First byte of the columns' biases in the scratch: behind the packed operand."""
        return -(-self.packing.size * tir.lanes_bytes(self.packing.dtype) // 4) * 4

    @property
    def terms(self) -> int:
        """First byte of the rows' terms."""
        return self.bias + 4 * self.columns

    @property
    def stripe(self) -> int:
        """First byte of the left operand's rows as the products want them."""
        return self.terms + 4 * self.shape.tile_columns

    @property
    def scratch(self) -> int:
        """Bytes of scratch, in whole words."""
        return -(-(self.stripe + self.shape.stripe_bytes) // 4) * 4


def codes(
    isa: InstructionSet, group: int, operation: Product, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Yield code of a product on one instruction set, whose packed weights are `group` rows side by side."""
    found = list(dict.fromkeys(plans(isa, group, operation, target)))
    allowed = [plan for plan in found if demands.allow(plan.scratch)]
    for plan in allowed or [min(found, key=lambda plan: plan.scratch)]:
        yield _code(isa, operation, plan)


def plans(isa: InstructionSet, group: int, operation: Product, target: Target) -> Iterator[Plan]:
    """Yield the ways to tile a product, the one expected to be fastest first."""
    rows, inner, outputs = operation.rows, operation.inner, operation.columns
    left, element = operation.left, tir.lanes_bytes(isa.panel)
    direct = isa.panel == "int8" and inner % isa.group == 0 and left.row == inner
    walk = tile.Reduction((1, 1), (0, 0), inner, 1, not direct)
    length = tile.padded_run(isa, walk)
    least = 1 if math.prod(operation.batch) >= stripe.LEAST_TILES else stripe.LEAST_TILES
    limit = max(1, target.l1d_bytes // 2 // (inner * element))
    for wanted, register_tile in product(_ROWS, tile.ranked(isa, rows, outputs, walk)[:_TILES]):
        height, vectors = register_tile
        most = max(height, min(wanted, limit) // height * height)
        shape = Geometry(
            1, 1, rows, inner, outputs, operation.result.row, 1, 1, rows, (1, 1), (0, 0), (1, 1), (1, 1), 1,
            stripe.even(rows, most, height, least), register_tile, isa.panel, isa.panel_offset, direct,
        )  # fmt: skip
        blocks = tuple(tile.column_blocks(isa.lanes, outputs, vectors, length))
        packing = Packing(inner, length, group, isa.weights, isa.lanes, blocks, operation.right)
        yield Plan(
            operation.batch, left, operation.result, shape, packing,
            operation.saturating, operation.reach < 2.0**30,
            operation.output_zero_point == -128,
        )  # fmt: skip


def _code(isa: InstructionSet, operation: Product, plan: Plan) -> KernelCode:
    shape, (height, width) = plan.shape, plan.shape.register_tile
    numbers = [operation.low, operation.high, operation.output_zero_point, *operation.zero_points]
    return KernelCode(
        key=f"product {isa.name} {isa.weights} {plan}",
        make=partial(_function, isa, plan),
        constants=(
            np.ones(operands.ones(isa, plan.packing), isa.panel),
            np.full(plan.columns, operation.multiplier, np.float32),
            np.array(numbers, np.int32),
        ),
        tiles=math.prod(plan.batch) * plan.blocks,
        scratch_bytes=plan.scratch,
        configuration=f"{height}x{width} registers, {shape.tile_columns} rows",
    )


def _function(isa: InstructionSet, plan: Plan) -> object:
    return tir.kernel(
        [
            ("int8", plan.left.size),
            ("int8", plan.packing.lie.size),
            (isa.panel, operands.ones(isa, plan.packing)),
            ("float32", plan.columns),
            ("int32", _PARAMETERS),
            ("int8", plan.result.size),
        ],
        "int8",
        partial(_body, isa, plan),
        noalias=not isa.unroll,
    )


def _body(
    isa: InstructionSet, plan: Plan, a: Buffer, b: Buffer, ones: Buffer, multiplier: Buffer,
    parameters: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr,
) -> None:  # fmt: skip
    shape, packing = plan.shape, plan.packing
    values = tir.registers(parameters, _PARAMETERS)
    left, right = values[_LEFT] + isa.panel_offset, values[_RIGHT]
    packed = tir.view(scratch, packing.dtype, 0, packing.size)
    bias = tir.view(scratch, "int32", plan.bias, plan.columns)
    terms = tir.view(scratch, "int32", plan.terms, shape.tile_columns)
    rows = tir.view(scratch, isa.panel, plan.stripe, max(1, shape.stripe_bytes // tir.lanes_bytes(isa.panel)))
    accumulators = tile.allocate(isa, shape.register_tile)
    with T.serial(begin, end) as index:
        matrix, row = index // plan.blocks, index % plan.blocks * shape.tile_columns
        with T.If(T.Or(index == begin, row == 0)), T.Then():
            first = packing.lie.offset + tir.strided(matrix, plan.batch, packing.lie.batch)
            pack(packing, b, first, packed)
            operands.biases(isa, shape, packing, accumulators[0], ones, packed, bias, left, right)
        source = plan.left.offset + tir.strided(matrix, plan.batch, plan.left.batch) + row * plan.left.row
        if shape.direct:
            where = stripe.Tile(0, 0, row, a, source)
        else:
            where = stripe.Tile(0, 0, row, rows, 0)
            operands.fill(shape, plan.left.row, a, source, row, rows)
        operands.terms(shape, where, row, right, terms)
        target = plan.result.offset + tir.strided(matrix, plan.batch, plan.result.batch)

        def pixel(_row: Expr, column: Expr, first: Expr = target + row * plan.result.row) -> Expr:
            return first + column * plan.result.row

        conv2d.Block(
            isa, shape, plan.ending, accumulators, where, lambda body: body(0), packed, bias, multiplier,
            values, None, stripe.Destination(y, pixel), lambda column: terms[column],
        ).emit()  # fmt: skip
