"""Chains of convolutions in one pass: between two of them lies a stripe of rows, never a whole tensor.

A step computes some rows of the last convolution's output. Of each of the others it computes the rows that
this takes, straight into the stripe that the next one reads: padded, in the dtype that its products want.
Rows that neighbouring steps share are moved up within the stripe; only the first step of a range of tiles,
whose predecessor another thread may have had, computes all of them itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edgec.arrays import Array
from edgec.kernels import tir
from edgec.kernels.codegen import stripe, tile
from edgec.kernels.codegen.stripe import LANES, SLACK, Destination, Geometry, Tile
from edgec.kernels.conv import conv2d, depthwise, epilogue
from edgec.kernels.conv.epilogue import Epilogue
from edgec.kernels.isa.base import DepthwiseSet, InstructionSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Chain, Conv2d, Demands
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Elements of the scratch by bytes of the L1 cache, the most likely fastest first: they stream from the L2
# cache, of which they may take half, and where steps are of more rows, a smaller part of them is moved.
_SHARES = (3.0, 6.0, 1.5)
# Adjacent pixels of a depthwise convolution.
_PIXELS = (4, 3, 2)
# A chain is cut into more tiles than threads need at least, unless more than this part of their rows would be
# computed twice.
_TWICE = 1 / 8


@dataclass(frozen=True)
class Stage:
    """One convolution of a chain: as its loops see it, and what it keeps from one step to the next."""

    shape: Geometry
    """`rows` and `columns` are those that are read; `tile_rows` what the first step of a tile computes."""
    ending: Epilogue
    depthwise: bool
    start: int = 0
    """First element of its stripe in the scratch."""
    advance: int = 0
    """Input rows from one step's last to the next one's."""
    kept: int = 0
    """How many of the stripe's rows the step before has left."""
    fresh: int = 0
    """Those that are new, and come last."""

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the window, dilation included."""
        (rows, columns), (down, right) = self.shape.kernel, self.shape.dilations
        return (rows - 1) * down + 1, (columns - 1) * right + 1

    @property
    def read(self) -> tuple[int, int]:
        """Rows and columns of the input that are read."""
        shape = self.shape
        rows = (shape.rows - 1) * shape.strides[0] + self.reach[0] - shape.pads[0]
        columns = (shape.columns - 1) * shape.strides[1] + self.reach[1] - shape.pads[1]
        return min(shape.in_rows, rows), min(shape.in_columns, columns)


@dataclass(frozen=True)
class ChainPlan:
    """A chain cut into tiles of some steps each."""

    stages: tuple[Stage, ...]
    rows: int = 0
    """Output rows of a step."""
    steps: int = 0
    """Steps of a tile."""

    @property
    def bands(self) -> int:
        """Tiles of an image."""
        return -(-self.image_steps // self.steps)

    @property
    def image_steps(self) -> int:
        """Steps of an image."""
        return -(-self.stages[-1].shape.rows // self.rows)

    @property
    def elements(self) -> int:
        """Elements of the scratch."""
        last = self.stages[-1]
        return last.start + _stripe(last.shape)

    def of(self, rows: int) -> "ChainPlan":
        """Return the plan with steps of `rows` rows."""
        computed = fresh = advance = rows
        stages: list[Stage] = []
        for stage in reversed(self.stages):
            shape = replace(stage.shape, tile_rows=computed)
            needed = (fresh - 1) * shape.strides[0] + stage.reach[0]
            advance *= shape.strides[0]
            kept = max(0, needed - advance)
            fresh = needed - kept
            stages.insert(0, replace(stage, shape=shape, advance=advance, kept=kept, fresh=fresh))
            computed = shape.stripe_rows
        start = 0
        for index, stage in enumerate(stages):
            stages[index] = replace(stage, start=start)
            start += _stripe(stage.shape)
        return replace(self, stages=tuple(stages), rows=rows, steps=_steps(stages, rows))


def _steps(stages: Sequence[Stage], rows: int) -> int:
    """Return the steps of a tile: few, for many tiles, unless those would compute much twice."""
    most = max(1, (-(-stages[-1].shape.rows // rows) - 1) // (stripe.LEAST_TILES - 1))
    for steps in range(1, most):
        if all(
            stage.shape.stripe_rows - stage.fresh <= _TWICE * steps * stage.advance for stage in stages[1:]
        ):
            return steps
    return most


def _stripe(shape: Geometry) -> int:
    """Elements of a stripe, in whole cache lines."""
    return 0 if shape.direct else -(-(shape.stripe_rows * shape.pitch + SLACK) // 64) * 64


def codes(
    dense: InstructionSet,
    channelwise: DepthwiseSet,
    operation: Chain,
    target: Target,
    demands: Demands = FREE,
) -> Iterator[KernelCode]:
    """Code of a chain on an instruction set; none where one of its convolutions isn't exact there.

    None for microcontrollers either: what `mcu/chain.py` doesn't take is faster layer by layer.
    """
    if target.platform.memory_is_scarce:
        return
    for stage in operation.stages:
        if not _one_by_one(channelwise, stage) and not dense.accepts(stage.weights):
            return
    for plan in plans(dense, channelwise, operation, target, demands):
        yield code(dense, channelwise, operation, plan)


def _one_by_one(channelwise: DepthwiseSet, operation: Conv2d) -> bool:
    """Whether a convolution is depthwise, with as many outputs as channels."""
    return depthwise.accepts(channelwise, operation) and len(operation.weights) == operation.input_shape[3]


def plans(
    dense: InstructionSet,
    channelwise: DepthwiseSet,
    operation: Chain,
    target: Target,
    demands: Demands = FREE,
) -> Iterator[ChainPlan]:
    """Yield the ways to cut a chain, the one expected to be fastest first."""
    found: dict[ChainPlan, None] = {}
    most = max(1, operation.output_shape[1] // stripe.LEAST_TILES)
    for pixels in _PIXELS:
        smallest = _plan(dense, channelwise, operation, 1, pixels)
        for share in _SHARES:
            limit = min(share * target.l1d_bytes * tir.lanes_bytes(dense.panel), target.l2_bytes // 2)
            limit = limit if demands.scratch is None else min(limit, demands.scratch)
            rows = 1
            while rows < most and _bytes(smallest.of(rows + 1)) <= limit:
                rows += 1
            found[smallest.of(stripe.even(operation.output_shape[1], rows, least=1))] = None
    yield from found


def _bytes(plan: ChainPlan) -> int:
    return plan.elements * tir.lanes_bytes(plan.stages[-1].shape.dtype)


def _plan(
    dense: InstructionSet, channelwise: DepthwiseSet, operation: Chain, rows: int, pixels: int
) -> ChainPlan:
    """Return the plan whose steps compute `rows` rows; found from the last convolution to the first."""
    assert (dense.panel, dense.panel_offset) == (channelwise.panel, channelwise.panel_offset), "one scratch"
    _, read_rows, read_columns, _ = operation.output_shape
    stages: list[Stage] = []
    for convolution in reversed(operation.stages):
        channelwise_stage = _one_by_one(channelwise, convolution)
        shape = _geometry(dense, channelwise, convolution, (read_rows, read_columns), pixels)
        stages.insert(0, Stage(shape, epilogue.epilogue(convolution), channelwise_stage))
        read_rows, read_columns = stages[0].read
    first = replace(stages[0].shape, direct=_in_place(dense, channelwise, operation.stages[0], stages[0]))
    stages[0] = replace(stages[0], shape=first)
    return ChainPlan(tuple(stages)).of(rows)


def _geometry(
    dense: InstructionSet, channelwise: DepthwiseSet, operation: Conv2d, read: tuple[int, int], pixels: int
) -> Geometry:
    """Return a convolution of which `read` rows and columns are read."""
    n, h, w, c = operation.input_shape
    outputs = operation.output_shape[3]
    kernel = (int(operation.weights.shape[1]), int(operation.weights.shape[2]))
    rows, columns = read
    shape = Geometry(
        n, rows, columns, c, outputs, outputs, operation.groups, h, w, operation.strides,
        operation.pads[:2], kernel, operation.dilations, rows, columns, (min(pixels, columns), 1),
        dense.panel, dense.panel_offset,
    )  # fmt: skip
    if _one_by_one(channelwise, operation):
        return shape
    walk = conv2d.reduction(shape)
    ranked = tile.ranked(dense, columns, shape.outputs // shape.groups, walk)
    return replace(shape, register_tile=ranked[0])


def _in_place(dense: InstructionSet, channelwise: DepthwiseSet, operation: Conv2d, stage: Stage) -> bool:
    """Whether a chain's first convolution reads its input as it stands."""
    if dense.panel != "int8" or any(operation.pads):
        return False
    if stage.depthwise:
        return depthwise.whole_blocks(channelwise, stage.shape)
    return conv2d.reduction(stage.shape).run % dense.group == 0


def code(dense: InstructionSet, channelwise: DepthwiseSet, operation: Chain, plan: ChainPlan) -> KernelCode:
    """Return the code of one plan."""
    constants: list[tuple[Array, ...]] = []
    for convolution, stage in zip(operation.stages, plan.stages, strict=True):
        if stage.depthwise:
            constants.append(depthwise.constants(channelwise, convolution, stage.shape))
        else:
            constants.append(conv2d.constants(dense, convolution, stage.shape))
    sizes = tuple(arrays[0].size for arrays in constants)
    tiles = ", ".join(
        f"{stage.shape.register_tile[0]} pixels"
        if stage.depthwise
        else f"{stage.shape.register_tile[0]}x{stage.shape.register_tile[1]} registers"
        for stage in plan.stages
    )
    return KernelCode(
        key=f"chain {dense.name} {dense.weights} {channelwise.name} {plan}",
        make=partial(_function, dense, channelwise, plan, sizes),
        constants=tuple(array for arrays in constants for array in arrays),
        tiles=plan.stages[-1].shape.images * plan.bands,
        scratch_bytes=_bytes(plan),
        inplace=(1,) if plan.stages[-1].ending.residual else (),
        configuration=f"{plan.rows} of {plan.rows * plan.steps} rows, {tiles}",
    )


def _function(
    dense: InstructionSet, channelwise: DepthwiseSet, plan: ChainPlan, weights: Sequence[int]
) -> object:
    first, last = plan.stages[0].shape, plan.stages[-1]
    rows, columns = last.shape.rows, last.shape.columns
    outputs = last.shape.images * rows * columns * last.shape.outputs
    arguments = []
    for stage, size in zip(plan.stages, weights, strict=True):
        if stage.depthwise:
            arguments += depthwise.arguments(channelwise, stage.shape, stage.ending)
        else:
            arguments += conv2d.arguments(dense, stage.shape, size, stage.ending)
    residual = last.ending.residual
    return tir.kernel(
        [
            ("int8", first.images * first.in_rows * first.in_columns * first.channels),
            *([("int8", outputs)] if residual else []),
            *arguments,
            ("int8", outputs),
        ],
        dense.panel,
        partial(_body, dense, channelwise, plan),
        noalias=not residual and not dense.unroll,
    )


def _body(
    dense: InstructionSet, channelwise: DepthwiseSet, plan: ChainPlan, x: Buffer, *buffers: Any
) -> None:
    *given, y, scratch, begin, end = buffers
    other = given.pop(0) if plan.stages[-1].ending.residual else None
    writers = []
    for index, stage in enumerate(plan.stages):
        weights, bias, multiplier, parameters = given[4 * index : 4 * index + 4]
        if stage.depthwise:
            accumulators = depthwise.allocate(channelwise, stage.shape)
        else:
            accumulators = tile.allocate(dense, stage.shape.register_tile)
        values = tir.registers(parameters, stage.ending.parameters)
        writers.append(
            _Writer(dense, channelwise, stage, accumulators, weights, bias, multiplier, values, other)
        )
    with T.serial(begin, end) as band:
        image, first = band // plan.bands, band % plan.bands * plan.steps
        count: Expr = plan.steps
        if plan.image_steps % plan.steps:
            count = T.min(count, plan.image_steps - first)
        with T.serial(0, count) as number:
            alone = T.And(number == 0, T.Or(band == begin, first == 0))
            _Step(plan, writers, x, y, scratch, image, (first + number) * plan.rows, alone).emit()


@dataclass(frozen=True)
class _Writer:
    """What writes the code of one convolution, wherever its rows come from and go to."""

    dense: InstructionSet
    channelwise: DepthwiseSet
    stage: Stage
    accumulators: list[Buffer]
    weights: Buffer
    bias: Buffer
    multiplier: Buffer
    parameters: Sequence[Expr]
    other: Buffer | None

    def emit(self, where: Tile, count: Expr, destination: Destination) -> None:
        """Compute `count` rows from `where.row0`."""
        stage = self.stage
        if not stage.depthwise:
            conv2d.Block(
                self.dense, stage.shape, stage.ending, self.accumulators, where, partial(_each, count),
                self.weights, self.bias, self.multiplier, self.parameters,
                self.other if stage.ending.residual else None, destination,
            ).emit()  # fmt: skip
            return
        output = stage.ending.output(self.parameters)
        constants = depthwise.Constants(self.weights, self.bias, self.multiplier, output)
        writer = depthwise.Writer(
            self.channelwise, stage.shape, self.accumulators, where, constants, destination
        )
        _each(count, writer.emit)


def _each(count: Expr, body: Callable[[Expr], None]) -> None:
    with T.serial(0, T.max(count, 0)) as index:
        body(index)


@dataclass(frozen=True)
class _Step:
    """One step: all convolutions, each for the rows that the next one reads."""

    plan: ChainPlan
    writers: Sequence[_Writer]
    x: Buffer
    y: Buffer
    scratch: Buffer
    image: Expr
    row0: Expr
    """First output row."""
    alone: Expr
    """Whether no step has gone before that has left rows."""

    def emit(self) -> None:
        """Write the code."""
        ends = self._ends()
        for index, stage in enumerate(self.plan.stages):
            if not stage.shape.direct:
                self._prepare(index, ends[index], partial(self._rows, index, ends))
        last = self.plan.stages[-1].shape
        count: Expr = self.plan.rows
        if last.rows % self.plan.rows:
            count = T.min(count, last.rows - self.row0)
        where = self._tile(len(self.plan.stages) - 1, ends[-1], self.row0)
        self.writers[-1].emit(where, count, stripe.output(last, where, self.y))

    def _ends(self) -> list[Expr]:
        """Per convolution the input row behind the last one that this step reads."""
        ends: list[Expr] = []
        end = self.row0 + self.plan.rows
        for stage in reversed(self.plan.stages):
            end = (end - 1) * stage.shape.strides[0] + (stage.reach[0] - stage.shape.pads[0])
            ends.insert(0, end)
        return ends

    def _prepare(self, index: int, end: Expr, rows: Callable[[Expr, Expr], None]) -> None:
        """Make a stripe ready: `rows(first, count)` writes the rows within the image that are new."""
        stage = self.plan.stages[index]
        shape, height = stage.shape, stage.shape.stripe_rows
        if stage.kept:
            first = height - stage.fresh - stage.kept

            def move(row: Expr) -> None:
                to = stage.start + (first + row) * shape.pitch

                def vector(offset: Expr, lanes: int) -> None:
                    value = tir.load(self.scratch, to + stage.advance * shape.pitch + offset, lanes)
                    tir.store(self.scratch, to + offset, value, lanes)

                tir.vectors(shape.pitch, LANES, vector)

            with T.If(T.Not(self.alone)), T.Then():
                tir.serial(stage.kept, move)
        left = shape.pads[1] * shape.channels
        inside = stage.read[1] * shape.channels
        if left or left + inside < shape.pitch:

            def sides(row: Expr) -> None:
                self._pad(index, row, 0, left)
                self._pad(index, row, left + inside, shape.pitch - left - inside)

            with T.If(self.alone), T.Then():
                tir.serial(height, sides)
        start = end - T.Select(self.alone, T.int32(height), T.int32(stage.fresh))
        limit = stage.read[0]
        first_row = T.max(start, 0)
        last = T.min(end, limit)
        if shape.pads[0]:
            _each(
                T.min(end, 0) - start,
                lambda row: self._pad(index, start - end + height + row, 0, shape.pitch),
            )
        rows(first_row, last - first_row)
        below = T.max(start, limit)
        _each(end - below, lambda row: self._pad(index, below - end + height + row, 0, shape.pitch))

    def _pad(self, index: int, row: Expr, start: int, count: int) -> None:
        """Fill a part of a stripe's row with padding."""
        stage, parameters = self.plan.stages[index], self.writers[index].parameters
        value = T.cast(epilogue.padding(parameters), stage.shape.dtype)
        first = stage.start + row * stage.shape.pitch + start

        def vector(offset: Expr, lanes: int) -> None:
            tir.store(self.scratch, first + offset, tir.broadcast(value, lanes), lanes)

        tir.vectors(count, LANES, vector)

    def _rows(self, index: int, ends: Sequence[Expr], first: Expr, count: Expr) -> None:
        """Bring rows of a convolution's input into its stripe: computed, or from the chain's own input."""
        stage = self.plan.stages[index]
        shape = stage.shape
        top = first - ends[index] + shape.stripe_rows

        def pixel(row: Expr, column: Expr) -> Expr:
            return stage.start + (top + row) * shape.pitch + (column + shape.pads[1]) * shape.channels

        if index:
            where = self._tile(index - 1, ends[index - 1], first)
            self.writers[index - 1].emit(where, count, Destination(self.scratch, pixel, shape))
            return

        def copy(row: Expr) -> None:
            source = (self.image * shape.in_rows + first + row) * (shape.in_columns * shape.channels)

            def vector(offset: Expr, lanes: int) -> None:
                value = stripe.convert(shape, tir.load(self.x, source + offset, lanes), lanes)
                tir.store(self.scratch, pixel(row, 0) + offset, value, lanes)

            tir.vectors(stage.read[1] * shape.channels, LANES, vector)

        _each(count, copy)

    def _tile(self, index: int, end: Expr, first: Expr) -> Tile:
        """Where a convolution reads the rows that it takes for its output rows from `first`."""
        stage = self.plan.stages[index]
        shape = stage.shape
        row = first * shape.strides[0] - shape.pads[0]
        if shape.direct:
            return Tile(
                self.image, first, T.int32(0), self.x, (self.image * shape.in_rows + row) * shape.pitch
            )
        origin = stage.start + (row - end + shape.stripe_rows) * shape.pitch
        return Tile(self.image, first, T.int32(0), self.scratch, origin)
