"""What a product's operands become before they are multiplied: rows in scratch, biases and terms."""

from collections.abc import Callable

from edgec.kernels import tir
from edgec.kernels.codegen import stripe, tile
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.conv import conv2d
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.product.packing import Packing
from edgec.kernels.tir import Buffer, Expr, T


def ones(isa: InstructionSet, packing: Packing) -> int:
    """Return how many ones columns are multiplied by: a row of the left operand, as far as it may be read."""
    return packing.length + isa.steps[0]


def biases(
    isa: InstructionSet, shape: Geometry, packing: Packing, sums: Buffer, ones: Buffer, packed: Buffer,
    bias: Buffer, left: Expr, right: Expr,
) -> None:  # fmt: skip
    """Write the biases: K * z_a * z_b - z_a * sum(b) for every column; products by ones are the sums."""
    walk, lanes = conv2d.reduction(shape), isa.lanes
    constant = left * right * packing.inner
    more = [T.alloc_buffer((shape.register_tile[1] * lanes,), "int32", scope="global")] * (
        isa.whole_rows(1) - 1
    )
    for columns in packing.blocks:
        width = columns.vectors * lanes

        def block(n: Expr, columns: tile.Columns = columns, width: int = width) -> None:
            row = [[(buffer, j * lanes) for j in range(columns.vectors)] for buffer in (sums, *more)]
            for buffer, element in (pair for one in row for pair in one):
                tir.store(buffer, element, tir.constant(0, "int32", lanes), lanes)
            offset = columns.weights_start + n * width * packing.length
            with isa.around(row):
                tile.accumulate(isa, row, ones, [0] * len(row), walk, packed, offset)
            for buffer, element in row[0]:
                total = tir.load(buffer, element, lanes)
                value = tir.broadcast(constant, lanes) - tir.broadcast(left, lanes) * total
                tir.store(bias, columns.start + n * width + element, value, lanes)

        tir.serial(columns.blocks, block)


def fill(shape: Geometry, pitch: int, a: Buffer, source: Expr, first: Expr, rows: Buffer) -> None:
    """Write the copy of a tile's rows of the left operand, converted to what is multiplied.

    They are `pitch` elements apart, from `source` on; `first` is the number of the first of them.
    """

    def row(number: Expr) -> None:
        def vector(offset: Expr, lanes: int) -> None:
            value = tir.load(a, source + number * pitch + offset, lanes)
            tir.store(rows, number * shape.channels + offset, stripe.convert(shape, value, lanes), lanes)

        tir.vectors(shape.channels, stripe.LANES, vector)

    each_row(shape, first, row)


def terms(shape: Geometry, where: stripe.Tile, first: Expr, right: Expr, terms: Buffer) -> None:
    """Write the rows' terms: -z_b * sum(a), and 0 without the zero point z_b."""
    total = T.alloc_buffer((1,), "int32", scope="global")

    def row(number: Expr) -> None:
        tir.store(total, 0, T.int32(0))
        with T.If(right != 0), T.Then(), T.serial(0, shape.channels) as k:
            element = where.source[where.origin + number * shape.channels + k]
            tir.store(total, 0, total[0] + T.cast(element, "int32"))
        tir.store(terms, number, T.int32(0) - right * total[0])

    each_row(shape, first, row)


def each_row(shape: Geometry, first: Expr, body: Callable[[Expr], None]) -> None:
    """Write the loop over a tile's rows; the last tile of a matrix may have fewer."""
    if shape.columns % shape.tile_columns:
        with T.serial(0, T.min(shape.tile_columns, shape.columns - first)) as row:
            body(row)
    else:
        tir.serial(shape.tile_columns, body)
