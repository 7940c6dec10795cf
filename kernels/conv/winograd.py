"""Convolution by 3x3 windows at stride 1, with Winograd's transforms: fewer products, the same integers.

Rows of tiles are a job: their input rows are copied into a padded stripe, transformed channel by channel into
one matrix per point of the transform, multiplied by the transformed weights as so many matrix products, and
transformed back a block of output channels at a time. Where the transformed weights, which are four or eight
times as large, would come from beyond the cache, a job transforms its own, some channels at a time. See
`transforms.py` for the arithmetic.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from edgec.kernels import cost, tir
from edgec.kernels.codegen import stripe, tile
from edgec.kernels.codegen.stripe import Geometry
from edgec.kernels.conv import conv2d, epilogue
from edgec.kernels.conv.epilogue import Epilogue
from edgec.kernels.conv.transforms import F2, F4, Transform
from edgec.kernels.isa.int16 import WordSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Conv2d, Demands, pitch
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Tiles of a job per lane of a vector (of eight at most), the most likely first: enough to use the transformed
# weights many times when they come from the L2 cache, or from beyond it.
_TILES = (2, 4, 1)
_TILES_OF_LARGE_WEIGHTS = (8, 4, 2)
# Size of transformed activations and products by that of the L2 cache: within it, or beyond, so that fewer
# jobs read the weights.
_SCRATCH_SHARES = (0.75, 3.0)
# Transformed weights of a chunk by the size of the L2 cache: activations and products lie there, too. And the
# fewest channels whose products are worth adding to sums in memory.
_CHUNK_SHARE = 0.5
_LEAST_CHUNK = 16
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
class WinogradPlan:
    """A convolution cut into tiles."""

    transform: Transform
    shape: Geometry
    """Rows and columns are those of whole tiles and may reach beyond the output; its tiles are jobs."""
    rows: int
    """Rows of the output."""
    columns: int
    parts: int
    """Jobs that share a row of tiles, each with its part of the output channels."""
    chunk: int
    """Channels whose weights a job transforms at a time; 0 where transformed weights are the constants."""
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
    def jobs(self) -> int:
        """Jobs of all images: the tiles that threads share out."""
        return self.shape.tiles * self.parts

    @property
    def reduction(self) -> tile.Reduction:
        """One run of all channels per point."""
        return _reduction(self.transform, self.shape.channels)

    @property
    def packing(self) -> tile.Reduction:
        """How weights lie: all channels per point, or per weight of the window."""
        return tile.Reduction((3, 3), (0, 0), self.shape.channels) if self.chunk else self.reduction

    @property
    def key(self) -> str:
        """All that the code depends on besides the instruction set."""
        form = f"F({self.transform.outputs}) {self.rows}x{self.columns} in {self.parts} by {self.chunk}"
        return f"{form} {self.ending} {self.shape}"


def codes(isa: WordSet, operation: Conv2d, target: Target, demands: Demands = FREE) -> Iterator[KernelCode]:
    """Code of a 3x3 convolution at stride 1; none where that isn't exact or isn't expected to pay."""
    direct = _direct_cycles(operation, target)
    every = every_plan(isa, operation, target, demands)
    plans = {plan: _cycles(isa, plan, target) for plan in every}
    paying = [plan for plan in plans if plans[plan] * _GAIN < direct]
    paying.sort(key=lambda plan: (plans[plan], -min(plan.jobs, _JOBS)))
    for plan in paying:
        if demands.allow(_Scratch.of(isa, plan).bytes):
            yield code(isa, operation, plan, demands)


def every_plan(
    isa: WordSet, operation: Conv2d, target: Target, demands: Demands = FREE
) -> Iterator[WinogradPlan]:
    """Yield the exact ways to cut a convolution, whether they pay or not; none but for 3x3 at stride 1."""
    window = operation.weights.shape[1:3], operation.strides, operation.dilations, operation.groups
    if window == ((3, 3), (1, 1), (1, 1), 1) and isa.accepts(operation.weights):
        for transform in (f for f in (F4, F2) if f.proves(operation)):
            weights = 2 * transform.points**2 * operation.input_shape[3] * operation.output_shape[3]
            scales = _TILES if weights <= target.l2_bytes else _TILES_OF_LARGE_WEIGHTS
            limits = [int(target.l2_bytes * share) for share in _SCRATCH_SHARES]
            for stored in (False,) if demands.compact else (True, False):
                sizes = product(limits, scales)
                plans = (_plan(isa, operation, target, transform, stored, *size, demands) for size in sizes)
                yield from dict.fromkeys(plans)


def _plan(
    isa: WordSet,
    operation: Conv2d,
    target: Target,
    transform: Transform,
    stored: bool,
    limit: int,
    scale: int,
    demands: Demands,
) -> WinogradPlan:
    """Return the plan with about `scale` tiles per lane in a job, and `limit` bytes of them, at most."""
    n, h, w, c = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    size = transform.outputs
    down, across = -(-rows // size), -(-columns // size)
    tile_bytes = transform.points**2 * (2 * c + 16 * isa.lanes)
    wanted = min(scale * min(isa.lanes, 8), limit // tile_bytes)
    jobs = max(1, down * across // max(1, wanted))
    down_job = -(-down // jobs)
    reduction = _reduction(transform, c)
    register_tile = tile.ranked(isa, down_job * across, outputs, reduction)[0]
    width = register_tile[1] * isa.lanes
    chunk = 0 if stored else _chunk(isa, tile.padded_run(isa, reduction), transform, width, target)
    parts = 1
    while (
        n * -(-down // down_job) * parts < _JOBS
        and outputs % (2 * parts * width) == 0
        and outputs // (2 * parts) >= _PART
    ):
        parts *= 2
    shape = Geometry(
        n, down * size, across * size, c, outputs, pitch(demands.runs, outputs), 1, h, w, (1, 1),
        operation.pads[:2], (3, 3), (1, 1), down_job * size, across * size, register_tile, isa.panel,
        isa.panel_offset,
    )  # fmt: skip
    return WinogradPlan(transform, shape, rows, columns, parts, chunk, epilogue.epilogue(operation))


def _chunk(isa: WordSet, row: int, transform: Transform, width: int, target: Target) -> int:
    """Return the channels whose transformed weights, of `width` outputs, leave the cache room for the rest.

    They divide `row`, all there are; where no number of some size does, it is all.
    """
    limit = _CHUNK_SHARE * target.l2_bytes / (2 * transform.points**2 * width)
    sizes = (row // count for count in range(1, row // _LEAST_CHUNK + 1) if row % (count * isa.group) == 0)
    return next((size for size in sizes if size <= limit), row)


def _cycles(isa: WordSet, plan: WinogradPlan, target: Target) -> float:
    """Return what the plan takes by a coarse model: products, transforms, weights from memory."""
    shape, transform = plan.shape, plan.transform
    vectors = -(-shape.outputs // isa.lanes)
    tiles = shape.images * shape.rows * shape.columns // transform.outputs**2
    products = transform.points**2 * tile.padded_run(isa, plan.reduction) * vectors * isa.lanes
    forward = plan.parts * len(tir.pieces(shape.channels, 2 * isa.lanes)) * transform.forward_instructions
    inverse = vectors * transform.inverse_instructions
    cycles = tiles * (products / isa.products + (forward + inverse) / isa.instructions)
    if not plan.chunk:
        return cycles + max(0, 2 * products - target.l2_bytes) / _MEMORY
    weights = products // transform.points**2
    vectors_of_weights = shape.tiles * weights / (2 * isa.lanes)
    sums = tiles * vectors * transform.points**2 * (shape.channels // plan.chunk - 1)  # loaded, stored
    added = vectors_of_weights * transform.weights_instructions + 2 * sums
    return cycles + added / isa.instructions + max(0, 9 * weights - target.l2_bytes) / _MEMORY


def _direct_cycles(operation: Conv2d, target: Target) -> float:
    """Return what the convolution takes without a transform, by the same model."""
    loads = max(0, operation.weights.size - target.l2_bytes) / _MEMORY
    return operation.macs / cost.direct_products(target, operation.weights) + loads


def code(isa: WordSet, operation: Conv2d, plan: WinogradPlan, demands: Demands = FREE) -> KernelCode:
    """Return the code of one plan."""
    bias = conv2d.folded_bias(operation, isa.panel_offset).astype(np.int64)
    height, vectors = plan.shape.register_tile
    given = operation.weights.reshape(len(operation.weights), -1, plan.shape.channels)
    weights = given if plan.chunk else plan.transform.transformed(operation.weights)
    packed = tile.pack_weights(isa, weights, plan.packing, vectors)
    # Vector loads of the last channels may reach past them.
    tail = np.zeros(vectors * isa.lanes, np.int32)
    size = plan.transform.outputs
    return KernelCode(
        key=f"winograd {isa.name} {plan.key}",
        make=partial(_function, isa, plan, packed.size),
        constants=(
            packed,
            np.concatenate(
                [np.zeros_like(operation.bias), tail, (bias * plan.transform.bias).astype(np.int32), tail]
            ),
            np.concatenate([operation.multiplier, tail.view(np.float32)]),
            epilogue.parameters(operation, isa.panel_offset),
        ),
        tiles=plan.jobs,
        scratch_bytes=_Scratch.of(isa, plan).bytes,
        inplace=(1,) if plan.ending.residual and demands.runs is None else (),
        configuration=f"F({size}x{size}), {height}x{vectors} registers, {plan.down}x{plan.across} tiles"
        + (f", {plan.parts} parts" if plan.parts > 1 else "")
        + (f", weights by {plan.chunk}" if plan.chunk else ""),
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
    weights: int
    """Elements of a chunk's transformed weights; none where they are constants."""
    products_row: int
    products_plane: int
    points: int

    @staticmethod
    def of(isa: WordSet, plan: WinogradPlan) -> "_Scratch":
        tiles = plan.down * plan.across
        row = tile.padded_run(isa, plan.reduction)
        width = 2 * isa.lanes * min(plan.shape.register_tile[1], -(-plan.shape.outputs // isa.lanes))
        weights = plan.transform.points**2 * _lines(plan.chunk * width // 2) if plan.chunk else 0
        return _Scratch(
            _lines(plan.shape.stripe_bytes // 2), row, _lines(tiles * row), weights, width,
            _lines(tiles * width), plan.transform.points**2,
        )  # fmt: skip

    @property
    def chunk(self) -> int:
        """First element of a chunk's transformed weights."""
        return self.stripe + self.points * self.plane

    @property
    def products(self) -> int:
        """First element of the products."""
        return self.chunk + self.weights

    @property
    def bytes(self) -> int:
        """All of it."""
        return 2 * (self.products + self.points * self.products_plane)


def _lines(elements: int) -> int:
    """Round int16 elements up to an odd number of cache lines."""
    return (-(-elements // _LINE) | 1) * _LINE


def _function(isa: WordSet, plan: WinogradPlan, weights: int) -> object:
    shape = plan.shape
    pixels = shape.images * plan.rows * plan.columns
    channels = shape.outputs + shape.register_tile[1] * isa.lanes
    return tir.kernel(
        [
            ("int8", shape.images * shape.in_rows * shape.in_columns * shape.channels),
            *([("int8", pixels * shape.outputs)] if plan.ending.residual else []),
            ("int8" if plan.chunk else isa.weights, weights),
            ("int32", 2 * channels),
            ("float32", channels),
            ("int32", plan.ending.parameters),
            ("int8", (pixels - 1) * shape.output_pitch + shape.outputs),
        ],
        isa.panel,
        partial(_body, isa, plan),
        noalias=not plan.ending.residual,
    )


def _body(isa: WordSet, plan: WinogradPlan, x: Buffer, *buffers: Any) -> None:
    *others, weights, bias, multiplier, parameters, y, scratch, begin, end = buffers
    shape, transform = plan.shape, plan.transform
    local = _Locals(
        tile.allocate(isa, shape.register_tile),
        [_local(transform.points * 2 * isa.lanes, "int16") for _ in range(transform.points)],
        [_local(transform.points * isa.lanes) for _ in range(transform.outputs)],
        [_local(transform.outputs * isa.lanes) for _ in range(transform.outputs)],
        [_local(3 * 2 * isa.lanes, "int16") for _ in range(transform.points)],
    )
    values = tir.registers(parameters, plan.ending.parameters)
    with T.serial(begin, end) as index:
        where = stripe.tile(shape, x, scratch, index // plan.parts, begin, epilogue.padding(values))
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
    weights: list[Buffer]
    """[points of a row]: weights transformed along one dimension."""


@dataclass(frozen=True)
class _Job:
    """The code of some rows of tiles."""

    isa: WordSet
    plan: WinogradPlan
    scratch: _Scratch
    local: _Locals
    where: stripe.Tile
    part: Expr
    """Which part of the output channels it computes."""
    work: Buffer
    """The scratch itself."""
    weights: Buffer
    bias: Buffer
    multiplier: Buffer
    parameters: Sequence[Expr]
    """Parameters of the epilogue."""
    other: Buffer | None
    """What is added to the result."""
    y: Buffer

    def emit(self) -> None:
        shape, across = self.plan.shape, self.plan.across
        tir.serial(self.plan.down, lambda down: tir.serial(across, lambda a: self._forward(down, a)))
        length = math.prod(self.plan.packing.taps) * self.scratch.row
        for columns in tile.column_blocks(self.isa.lanes, shape.outputs, shape.register_tile[1], length):
            width, count = columns.vectors * self.isa.lanes, columns.blocks // self.plan.parts

            def block(
                n: Expr, columns: tile.Columns = columns, width: int = width, count: int = count
            ) -> None:
                number = self.part * count + n
                first = columns.weights_start + number * width * length
                channel = columns.start + number * width
                self._sums(columns, channel, first)
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

    def _sums(self, columns: tile.Columns, channel: Expr, first: Expr) -> None:
        """Multiply all tiles, point by point, by a block of weights, which starts at `first`."""
        plan, scratch = self.plan, self.scratch
        width = columns.vectors * self.isa.lanes
        step, points = scratch.row * width, scratch.points
        if not plan.chunk:
            whole = tile.Reduction((1, 1), (0, 0), plan.shape.channels)
            tir.serial(
                points,
                lambda p: self._products(columns, channel, p, 0, whole, self.weights, first + p * step),
            )
            return
        part = tile.Reduction((1, 1), (0, 0), plan.chunk)
        size = plan.chunk * width

        def chunk(n: Expr, channel: Expr | None) -> None:
            self._weights(first + n * size, step, size)
            tir.serial(
                points,
                lambda p: self._products(
                    columns, channel, p, n * plan.chunk, part, self.work, scratch.chunk + p * _lines(size)
                ),
            )

        chunk(0, channel)
        if plan.chunk < scratch.row:
            tir.serial(scratch.row // plan.chunk - 1, lambda n: chunk(n + 1, None))

    def _weights(self, first: Expr, step: int, size: int) -> None:
        """Transform `size` int8 weights of each of the window's, which lie `step` apart: G g G^T."""
        transform, lanes = self.plan.transform, 2 * self.isa.lanes
        window, points = range(3), range(transform.points)

        def vector(start: Expr, lanes: int) -> None:
            for j in window:
                given = [tir.load(self.weights, first + (i * 3 + j) * step + start, lanes) for i in window]
                column = [tir.cast(value, "int16", lanes) for value in given]
                for i in points:
                    tir.store(self.local.weights[i], j * lanes, transform.weigh(i, column), lanes)
            for i in points:
                row = [tir.load(self.local.weights[i], j * lanes, lanes) for j in window]
                for j in points:
                    at = self.scratch.chunk + (i * transform.points + j) * _lines(size) + start
                    tir.store(self.work, at, transform.weigh(j, row), lanes)

        tir.vectors(size, lanes, vector)

    def _products(
        self, columns: tile.Columns, channel: Expr | None, point: Expr, begin: Expr, part: tile.Reduction,
        weights: Buffer, offset: Expr,
    ) -> None:  # fmt: skip
        """Multiply all tiles of a point by weights, which start at `offset`, over a part of the reduction.

        The part begins at channel `begin` of the activations. Sums start from the bias of `channel` on, or
        where that is None from what they are already.
        """
        isa, height, scratch = self.isa, self.plan.shape.register_tile[0], self.scratch
        lanes = isa.lanes
        padded = self.plan.shape.outputs + self.plan.shape.register_tile[1] * isa.lanes
        # The bias goes into every output through one point, 1 in both dimensions.
        start_bias = T.Select(point == self.plan.transform.points + 1, padded, 0)
        first_sum = scratch.products + point * scratch.products_plane

        def start(tile_number: Expr, j: int) -> Expr:
            return first_sum + tile_number * scratch.products_row + j * 2 * lanes

        def register_tile(first: Expr, height: int) -> None:
            sums = [
                [(row, j * lanes) for j in range(columns.vectors)] for row in self.local.accumulators[:height]
            ]
            for i, row in enumerate(sums):
                for j, (buffer, element) in enumerate(row):
                    if channel is not None:
                        value = tir.load(self.bias, channel + start_bias + element, lanes)
                    else:
                        words = tir.load(self.work, start(first + i, j), 2 * lanes)
                        value = T.reinterpret(tir.vector("int32", lanes), words)
                    tir.store(buffer, element, value, lanes)
            row0 = scratch.stripe + point * scratch.plane + first * scratch.row + begin
            starts = [row0 + i * scratch.row for i in range(height)]
            tile.accumulate(isa, sums, self.work, starts, part, weights, offset)
            for i, row in enumerate(sums):
                for j, (buffer, element) in enumerate(row):
                    words = T.reinterpret(tir.vector("int16", 2 * lanes), tir.load(buffer, element, lanes))
                    tir.store(self.work, start(first + i, j), words, 2 * lanes)

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
            column = [tir.Wrapping(self._product(start, i * points + j, vector)) for i in range(points)]
            for i, sums in enumerate(transform.inverse(column)):
                tir.store(self.local.sums[i], j * lanes, sums.value, lanes)
        pixels: list[_Pixel] = []
        for i in range(size):
            row = [tir.Wrapping(tir.load(self.local.sums[i], j * lanes, lanes)) for j in range(points)]
            for j, sums in enumerate(transform.inverse(row)):
                tir.store(self.local.outputs[i], j * lanes, sums.value, lanes)
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

        def start(row: Expr, column: Expr, pitch: int) -> Expr:
            return ((self.where.image * plan.rows + row) * plan.columns + column) * pitch + channel

        sums = [
            plan.transform.finished(
                tir.load(self.local.outputs[pixel.i], pixel.j * lanes, lanes), pixel.i, pixel.j, lanes
            )
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
                    start(
                        T.min(pixel.row, plan.rows - 1), T.min(pixel.column, plan.columns - 1),
                        plan.shape.outputs,
                    ),
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
                at = start(pixel.row, pixel.column, plan.shape.output_pitch)
                tir.store_first(self.y, at, value, lanes, valid)


@dataclass(frozen=True)
class _Pixel:
    """An output of a tile: in the tile, and in the image."""

    i: int
    j: int
    row: Expr
    column: Expr
