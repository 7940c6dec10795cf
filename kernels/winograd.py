"""Convolution by 3x3 windows at stride 1, with Winograd's transforms: fewer products, the same integers.

Rows of tiles are a job: their input rows are copied into a padded stripe, transformed channel by channel into
one matrix per point of the transform, multiplied by the transformed weights as so many matrix products, and
transformed back a block of output channels at a time. See `transforms.py` for the arithmetic.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from edgec.kernels import conv2d, epilogue, stripe, tile, tir
from edgec.kernels.epilogue import Epilogue
from edgec.kernels.isa import words
from edgec.kernels.isa.words import WordSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Conv2d
from edgec.kernels.stripe import Geometry
from edgec.kernels.tir import Buffer, Expr, T
from edgec.kernels.transforms import F2, F4, Transform
from edgec.targets.descriptor import Target

# Tiles of a job per lane of a vector (of eight at most), the most likely first: enough to use the transformed
# weights many times when they come from the L2 cache, or from beyond it.
_TILES = (2, 4, 1)
_TILES_OF_LARGE_WEIGHTS = (8, 4, 2)
# Size of transformed activations and products by that of the L2 cache: within it, or beyond, so that fewer
# jobs read the weights.
_SCRATCH_SHARES = (0.75, 3.0)
# Jobs that are worth a thread each; and output channels of each, where there are too few rows of tiles for
# them: transforming the same activations twice is then a few percent of the work.
_JOBS = 4
_PART = 64
# Bytes per cycle that one core gets from memory. (Zen 4, A72: 4 to 10.)
_MEMORY = 8
# What weights four or eight times as large, and scratch, must buy.
_GAIN = 1.1
# int16 elements of a cache line.
_LINE = 32
# Outputs requantized together: what x86 narrows at once.
_PACKED = 4


@contextmanager
def _guard(index: Expr, limit: int, extent: int) -> Iterator[None]:
    """Write code for `index` < `limit` alone, where it may go up to `extent`."""
    if extent <= limit:
        yield
        return
    with T.If(index < limit), T.Then():
        yield


@dataclass(frozen=True)
class Plan:
    """A convolution cut into tiles."""

    transform: Transform
    shape: Geometry
    """Rows and columns are those of whole tiles and may reach beyond the output; its tiles are jobs."""
    rows: int
    """Of the output."""
    columns: int
    parts: int
    """Jobs that share a row of tiles, each with its part of the output channels."""
    ending: Epilogue

    @property
    def across(self) -> int:
        """Tiles side by side."""
        return self.shape.columns // self.transform.outputs

    @property
    def down(self) -> int:
        """Tiles one above the other in a job."""
        return self.shape.tile_rows // self.transform.outputs

    @property
    def reduction(self) -> tile.Reduction:
        """One run of all channels per point."""
        return _reduction(self.transform, self.shape.channels)

    @property
    def key(self) -> str:
        """All that the code depends on besides the instruction set."""
        form = f"F({self.transform.outputs}) {self.rows}x{self.columns} in {self.parts}"
        return f"{form} {self.ending} {self.shape}"


def codes(isa: WordSet, operation: Conv2d, target: Target) -> Iterator[KernelCode]:
    """Code of a 3x3 convolution at stride 1; none where that isn't exact or not expected to pay."""
    direct = _direct_cycles(operation, target)
    plans = {plan: _cycles(isa, plan, target) for plan in every_plan(isa, operation, target)}
    paying = sorted((plan for plan in plans if plans[plan] * _GAIN < direct), key=plans.__getitem__)
    proved: dict[Transform, bool] = {}
    for plan in paying:
        if not stripe.fits(operation, _Scratch.of(isa, plan).bytes):
            continue
        if plan.transform not in proved:
            proved[plan.transform] = exact(isa, operation, plan.transform)
        if proved[plan.transform]:
            yield code(isa, operation, plan)


def every_plan(isa: WordSet, operation: Conv2d, target: Target) -> Iterator[Plan]:
    """Yield the ways to cut a convolution, whether they pay or not; none for other than 3x3 at stride 1."""
    window = operation.weights.shape[1:3], operation.strides, operation.dilations, operation.groups
    if window == ((3, 3), (1, 1), (1, 1), 1) and isa.accepts(operation.weights):
        for transform in (F4, F2):
            weights = 2 * transform.points**2 * operation.input_shape[3] * operation.output_shape[3]
            scales = _TILES if weights <= target.l2_bytes else _TILES_OF_LARGE_WEIGHTS
            limits = (int(target.l2_bytes * share) for share in _SCRATCH_SHARES)
            plans = (_plan(isa, operation, transform, *size) for size in product(limits, scales))
            yield from dict.fromkeys(plans)


def _plan(isa: WordSet, operation: Conv2d, transform: Transform, limit: int, scale: int) -> Plan:
    """Return the plan with about `scale` tiles per lane in a job, and `limit` bytes of them, at most."""
    n, h, w, c = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    size = transform.outputs
    down, across = -(-rows // size), -(-columns // size)
    tile_bytes = transform.points**2 * (2 * c + 16 * isa.lanes)
    wanted = min(scale * min(isa.lanes, 8), limit // tile_bytes)
    jobs = max(1, down * across // max(1, wanted))
    down_job = -(-down // jobs)
    register_tile = tile.ranked(isa, down_job * across, outputs, _reduction(transform, c))[0]
    width = register_tile[1] * isa.lanes
    parts = 1
    while (
        n * -(-down // down_job) * parts < _JOBS
        and outputs % (2 * parts * width) == 0
        and outputs // (2 * parts) >= _PART
    ):
        parts *= 2
    shape = Geometry(
        n, down * size, across * size, c, outputs, 1, h, w, (1, 1), operation.pads[:2], (3, 3), (1, 1),
        down_job * size, across * size, register_tile, isa.panel, isa.panel_offset,
    )  # fmt: skip
    return Plan(transform, shape, rows, columns, parts, epilogue.epilogue(operation))


def _cycles(isa: WordSet, plan: Plan, target: Target) -> float:
    """Return what the plan takes by a coarse model: products, transforms, weights from memory."""
    shape, transform = plan.shape, plan.transform
    vectors = -(-shape.outputs // isa.lanes)
    tiles = shape.images * shape.rows * shape.columns // transform.outputs**2
    products = transform.points**2 * tile.padded_run(isa, plan.reduction) * vectors * isa.lanes
    forward = plan.parts * len(tir.pieces(shape.channels, 2 * isa.lanes)) * transform.forward_instructions
    inverse = vectors * transform.inverse_instructions
    cycles = tiles * (products / isa.products + (forward + inverse) / isa.instructions)
    return cycles + max(0, 2 * products - target.l2_bytes) / _MEMORY


def _direct_cycles(operation: Conv2d, target: Target) -> float:
    """Return what the convolution takes without a transform, by the same model."""
    loads = max(0, operation.weights.size - target.l2_bytes) / _MEMORY
    return operation.macs / words.direct_products(target) + loads


def exact(isa: WordSet, operation: Conv2d, transform: Transform) -> bool:
    """Whether every value on the way is proved to stay within its integer type."""
    bias = conv2d.folded_bias(operation, isa.panel_offset)
    return transform.proves(operation.weights, bias)


def code(isa: WordSet, operation: Conv2d, plan: Plan) -> KernelCode:
    """Return the code of one plan."""
    bias = conv2d.folded_bias(operation, isa.panel_offset)
    weights = plan.transform.transformed(operation.weights)
    height, vectors = plan.shape.register_tile
    packed = tile.pack_weights(isa, weights, plan.reduction, vectors)
    # Vector loads of the last channels may reach past them.
    tail = np.zeros(vectors * isa.lanes, np.int32)
    size = plan.transform.outputs
    return KernelCode(
        key=f"winograd {isa.name} {plan.key}",
        make=partial(_function, isa, plan, packed.size),
        constants=(
            packed,
            np.concatenate([np.zeros_like(bias), tail, bias * plan.transform.bias, tail]),
            np.concatenate([operation.multiplier, tail.view(np.float32)]),
            epilogue.parameters(operation, isa.panel_offset),
        ),
        tiles=plan.shape.tiles * plan.parts,
        scratch_bytes=_Scratch.of(isa, plan).bytes,
        inplace=(1,) if plan.ending.residual else (),
        configuration=f"F({size}x{size}), {height}x{vectors} registers, {plan.down}x{plan.across} tiles"
        + (f", {plan.parts} parts" if plan.parts > 1 else ""),
    )


def _reduction(transform: Transform, channels: int) -> tile.Reduction:
    return tile.Reduction((transform.points**2, 1), (0, 0), channels)


@dataclass(frozen=True)
class _Scratch:
    """Where everything lies in the scratch, in int16; int32 values take two.

    Planes are an odd number of cache lines apart: the points of one tile then fall into different sets.
    """

    stripe: int
    """Elements of the stripe, which comes first."""
    row: int
    """Elements of a tile in a plane of transformed activations."""
    plane: int
    products_row: int
    products_plane: int
    points: int

    @staticmethod
    def of(isa: WordSet, plan: Plan) -> "_Scratch":
        tiles = plan.down * plan.across
        row = tile.padded_run(isa, plan.reduction)
        width = 2 * isa.lanes * min(plan.shape.register_tile[1], -(-plan.shape.outputs // isa.lanes))
        return _Scratch(
            _lines(plan.shape.stripe_bytes // 2), row, _lines(tiles * row), width, _lines(tiles * width),
            plan.transform.points**2,
        )  # fmt: skip

    @property
    def products(self) -> int:
        """First element of the products."""
        return self.stripe + self.points * self.plane

    @property
    def bytes(self) -> int:
        """All of it."""
        return 2 * (self.products + self.points * self.products_plane)


def _lines(elements: int) -> int:
    """Round int16 elements up to an odd number of cache lines."""
    return (-(-elements // _LINE) | 1) * _LINE


def _function(isa: WordSet, plan: Plan, weights: int) -> object:
    shape = plan.shape
    outputs = shape.images * plan.rows * plan.columns * shape.outputs
    channels = shape.outputs + shape.register_tile[1] * isa.lanes
    return tir.kernel(
        [
            ("int8", shape.images * shape.in_rows * shape.in_columns * shape.channels),
            *([("int8", outputs)] if plan.ending.residual else []),
            (isa.weights, weights),
            ("int32", 2 * channels),
            ("float32", channels),
            ("int32", plan.ending.parameters),
            ("int8", outputs),
        ],
        isa.panel,
        partial(_body, isa, plan),
        noalias=not plan.ending.residual,
    )


def _body(isa: WordSet, plan: Plan, x: Buffer, *buffers: Any) -> None:
    *others, weights, bias, multiplier, parameters, y, scratch, begin, end = buffers
    shape, transform = plan.shape, plan.transform
    local = _Locals(
        tile.allocate(isa, shape.register_tile),
        [_local(transform.points * 2 * isa.lanes, "int16") for _ in range(transform.points)],
        [_local(transform.points * isa.lanes) for _ in range(transform.outputs)],
        [_local(transform.outputs * isa.lanes) for _ in range(transform.outputs)],
    )
    values = tir.registers(parameters, plan.ending.parameters)
    with T.serial(begin, end) as index:
        where = stripe.tile(shape, x, scratch, index // plan.parts, epilogue.padding(values))
        job = _Job(
            isa, plan, _Scratch.of(isa, plan), local, where, index % plan.parts, scratch, weights, bias,
            multiplier, values, others[0] if plan.ending.residual else None, y,
        )  # fmt: skip
        job.emit()


def _local(elements: int, dtype: str = "int32") -> Buffer:
    return T.alloc_buffer((elements,), dtype, scope="global")


@dataclass(frozen=True)
class _Locals:
    """Registers, and what of them the compiler keeps on the stack."""

    accumulators: list[Buffer]
    rows: list[Buffer]
    """[points of a row]: activations transformed along one dimension."""
    sums: list[Buffer]
    """[outputs of a column]: products transformed back along one dimension."""
    outputs: list[Buffer]
    """[outputs of a column]: a row of sums each."""


@dataclass(frozen=True)
class _Job:
    """The code of some rows of tiles."""

    isa: WordSet
    plan: Plan
    scratch: _Scratch
    local: _Locals
    where: stripe.Tile
    part: Expr
    """Of the output channels."""
    work: Buffer
    """The scratch itself."""
    weights: Buffer
    bias: Buffer
    multiplier: Buffer
    parameters: Sequence[Expr]
    """Of the epilogue."""
    other: Buffer | None
    """What is added to the result."""
    y: Buffer

    def emit(self) -> None:
        shape, across = self.plan.shape, self.plan.across
        tir.serial(self.plan.down, lambda down: tir.serial(across, lambda a: self._forward(down, a)))
        length = self.scratch.points * self.scratch.row
        for columns in tile.column_blocks(self.isa.lanes, shape.outputs, shape.register_tile[1], length):
            width, count = columns.vectors * self.isa.lanes, columns.blocks // self.plan.parts

            def block(
                n: Expr, columns: tile.Columns = columns, width: int = width, count: int = count
            ) -> None:
                number = self.part * count + n
                first = columns.weights_start + number * width * length
                channel = columns.start + number * width
                step = self.scratch.row * width
                points = self.scratch.points
                tir.serial(points, lambda p: self._products(columns, channel, p, first + p * step))
                self._inverses(columns, channel)

            tir.serial(count, block)

    def _forward(self, down: Expr, across: Expr) -> None:
        """Transform the activations of one tile: B^T d B."""
        shape, transform = self.plan.shape, self.plan.transform
        points, size = transform.points, transform.outputs
        origin = self.where.origin + down * (size * shape.pitch) + across * (size * shape.channels)
        target = self.scratch.stripe + (down * self.plan.across + across) * self.scratch.row

        def channels(channel: Expr, lanes: int) -> None:
            for j in range(points):
                start = origin + j * shape.channels + channel
                column = [tir.load(self.where.source, start + i * shape.pitch, lanes) for i in range(points)]
                for i, value in enumerate(transform.forward(column)):
                    tir.store(self.local.rows[i], j * lanes, value, lanes)
            for i in range(points):
                row = [tir.load(self.local.rows[i], j * lanes, lanes) for j in range(points)]
                for j, value in enumerate(transform.forward(row)):
                    at = target + (i * points + j) * self.scratch.plane + channel
                    tir.store(self.work, at, value, lanes)

        tir.vectors(shape.channels, 2 * self.isa.lanes, channels)

    def _products(self, columns: tile.Columns, channel: Expr, point: Expr, offset: Expr) -> None:
        """Multiply all tiles of a point by a block of its weights."""
        isa, height, scratch = self.isa, self.plan.shape.register_tile[0], self.scratch
        walk = replace(self.plan.reduction, taps=(1, 1))
        padded = self.plan.shape.outputs + self.plan.shape.register_tile[1] * isa.lanes
        # The bias goes into every output through one point, 1 in both dimensions.
        start_bias = channel + T.Select(point == self.plan.transform.points + 1, padded, 0)

        def register_tile(first: Expr, height: int) -> None:
            lanes = isa.lanes
            sums = [
                [(row, j * lanes) for j in range(columns.vectors)] for row in self.local.accumulators[:height]
            ]
            for row in sums:
                for buffer, element in row:
                    tir.store(buffer, element, tir.load(self.bias, start_bias + element, lanes), lanes)
            start = scratch.stripe + point * scratch.plane + first * scratch.row
            starts = [start + i * scratch.row for i in range(height)]
            tile.accumulate(isa, sums, self.work, starts, walk, self.weights, offset)
            for i, row in enumerate(sums):
                for j, (buffer, element) in enumerate(row):
                    words = T.reinterpret(tir.vector("int16", 2 * lanes), tir.load(buffer, element, lanes))
                    at = scratch.products + point * scratch.products_plane
                    at = at + (first + i) * scratch.products_row + j * 2 * lanes
                    tir.store(self.work, at, words, 2 * lanes)

        full, tail = divmod(self.plan.down * self.plan.across, height)
        if full:
            tir.serial(full, lambda t: register_tile(t * height, height))
        if tail:
            register_tile(full * height, tail)

    def _inverses(self, columns: tile.Columns, channel: Expr) -> None:
        """Transform a block of channels back, tile by tile; the last job of an image may have fewer rows."""
        plan = self.plan
        shape, size = plan.shape, plan.transform.outputs
        rows = (
            plan.down
            if shape.rows % shape.tile_rows == 0
            else T.min(plan.down, (shape.rows - self.where.row0) // size)
        )

        def tile_of_block(down: Expr, across: Expr) -> None:
            whole, rest = divmod(columns.valid, self.isa.lanes)
            if whole:
                tir.serial(whole, lambda v: self._inverse(channel, v, self.isa.lanes, down, across))
            if rest:
                self._inverse(channel, whole, rest, down, across)

        def row(down: Expr) -> None:
            tir.serial(plan.across, lambda across: tile_of_block(down, across))

        if isinstance(rows, int):
            tir.serial(rows, row)
        else:
            with T.serial(0, rows) as down:
                row(down)

    def _inverse(self, channel: Expr, vector: Expr, valid: int, down: Expr, across: Expr) -> None:
        """Transform a vector of products of a tile back to sums, requantize and store them: A^T M A."""
        plan, transform, lanes = self.plan, self.plan.transform, self.isa.lanes
        points, size = transform.points, transform.outputs
        start = self.scratch.products + (down * plan.across + across) * self.scratch.products_row
        for j in range(points):
            column = [self._product(start, i * points + j, vector) for i in range(points)]
            for i, value in enumerate(transform.inverse(column)):
                tir.store(self.local.sums[i], j * lanes, value, lanes)
        pixels: list[_Pixel] = []
        for i in range(size):
            row = [tir.load(self.local.sums[i], j * lanes, lanes) for j in range(points)]
            for j, value in enumerate(transform.inverse(row)):
                tir.store(self.local.outputs[i], j * lanes, value, lanes)
            row_index = self.where.row0 + down * size + i
            pixels += [_Pixel(i, j, row_index, across * size + j) for j in range(size)]
        for first in range(0, len(pixels), _PACKED):
            self._store(pixels[first : first + _PACKED], channel + vector * lanes, valid)

    def _product(self, start: Expr, point: int, vector: Expr) -> Expr:
        lanes = self.isa.lanes
        at = start + point * self.scratch.products_plane + vector * (2 * lanes)
        return T.reinterpret(tir.vector("int32", lanes), tir.load(self.work, at, 2 * lanes))

    def _store(self, pixels: "Sequence[_Pixel]", channel: Expr, valid: int) -> None:
        """Requantize some outputs of a tile together, and store those that exist."""
        isa, plan, lanes = self.isa, self.plan, self.isa.lanes

        def start(row: Expr, column: Expr) -> Expr:
            return (
                (self.where.image * plan.rows + row) * plan.columns + column
            ) * plan.shape.outputs + channel

        sums = [
            plan.transform.finish(tir.load(self.local.outputs[pixel.i], pixel.j * lanes, lanes), lanes)
            for pixel in pixels
        ]
        scales = [tir.load(self.multiplier, channel, lanes)] * len(pixels)
        output = plan.ending.output(self.parameters)
        if self.other is None:
            result = isa.requantize(sums, scales, output)
        else:
            # Of a pixel that doesn't exist, the last one that does stands in.
            others = [
                tir.load_first(
                    self.other,
                    start(T.min(pixel.row, plan.rows - 1), T.min(pixel.column, plan.columns - 1)),
                    lanes, valid,
                )
                for pixel in pixels
            ]  # fmt: skip
            other = tir.concatenate(others, lanes)
            result = isa.requantize_and_add(
                sums, scales, output, other, plan.ending.addition(self.parameters)
            )
        for number, pixel in enumerate(pixels):
            with (
                _guard(pixel.row, plan.rows, plan.shape.rows),
                _guard(pixel.column, plan.columns, plan.shape.columns),
            ):
                value = tir.part(result, number, lanes)
                tir.store_first(self.y, start(pixel.row, pixel.column), value, lanes, valid)


@dataclass(frozen=True)
class _Pixel:
    """An output of a tile: in the tile, and in the image."""

    i: int
    j: int
    row: Expr
    column: Expr
