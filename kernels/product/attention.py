"""Attention: rows of scores, their exponentials, and values weighed by them, without the matrix of scores.

A tile is a block of queries of one head. Where a thread begins with a head it packs keys and values; for each
tile it computes whole rows of scores, so that their maximum is known, and then works as two products do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgec.kernels import tir
from edgec.kernels.codegen import stripe, tile
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.conv import conv2d
from edgec.kernels.conv.epilogue import Epilogue
from edgec.kernels.isa import fixed, generic
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.isa.tables import TableSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Attention, Demands, Matrices
from edgec.kernels.product import operands
from edgec.kernels.product.packing import Packing, pack
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

_QUERIES = (32, 16, 64)
"""Queries of a tile, the most likely fastest first."""

_LANES = 16
"""Scores that are scaled at once; LLVM splits them into what the target has."""

_LOW, _HIGH, _ZERO_POINT, _QUERY, _KEY, _VALUE, _SCORE, _MULTIPLIER, _PARAMETERS = range(9)
"""What the code reads at run time; the last two are bits of float32."""


@dataclass(frozen=True)
class Plan:
    """An attention as the loops see it; equal plans share their code."""

    batch: tuple[int, ...]
    query: Matrices
    mask: Matrices | None
    result: Matrices
    scores: Geometry
    """Scores as a convolution by a 1x1 window of an image of one row: pixels are queries, channels keys."""
    keys: Packing
    values: Geometry
    """The weighted values, likewise: channels are a value's numbers."""
    packed_values: Packing
    ending: Epilogue

    @property
    def blocks(self) -> int:
        """Tiles of a head."""
        return self.scores.blocks[1]

    @property
    def pitch(self) -> int:
        """Scores of a row, with those that whole vectors hold."""
        return _padded(self.keys)


@dataclass(frozen=True)
class _Scratch:
    """First bytes of what lies in the scratch; int32 and float32 are aligned."""

    keys: int
    key_bias: int
    values: int
    value_bias: int
    queries: int
    terms: int
    scores: int
    weights: int
    factors: int
    bytes: int


def _scratch(plan: Plan) -> _Scratch:
    rows = plan.scores.tile_columns
    sizes = [
        plan.keys.size * tir.lanes_bytes(plan.keys.dtype),
        4 * _padded(plan.keys),
        plan.packed_values.size * tir.lanes_bytes(plan.packed_values.dtype),
        4 * _padded(plan.packed_values),
        plan.scores.stripe_bytes,
        4 * rows,
        4 * rows * plan.pitch,
        (rows * plan.values.channels + stripe.SLACK) * tir.lanes_bytes(plan.values.dtype),
        4 * rows,
    ]
    ends = np.cumsum([0] + [-(-size // 4) * 4 for size in sizes])
    return _Scratch(*(int(end) for end in ends))


def _padded(packing: Packing) -> int:
    """Return the columns of a packed operand, with those that complete its last vectors."""
    return sum(columns.blocks * columns.vectors for columns in packing.blocks) * packing.lanes


def codes(
    isa: InstructionSet, group: int, tables: TableSet | None, integers: bool, operation: Attention,
    target: Target, demands: Demands = FREE,
) -> Iterator[KernelCode]:  # fmt: skip
    """Yield code of an attention on one instruction set, whose packed weights are `group` rows side by side.

    `tables` look exponentials up, one by one without; with `integers` no float instruction is used.
    """
    found = list(dict.fromkeys(plans(isa, group, operation, target)))
    allowed = [plan for plan in found if demands.allow(_scratch(plan).bytes)]
    for plan in allowed or [min(found, key=lambda plan: _scratch(plan).bytes)]:
        yield _code(isa, tables, integers, operation, plan)


def plans(isa: InstructionSet, group: int, operation: Attention, target: Target) -> Iterator[Plan]:
    """Yield the ways to tile an attention, the one expected to be fastest first."""
    rows, inner, keys, columns = operation.rows, operation.inner, operation.length, operation.columns
    direct = isa.panel == "int8" and inner % isa.group == 0 and operation.queries.row == inner
    element = tir.lanes_bytes(isa.panel)
    least = 1 if math.prod(operation.batch) >= stripe.LEAST_TILES else stripe.LEAST_TILES
    first, *_ = tile.ranked(isa, rows, keys, _walk(inner, direct))
    # Tiles are whole register tiles of both products.
    alike = [shape for shape in isa.tiles if shape[0] == first[0]]
    second = min(alike, key=tile.ranked(isa, rows, columns, _walk(keys, False)).index)
    ending = Epilogue(
        False, operation.saturating, operation.reach < 2.0**30, False, operation.output_zero_point == -128
    )
    for wanted in _QUERIES:
        most = min(wanted, max(1, target.l2_bytes // 2 // (keys * (4 + element)))) // first[0] * first[0]
        queries = stripe.even(rows, max(most, first[0]), first[0], least)

        def side(
            inner: int, outputs: int, pitch: int, register_tile: tuple[int, int], direct: bool,
            queries: int = queries,
        ) -> Geometry:  # fmt: skip
            return Geometry(
                1, 1, rows, inner, outputs, pitch, 1, 1, rows, (1, 1), (0, 0), (1, 1), (1, 1), 1, queries,
                register_tile, isa.panel, isa.panel_offset, direct,
            )  # fmt: skip

        scores = side(inner, keys, keys, first, direct)
        values = side(keys, columns, operation.result.row, second, False)
        yield Plan(
            operation.batch, operation.queries, operation.mask, operation.result, scores,
            _packing(isa, group, scores, operation.keys), values,
            _packing(isa, group, values, operation.values), ending,
        )  # fmt: skip


def _walk(inner: int, direct: bool) -> tile.Reduction:
    return tile.Reduction((1, 1), (0, 0), inner, 1, not direct)


def _packing(isa: InstructionSet, group: int, shape: Geometry, lie: Matrices) -> Packing:
    length = tile.padded_run(isa, _walk(shape.channels, shape.direct))
    blocks = tuple(tile.column_blocks(isa.lanes, shape.outputs, shape.register_tile[1], length))
    return Packing(shape.channels, length, group, isa.weights, isa.lanes, blocks, lie)


def _code(
    isa: InstructionSet, tables: TableSet | None, integers: bool, operation: Attention, plan: Plan
) -> KernelCode:
    numbers = [operation.low, operation.high, operation.output_zero_point, *operation.zero_points]
    factors = np.array([operation.score_multiplier, operation.multiplier], np.float32).view(np.int32)
    # By a distance from the maximum less 128: the weights' codes, whose zero point is -128.
    table = (operation.table ^ 128).view(np.int8)
    ones = max(operands.ones(isa, plan.keys), operands.ones(isa, plan.packed_values))
    mask = () if operation.mask is None else (operation.mask_steps.astype(np.int32),)
    return KernelCode(
        key=f"attention {isa.name} {isa.weights} {tables.name if tables else ''} {integers} {plan}",
        make=partial(_function, isa, tables, integers, plan, ones),
        constants=(
            np.ones(ones, isa.panel),
            tables.pack(table) if tables else table,
            *mask,
            np.concatenate([np.array(numbers, np.int32), factors]),
        ),
        tiles=math.prod(plan.batch) * plan.blocks,
        scratch_bytes=_scratch(plan).bytes,
        configuration=f"{plan.scores.tile_columns} queries",
    )


def _function(isa: InstructionSet, tables: TableSet | None, integers: bool, plan: Plan, ones: int) -> object:
    sizes = [
        ("int8", plan.query.size),
        ("int8", plan.keys.lie.size),
        ("int8", plan.packed_values.lie.size),
        *([("int8", plan.mask.size)] if plan.mask else []),
        (isa.panel, ones),
        ("int8", tables.bytes if tables else 256),
        *([("int32", 256)] if plan.mask else []),
        ("int32", _PARAMETERS),
        ("int8", plan.result.size),
    ]
    return tir.kernel(sizes, "int8", partial(_body, isa, tables, integers, plan), noalias=not isa.unroll)


def _body(isa: InstructionSet, tables: TableSet | None, integers: bool, plan: Plan, *buffers: Any) -> None:
    query, key, value, *others, parameters, y, scratch, begin, end = buffers
    mask, ones, table, mask_steps = others if plan.mask else (None, *others, None)
    at, rows = _scratch(plan), plan.scores.tile_columns
    numbers = tir.registers(parameters, _PARAMETERS)
    left = [numbers[_QUERY] + isa.panel_offset, T.int32(isa.panel_offset - 128)]
    packed_keys = tir.view(scratch, plan.keys.dtype, at.keys, plan.keys.size)
    key_bias = tir.view(scratch, "int32", at.key_bias, _padded(plan.keys))
    packed_values = tir.view(scratch, plan.packed_values.dtype, at.values, plan.packed_values.size)
    value_bias = tir.view(scratch, "int32", at.value_bias, _padded(plan.packed_values))
    element = tir.lanes_bytes(isa.panel)
    queries = tir.view(scratch, isa.panel, at.queries, max(1, plan.scores.stripe_bytes // element))
    terms = tir.view(scratch, "int32", at.terms, rows)
    scores = tir.view(scratch, "int32", at.scores, rows * plan.pitch)
    weights = tir.view(scratch, isa.panel, at.weights, rows * plan.values.channels + stripe.SLACK)
    factors = tir.view(scratch, "float32", at.factors, rows)
    sums = [tile.allocate(isa, shape.register_tile) for shape in (plan.scores, plan.values)]
    exponentials = _Rows(plan, tables, integers, numbers, table, mask, mask_steps, scores, weights)

    with T.serial(begin, end) as index:
        head, first = index // plan.blocks, index % plan.blocks * rows
        with T.If(T.Or(index == begin, first == 0)), T.Then():
            for packing, shape, source, packed, bias, accumulators, zero_points in (
                (plan.keys, plan.scores, key, packed_keys, key_bias, sums[0], (left[0], numbers[_KEY])),
                (plan.packed_values, plan.values, value, packed_values, value_bias, sums[1],
                 (left[1], numbers[_VALUE])),
            ):  # fmt: skip
                start = packing.lie.offset + tir.strided(head, plan.batch, packing.lie.batch)
                pack(packing, source, start, packed)
                operands.biases(isa, shape, packing, accumulators[0], ones, packed, bias, *zero_points)
        start = plan.query.offset + tir.strided(head, plan.batch, plan.query.batch) + first * plan.query.row
        if plan.scores.direct:
            where = stripe.Tile(0, 0, first, query, start)
        else:
            where = stripe.Tile(0, 0, first, queries, 0)
            operands.fill(plan.scores, plan.query.row, query, start, first, queries)
        operands.terms(plan.scores, where, first, numbers[_KEY], terms)

        def store_sums(row: Expr, channel: Expr, vectors: Sequence[Expr]) -> None:
            for number, vector in enumerate(vectors):
                tir.store(scores, row * plan.pitch + channel + number * isa.lanes, vector, isa.lanes)

        nothing = stripe.Destination(y, lambda row, column: T.int32(0))
        conv2d.Block(
            isa, plan.scores, plan.ending, sums[0], where, lambda body: body(0), packed_keys, key_bias, None,
            numbers, None, nothing, lambda column: terms[column], store_sums=store_sums,
        ).emit()  # fmt: skip

        def row(number: Expr) -> None:
            total = exponentials.emit(number, head, first)
            term = T.int32(0) - numbers[_VALUE] * (total + left[1] * plan.values.channels)
            tir.store(terms, number, term)
            tir.store(factors, number, _quotient(numbers[_MULTIPLIER], total, integers))

        operands.each_row(plan.scores, first, row)
        target = plan.result.offset + tir.strided(head, plan.batch, plan.result.batch)

        def pixel(_row: Expr, column: Expr, start: Expr = target + first * plan.result.row) -> Expr:
            return start + column * plan.result.row

        conv2d.Block(
            isa, plan.values, plan.ending, sums[1], stripe.Tile(0, 0, first, weights, 0),
            lambda body: body(0), packed_values, value_bias, None, numbers, None,
            stripe.Destination(y, pixel), lambda column: terms[column],
            row_scale=lambda column: factors[column],
        ).emit()  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Rows:
    """From rows of sums to rows of weights."""

    plan: Plan
    tables: TableSet | None
    integers: bool
    numbers: list[Expr]
    table: Buffer
    mask: Buffer | None
    mask_steps: Buffer | None
    scores: Buffer
    weights: Buffer

    def emit(self, number: Expr, head: Expr, first: Expr) -> Expr:
        """Write row `number` of the tile, which begins at query `first`; return the sum of its weights."""
        keys, row = self.plan.values.channels, number * self.plan.pitch
        lanes = min(_LANES, 1 << (keys.bit_length() - 1))
        greatest = T.alloc_buffer((lanes,), "int32", scope="global")
        tir.store(greatest, 0, tir.constant(-(2**17), "int32", lanes), lanes)
        masked = None
        if self.plan.mask is not None:
            lie = self.plan.mask
            masked = lie.offset + tir.strided(head, self.plan.batch, lie.batch) + (first + number) * lie.row

        def score(offset: Expr, lanes: int) -> None:
            value = self._steps(tir.load(self.scores, row + offset, lanes), lanes)
            if masked is not None:
                value = value + self._masked(masked + offset, lanes)
            tir.store(self.scores, row + offset, value, lanes)
            stored = tir.load(self.scores, row + offset, lanes)
            tir.store(greatest, 0, T.max(tir.load(greatest, 0, lanes), stored), lanes)

        tir.vectors(keys, lanes, score)
        most = greatest[0]
        for lane in range(1, lanes):
            most = T.max(most, greatest[lane])
        tir.store(greatest, 0, most)
        return self._weights(number, row, keys, greatest[0])

    def _steps(self, sums: Expr, lanes: int) -> Expr:
        """Return sums in steps of the table, cut to 16 bits."""
        bounds = T.int32(-32767), T.int32(32767), T.int32(0)
        if self.integers:
            mantissa, shift = fixed.fixed_point(tir.broadcast(self.numbers[_SCORE], lanes), lanes)
            product = tir.cast(sums, "int64", lanes) * tir.cast(mantissa, "int64", lanes)
            return fixed.shift_and_clamp(product, shift, bounds, lanes)
        factor = tir.broadcast(T.reinterpret("float32", self.numbers[_SCORE]), lanes)
        return generic.round_and_clamp(tir.cast(sums, "float32", lanes) * factor, bounds, lanes)

    def _masked(self, start: Expr, lanes: int) -> Expr:
        """Return what the mask adds; the entries are looked up one by one."""
        assert self.mask is not None, "there is one"
        assert self.mask_steps is not None, "there is one"
        entries = [self.mask_steps[T.cast(self.mask[start + lane], "int32") + 128] for lane in range(lanes)]
        return T.Shuffle(entries, list(range(lanes))) if lanes > 1 else entries[0]

    def _weights(self, number: Expr, row: Expr, keys: int, most: Expr) -> Expr:
        """Write the weights of a row, and return their sum."""
        shape, tables = self.plan.values, self.tables
        width = tables.lanes if tables else 4
        total = T.alloc_buffer((width,), "int32", scope="global")
        tir.store(total, 0, tir.constant(0, "int32", width), width)

        def weigh(offset: Expr, lanes: int) -> None:
            below = tir.broadcast(most, lanes) - tir.load(self.scores, row + offset, lanes)
            index = T.min(below, tir.constant(255, "int32", lanes)) - tir.constant(128, "int32", lanes)
            if tables and lanes == tables.lanes:
                codes = tables.look_up(self.table, 0, tir.cast(index, "int8", lanes))
            elif lanes == 1:
                codes = self.table[index + 128]
            else:
                entries = [self.table[tir.shuffle(index, [lane]) + 128] for lane in range(lanes)]
                codes = T.Shuffle(entries, list(range(lanes)))
            tir.store(self.weights, number * keys + offset, stripe.convert(shape, codes, lanes), lanes)
            stored = tir.cast(tir.load(self.weights, number * keys + offset, lanes), "int32", lanes)
            values = stored + tir.constant(128 - shape.offset, "int32", lanes)
            tir.store(total, 0, tir.load(total, 0, lanes) + values, lanes)

        tir.vectors(keys, width, weigh)
        everything = total[0]
        for lane in range(1, min(width, keys)):
            everything = everything + total[lane]
        tir.store(total, 0, everything)
        return total[0]


def _quotient(multiplier: Expr, total: Expr, integers: bool) -> Expr:
    """Return the multiplier, of which these are the bits, divided by a sum; see `reference.attention`."""
    if not integers:
        return T.reinterpret("float32", multiplier) / T.cast(total, "float32")
    free = tir.intrinsic("int32", "llvm.ctlz.i32", total, T.bool(True)) - 1
    reciprocal = T.cast(
        T.truncdiv(T.uint32(1 << 31), T.reinterpret("uint32", (total << free) >> 15)), "int64"
    )
    mantissa, shift = fixed.fixed_point(multiplier, 1)
    product = T.cast(reciprocal * T.cast(mantissa, "int64") >> T.int64(15), "int32")
    more = product >> 24
    exponent = T.int32(150) - (shift + 31 - free - more)
    bits = (exponent << 23) | ((product >> more) & T.int32(0x7FFFFF))
    return T.reinterpret("float32", T.Select(exponent > 0, bits, T.int32(0)))
