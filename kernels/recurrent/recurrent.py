"""LSTM, GRU and RNN: products of a block of steps' inputs at once, then step by step.

A tile is a block of the batch, which goes over all steps. The inputs of some steps are multiplied together,
as rows of one product, so that their weights are read once; then each step multiplies the hidden state, and
puts both sums through the gates' curves.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgec.kernels import tir
from edgec.kernels.codegen import stripe
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.isa.assembly import linked
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Conv2d, Demands, Recurrent, RecurrentKind
from edgec.kernels.operations.recurrent import CURVE_BITS, CURVE_STEPS, CURVES
from edgec.kernels.recurrent.products import Multiplier, Product, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

_BATCH = 16
"""Most elements of a batch that a tile computes."""
_LANES = 8
"""Numbers of a state that are computed at once where there are such registers; LLVM splits them."""

_ZERO_POINT, _STATE_ZERO_POINT, _MULTIPLIER, _STATE_MULTIPLIER, _RESET, _PARAMETERS = range(6)
"""What the code reads at run time; the multipliers are bits of float32."""


@dataclass(frozen=True)
class Plan:
    """A recurrent layer as the loops see it; equal plans share their code."""

    kind: RecurrentKind
    steps: int
    batch: int
    reverse: bool
    rows: int
    """Elements of the batch that a tile computes, which divide it."""
    block: int
    """Steps whose inputs are multiplied together."""
    shapes: tuple[Geometry, ...]
    """Products as convolutions by a 1x1 window of an image of one row: pixels are rows."""
    fraction: int
    cell_shift: int
    initial_hidden: bool
    initial_cell: bool
    lanes: int

    @property
    def hidden(self) -> int:
        """Numbers of a hidden state."""
        return self.shapes[1].channels

    @property
    def gates(self) -> int:
        """Gates of a step."""
        return len(CURVES[self.kind])

    @property
    def blocks(self) -> int:
        """Blocks of steps."""
        return -(-self.steps // self.block)


@dataclass(frozen=True)
class _Scratch:
    """First bytes of what lies in the scratch, in whole words."""

    panels: tuple[int, ...]
    """Each product's."""
    results: tuple[int, ...]
    """Each product's."""
    state: int
    spare: int
    """All products'."""
    bytes: int


def _scratch(by: Multiplier, plan: Plan) -> _Scratch:
    sizes = [shape.stripe_bytes for shape in plan.shapes]
    sizes += [2 * shape.tile_columns * pitch(by, shape) for shape in plan.shapes]
    sizes += [2 * plan.rows * plan.hidden, 4 * _spare(by, plan)]
    *ends, last = (int(end) for end in np.cumsum([0] + [-(-size // 4) * 4 for size in sizes]))
    count = len(plan.shapes)
    return _Scratch(tuple(ends[:count]), tuple(ends[count : 2 * count]), ends[-2], ends[-1], last)


def _spare(by: Multiplier, plan: Plan) -> int:
    return max(by.spare_words(shape) for shape in plan.shapes)


def codes(
    by: Multiplier, operation: Recurrent, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Yield code of a recurrent layer on one instruction set."""
    if not all(map(by.accepts, operation.products)):
        return
    found = list(dict.fromkeys(_plans(by, operation, target)))
    allowed = [plan for plan in found if demands.allow(_scratch(by, plan).bytes)]
    for plan in allowed or found[-1:]:
        yield _code(by, operation, plan)


def _plans(by: Multiplier, operation: Recurrent, target: Target) -> Iterator[Plan]:
    """Yield the ways to tile a layer, the one expected to be fastest first and of the least scratch last."""
    rows = next(rows for rows in range(min(_BATCH, operation.batch), 0, -1) if operation.batch % rows == 0)
    lanes = tir.lanes_on(target, _LANES) if by.lanes_of_states else 1
    of_input, *of_hidden = operation.products
    for wanted in by.rows:
        register_tile = by.register_tile(of_input, min(wanted, rows * operation.steps))
        # Blocks but for the last are whole register tiles.
        unit = register_tile[0] // math.gcd(register_tile[0], rows)
        block = stripe.even(operation.steps, max(unit, wanted // rows // unit * unit), unit, least=1)
        shapes = (
            _shape(by, of_input, rows * operation.steps, rows * block, register_tile),
            *(_shape(by, one, rows, rows, by.register_tile(one, rows)) for one in of_hidden),
        )
        yield Plan(
            operation.kind, operation.steps, operation.batch, operation.reverse, rows, block, shapes,
            operation.fraction, operation.cell_shift, operation.initial_hidden, operation.initial_cell, lanes,
        )  # fmt: skip


def _shape(
    by: Multiplier, product: Conv2d, rows: int, together: int, register_tile: tuple[int, int]
) -> Geometry:
    inner, outputs = int(product.weights.shape[3]), len(product.weights)
    return Geometry(
        1, 1, rows, inner, outputs, outputs, 1, 1, rows, (1, 1), (0, 0), (1, 1), (1, 1), 1, together,
        register_tile, by.panel, by.panel_offset,
    )  # fmt: skip


def _code(by: Multiplier, operation: Recurrent, plan: Plan) -> KernelCode:
    products = zip(operation.products, plan.shapes, strict=True)
    constants = [part for product, shape in products for part in by.constants(product, shape)]
    factors = [operation.multiplier, operation.state_multiplier, operation.multiplier / (1 << CURVE_BITS)]
    numbers = np.array([operation.output_zero_point, operation.state_zero_point], np.int32)
    return KernelCode(
        key=f"recurrent {by.name} {by.dtypes} {plan}",
        make=partial(_function, by, plan, [part.size for part in constants]),
        constants=(
            *constants,
            operation.curves,
            np.concatenate([numbers, np.array(factors, np.float32).view(np.int32)]),
        ),
        tiles=plan.batch // plan.rows,
        scratch_bytes=_scratch(by, plan).bytes,
        configuration=f"{plan.block} steps",
    )


def _function(by: Multiplier, plan: Plan, sizes: Sequence[int]) -> object:
    state = ("int8", plan.batch * plan.hidden)
    return tir.kernel(
        [
            ("int8", plan.steps * plan.batch * plan.shapes[0].channels),
            *[state] * plan.initial_hidden,
            *[state] * plan.initial_cell,
            *zip(by.dtypes * len(plan.shapes), sizes, strict=True),
            ("int32", (max(CURVES[plan.kind]) + 1 + (plan.kind == "lstm")) * 256),
            ("int32", _PARAMETERS),
            ("int8", plan.steps * plan.batch * plan.hidden),
        ],
        "int8",
        lambda *buffers: linked(by.functions, partial(_body, by, plan, *buffers)),
        noalias=not by.aliased,
    )


def _body(by: Multiplier, plan: Plan, x: Buffer, *buffers: Any) -> None:
    *others, curves, parameters, y, scratch, begin, end = buffers
    initial = [others.pop(0) if given else None for given in (plan.initial_hidden, plan.initial_cell)]
    numbers = tir.registers(parameters, _PARAMETERS)
    at, each = _scratch(by, plan), len(by.dtypes)
    spare = tir.view(scratch, "int32", at.spare, max(1, _spare(by, plan)))
    products = [
        Product(
            by, shape, others[each * i : each * (i + 1)],
            tir.view(scratch, by.panel, at.panels[i], shape.stripe_bytes // tir.lanes_bytes(by.panel)),
            tir.view(scratch, "int16", at.results[i], shape.tile_columns * pitch(by, shape)),
            spare, by.accumulators(shape),
        )
        for i, shape in enumerate(plan.shapes)
    ]  # fmt: skip
    state = tir.view(scratch, "int16", at.state, plan.rows * plan.hidden)
    with T.serial(begin, end) as index:
        first = index * plan.rows
        layer = _Layer(by, plan, numbers, curves, products, state, y, first)
        layer.start(*initial)
        with T.serial(0, plan.blocks) as number:
            begin_step = (plan.blocks - 1 - number if plan.reverse else number) * plan.block
            count: Expr = plan.block
            if plan.steps % plan.block:
                count = T.min(plan.block, plan.steps - begin_step)
            layer.fill(x, begin_step, count)
            by.emit(products[0], begin_step * plan.rows)
            with T.serial(0, count) as done:
                in_block = count - 1 - done if plan.reverse else done
                layer.step(begin_step + in_block, in_block)


@dataclass(frozen=True, eq=False)
class _Layer:
    """One tile of the batch on its way over the steps."""

    by: Multiplier
    plan: Plan
    numbers: list[Expr]
    curves: Buffer
    products: Sequence[Product]
    state: Buffer
    y: Buffer
    first: Expr
    """The tile's first element of the batch."""

    def start(self, hidden: Buffer | None, cell: Buffer | None) -> None:
        """Write the initial states: the hidden one into its panel, the other as int16."""
        plan = self.plan
        zeros = self.numbers[_ZERO_POINT], self.numbers[_STATE_ZERO_POINT]

        def row(number: Expr) -> None:
            def vector(offset: Expr, lanes: int) -> None:
                place = (self.first + number) * plan.hidden + offset
                codes = [
                    tir.broadcast(T.cast(zero, "int8"), lanes)
                    if buffer is None
                    else tir.load(buffer, place, lanes)
                    for buffer, zero in zip((hidden, cell), zeros, strict=True)
                ]
                self.products[1].put(number, offset, codes[0], lanes)
                begun = codes[plan.kind == "lstm"]
                centred = tir.cast(begun, "int32", lanes) - tir.broadcast(zeros[1], lanes)
                value = self._rounded(centred, _STATE_MULTIPLIER, T.int32(0), 16, lanes)
                self._store_state(number, offset, value, lanes)

            tir.vectors(plan.hidden, plan.lanes, vector)

        tir.serial(plan.rows, row)

    def fill(self, x: Buffer, step: Expr, count: Expr) -> None:
        """Write the copy of the inputs of some steps into their panel."""
        plan, panel = self.plan, self.products[0]
        inputs = panel.shape.channels
        with T.serial(0, count) as s:

            def row(number: Expr) -> None:
                def vector(offset: Expr, lanes: int) -> None:
                    place = ((step + s) * plan.batch + self.first + number) * inputs + offset
                    panel.put(s * plan.rows + number, offset, tir.load(x, place, lanes), lanes)

                tir.vectors(inputs, stripe.LANES, vector)

            tir.serial(plan.rows, row)

    def step(self, step: Expr, in_block: Expr) -> None:
        """Write one step; `in_block` is its number in the block whose inputs are multiplied."""
        plan = self.plan
        self.by.emit(self.products[1], T.int32(0))

        def rows(body: "partial[None]") -> None:
            def row(number: Expr) -> None:
                read = in_block * plan.rows + number
                written = (step * plan.batch + self.first + number) * plan.hidden
                tir.vectors(plan.hidden, plan.lanes, partial(body, number, read, written))

            tir.serial(plan.rows, row)

        if plan.kind == "gru":
            rows(partial(_Layer._reset, self))
            self.by.emit(self.products[2], T.int32(0))
        rows(partial(_UPDATES[plan.kind], self))

    def _reset(self, row: Expr, read: Expr, written: Expr, offset: Expr, lanes: int) -> None:
        del written
        r = self._gate(1, row, read, offset, lanes)
        value = r * self._load_state(row, offset, lanes)
        self.products[2].put(row, offset, self._codes(value, _RESET, lanes), lanes)

    def lstm(self, row: Expr, read: Expr, written: Expr, offset: Expr, lanes: int) -> None:
        """Update cell and hidden state."""
        i, o, f, c = (self._gate(number, row, read, offset, lanes) for number in range(4))
        cell = self._mixed(f, self._load_state(row, offset, lanes), i, c, lanes)
        self._store_state(row, offset, cell, lanes)
        value = o * self._curve(2, self._shifted(self._load_state(row, offset, lanes), lanes), lanes)
        self._store(row, written, offset, value, lanes)

    def gru(self, row: Expr, read: Expr, written: Expr, offset: Expr, lanes: int) -> None:
        """Update the hidden state."""
        z = self._gate(0, row, read, offset, lanes)
        if self.plan.kind == "gru":
            added = self.products[2].load(row, offset, lanes)
        else:
            r = self._gate(1, row, read, offset, lanes)
            of_hidden = self.products[1].load(row, 2 * self.plan.hidden + offset, lanes)
            added = (r * of_hidden + tir.constant(1 << (CURVE_BITS - 1), "int32", lanes)) >> tir.constant(
                CURVE_BITS, "int32", lanes
            )
        argument = self.products[0].load(read, 2 * self.plan.hidden + offset, lanes) + added
        fresh = self._curve(CURVES[self.plan.kind][2], argument, lanes)
        rest = tir.constant(1 << CURVE_BITS, "int32", lanes) - z
        state = self._mixed(z, self._load_state(row, offset, lanes), rest, fresh, lanes)
        self._store_state(row, offset, state, lanes)
        self._store(row, written, offset, self._load_state(row, offset, lanes), lanes)

    def rnn(self, row: Expr, read: Expr, written: Expr, offset: Expr, lanes: int) -> None:
        """Update the hidden state."""
        self._store(row, written, offset, self._gate(0, row, read, offset, lanes), lanes)

    def _gate(self, number: int, row: Expr, read: Expr, offset: Expr, lanes: int) -> Expr:
        """Return a gate's values, in units of 2**-15."""
        output = number * self.plan.hidden + offset
        argument = self.products[0].load(read, output, lanes) + self.products[1].load(row, output, lanes)
        return self._curve(CURVES[self.plan.kind][number], argument, lanes)

    def _curve(self, which: int, argument: Expr, lanes: int) -> Expr:
        """Return a curve's values; see `reference.recurrent.curve`."""
        place = T.alloc_buffer((lanes,), "int32", scope="global")
        entries = T.alloc_buffer((lanes,), "int32", scope="global")
        low, high = (tir.constant(end, "int32", lanes) for end in (-CURVE_STEPS, CURVE_STEPS - 1))
        zero = tir.constant(CURVE_STEPS, "int32", lanes)
        tir.store(place, 0, T.max(T.min(argument, high), low) + zero, lanes)
        for lane in range(lanes):
            tir.store(entries, lane, self.curves[which * 256 + (place[lane] >> 7)])
        entry, rest = tir.load(entries, 0, lanes), tir.load(place, 0, lanes)
        half = tir.constant(16, "int32", lanes)
        slope = (entry << half) >> half
        within = rest & tir.constant(127, "int32", lanes)
        rounded = slope * within + tir.constant(64, "int32", lanes)
        value = T.alloc_buffer((lanes,), "int32", scope="global")
        tir.store(value, 0, (entry >> half) + (rounded >> tir.constant(7, "int32", lanes)), lanes)
        return tir.load(value, 0, lanes)

    def _mixed(self, forget: Expr, state: Expr, fresh: Expr, value: Expr, lanes: int) -> Expr:
        """Return forget * state + fresh * value as an int16 state."""
        shift = tir.constant(CURVE_BITS - self.plan.fraction, "int32", lanes)
        total = forget * state + ((fresh * value) >> shift)
        rounded = (total + tir.constant(1 << (CURVE_BITS - 1), "int32", lanes)) >> tir.constant(
            CURVE_BITS, "int32", lanes
        )
        low, high = (tir.constant(end, "int32", lanes) for end in (-(2**15), 2**15 - 1))
        return T.max(T.min(rounded, high), low)

    def _shifted(self, cell: Expr, lanes: int) -> Expr:
        """Return the cell in steps of its curve."""
        shift = self.plan.cell_shift
        if shift <= 0:
            return cell << tir.constant(-shift, "int32", lanes)
        half = tir.constant(1 << (shift - 1), "int32", lanes)
        return (cell + half) >> tir.constant(shift, "int32", lanes)

    def _load_state(self, row: Expr, offset: Expr, lanes: int) -> Expr:
        return tir.cast(tir.load(self.state, row * self.plan.hidden + offset, lanes), "int32", lanes)

    def _store_state(self, row: Expr, offset: Expr, value: Expr, lanes: int) -> None:
        place = row * self.plan.hidden + offset
        tir.store(self.state, place, tir.cast(value, "int16", lanes), lanes)

    def _store(self, row: Expr, written: Expr, offset: Expr, value: Expr, lanes: int) -> None:
        """Write the new hidden state: the step's result, and what the next one multiplies."""
        codes = self._codes(value, _MULTIPLIER, lanes)
        tir.store(self.y, written + offset, codes, lanes)
        self.products[1].put(row, offset, tir.load(self.y, written + offset, lanes), lanes)

    def _codes(self, value: Expr, multiplier: int, lanes: int) -> Expr:
        """Return values as codes of the hidden state."""
        codes = self._rounded(value, multiplier, self.numbers[_ZERO_POINT], 8, lanes)
        return tir.cast(codes, "int8", lanes)

    def _rounded(self, value: Expr, multiplier: int, zero_point: Expr, bits: int, lanes: int) -> Expr:
        factor = tir.broadcast(T.reinterpret("float32", self.numbers[multiplier]), lanes)
        return self.by.rounded(value, factor, zero_point, bits, lanes)


_UPDATES: dict[RecurrentKind, Callable[..., None]] = {
    "lstm": _Layer.lstm, "gru": _Layer.gru, "gru-linear-before-reset": _Layer.gru, "rnn": _Layer.rnn,
}  # fmt: skip
"""What a step computes."""
