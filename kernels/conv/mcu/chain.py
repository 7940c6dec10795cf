"""Chains of convolutions for microcontrollers: stripes of rows, computed by the layers' own functions.

A step computes some rows of the last convolution's output. Each of the others computes the rows that the next
one takes and hasn't got, into a stripe in the scratch; of a stripe what is taken again is then moved to its
front. To the functions a stripe is an image with other padding (`extent.Extent`), so a chain is code for
little more than their calls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from edgec.kernels import tir
from edgec.kernels.codegen import extent
from edgec.kernels.codegen.extent import Extent
from edgec.kernels.isa import dsp
from edgec.kernels.isa.assembly import address, linked
from edgec.kernels.kernel import Kernel, KernelCode
from edgec.kernels.operations import FREE, Chain, Conv2d, Demands
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

_ANY = 1 << 28
"""Elements of a buffer whose size is an argument."""
_MOST_ROWS = 8
"""The most rows of a step. The more, the fewer rows go into the rings of depthwise convolutions twice: two of
ten then."""
_ALIGNMENT = 8


Rows = TypeVar("Rows", int, Expr)
"""A number of rows: known while the kernel is written, or in the running program."""


@dataclass(frozen=True)
class Stage:
    """A convolution as a chain sees it."""

    rows: int
    """Rows of its output."""
    pitch: int
    """Bytes of such a row."""
    in_rows: int
    in_pitch: int
    stride: int
    reach: int
    """Rows of the window, dilation included."""
    top: int

    def needed(self, end: Rows) -> Rows:
        """Return how many rows of the input, from its first on, the output's rows before `end` take."""
        return _least(_greatest((end - 1) * self.stride + (self.reach - self.top), 0), self.in_rows)

    def first(self, row: Rows, there: Rows) -> Rows:
        """Return the first row of the input that the output takes from `row` on, at most `there`."""
        return _least(_greatest(row * self.stride - self.top, 0), there)


@dataclass(frozen=True)
class RingPlan:
    """A chain cut into steps."""

    stages: tuple[Stage, ...]
    rows: int
    """Output rows of a step."""
    images: int
    scratch: int
    """Bytes that the functions take, at the start of the scratch."""

    @property
    def steps(self) -> int:
        """Steps that an image takes."""
        return -(-self.stages[-1].rows // self.rows)

    def ends(self, step: int) -> list[int]:
        """Return how many rows each convolution has computed after so many steps."""
        ends = [min(step * self.rows, self.stages[-1].rows)] if step else [0]
        for stage in reversed(self.stages[1:]):
            ends.insert(0, stage.needed(ends[0]) if step else 0)
        return ends

    @property
    def stripes(self) -> list[int]:
        """Return where the stripes begin that the convolutions but the first read, and where they all end."""
        most = [0] * len(self.stages)
        for step in range(self.steps):
            before, after = self.ends(step), self.ends(step + 1)
            for i, stage in enumerate(self.stages[1:], 1):
                most[i] = max(most[i], after[i - 1] - stage.first(before[i], before[i - 1]))
        starts = [_aligned(self.scratch)]
        for stage, rows in zip(self.stages[1:], most[1:], strict=True):
            starts.append(starts[-1] + _aligned(rows * stage.in_pitch))
        return starts

    @property
    def behind(self) -> bool:
        """Whether every step's output ends before the first row of input that is read after it."""
        first, last = self.stages[0], self.stages[-1]
        done = [self.ends(step + 1) for step in range(self.steps - 1)]
        read = [first.first(ends[0], first.in_rows) for ends in done] + [first.in_rows]
        ends = [*(rows[-1] for rows in done), last.rows]
        return self.images == 1 and all(
            written * last.pitch <= row * first.in_pitch for written, row in zip(ends, read, strict=True)
        )


@dataclass(frozen=True)
class _Callee:
    """A convolution's function."""

    symbol: str
    dtypes: tuple[str, ...]
    """Types of its constants, but for the extent."""


def codes(
    layers: Sequence[Kernel], operation: Chain, target: Target, demands: Demands = FREE
) -> Iterator[KernelCode]:
    """Code of a chain of which each convolution is one of `layers`', kernels that read an extent."""
    if "thumb2" not in target.features:  # of whose instructions its own loops are
        return
    found = [
        _layer(layers, stage, target, demands.of_stage(index)) for index, stage in enumerate(operation.stages)
    ]
    parts = [part for part in found if part is not None]
    if len(parts) < len(found):
        return
    scratch = max(code.scratch_bytes for _, code in parts)
    stages = tuple(map(_stage, operation.stages))
    plans = [
        RingPlan(stages, rows, operation.input_shape[0], scratch)
        for rows in range(min(_MOST_ROWS, stages[-1].rows), 0, -1)
    ]
    plan = next((plan for plan in plans if demands.allow(plan.stripes[-1])), plans[-1])
    residual = operation.stages[-1].residual is not None
    # An odd last pixel is computed twice.
    inplace = [0] * plan.behind + [1] * (residual and operation.output_shape[2] % 2 == 0)
    callees = tuple(
        _Callee(kernel.symbol(code), tuple(str(array.dtype) for array in code.constants[:-1]))
        for kernel, code in parts
    )
    yield KernelCode(
        key=f"mcu_chain {callees} {plan} {residual} {inplace}",
        make=partial(_function, plan, callees, residual, bool(inplace)),
        constants=tuple(array for _, code in parts for array in code.constants[:-1]),
        tiles=plan.images,
        scratch_bytes=plan.stripes[-1],
        inplace=tuple(inplace),
        configuration=f"{plan.rows} rows",
        callees=tuple(parts),
    )


def _layer(
    layers: Sequence[Kernel], operation: Conv2d, target: Target, demands: Demands
) -> tuple[Kernel, KernelCode] | None:
    """Return the first code for a convolution whose rows are those of the image, not its columns."""
    whole = Extent(operation.output_shape[1], operation.input_shape[1], operation.pads[0]).array
    for kernel in (layer for layer in layers if layer.takes(operation) and layer.runs_on(target)):
        for code in kernel.codes(operation, target, demands):
            if np.array_equal(code.constants[-1], whole):
                return kernel, code
    return None


def _stage(operation: Conv2d) -> Stage:
    _, in_rows, in_columns, channels = operation.input_shape
    _, rows, columns, outputs = operation.output_shape
    reach = (operation.weights.shape[1] - 1) * operation.dilations[0] + 1
    return Stage(
        rows, columns * outputs, in_rows, in_columns * channels, operation.strides[0], reach,
        operation.pads[0],
    )  # fmt: skip


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _least(one: Rows, two: Rows | int) -> Rows:
    return min(one, two) if isinstance(one, int) and isinstance(two, int) else T.min(one, two)


def _greatest(one: Rows, two: Rows | int) -> Rows:
    return max(one, two) if isinstance(one, int) and isinstance(two, int) else T.max(one, two)


def _function(plan: RingPlan, callees: Sequence[_Callee], residual: bool, aliased: bool) -> object:
    return tir.kernel(
        [
            ("int8", _ANY),
            *([("int8", _ANY)] if residual else []),
            *((dtype, _ANY) for callee in callees for dtype in callee.dtypes),
            ("int8", _ANY),
        ],
        "int8",
        partial(_body, plan, callees, residual),
        noalias=not aliased,
    )


def _body(plan: RingPlan, callees: Sequence[_Callee], residual: bool, x: Buffer, *buffers: Any) -> None:
    *given, y, scratch, begin, end = buffers
    other = given.pop(0) if residual else None
    count = len(plan.stages)
    done, ends = (T.alloc_buffer((count,), "int32", scope="global") for _ in range(2))
    covered = T.alloc_buffer((extent.FIELDS,), "int32", scope="global")

    def images() -> None:
        with T.serial(begin, end) as image:
            writer = _Writer(plan, callees, x, other, given, y, scratch, image, done, ends, covered)
            for i in range(count):
                tir.store(done, i, T.int32(0))
            with T.serial(0, plan.steps) as step:
                tir.store(ends, count - 1, T.min((step + 1) * plan.rows, plan.stages[-1].rows))
                for i in reversed(range(1, count)):
                    tir.store(ends, i - 1, plan.stages[i].needed(ends[i]))
                for i in range(count):
                    writer.emit(i)
                for i in range(count):
                    tir.store(done, i, ends[i])

    linked((dsp.COPY, dsp.MOVE), images)


@dataclass(frozen=True)
class _Writer:
    """What writes the code of a step."""

    plan: RingPlan
    callees: Sequence[_Callee]
    x: Buffer
    other: Buffer | None
    constants: Sequence[Buffer]
    y: Buffer
    scratch: Buffer
    image: Expr
    done: Buffer
    """Rows that each convolution had computed when the step began."""
    ends: Buffer
    """And when it ends."""
    covered: Buffer
    """Three int32."""

    def emit(self, index: int) -> None:
        """Write the call of a convolution, and the moving of what its stripe keeps."""
        stage, first = self.plan.stages[index], self._first(index)
        done, end = self.done[index], self.ends[index]
        covered = Extent(end - done, stage.in_rows - first, done * -stage.stride + stage.top + first)
        for place, name in enumerate(Extent.__dataclass_fields__):
            tir.store(self.covered, place, getattr(covered, name))
        before = sum(len(callee.dtypes) for callee in self.callees[:index])
        callee = self.callees[index]
        others, to = [], self._output(index)
        if self.other is not None and index == len(self.plan.stages) - 1:
            others = [address(self.other, (self.image * stage.rows + done) * stage.pitch)]
        constants = self.constants[before : before + len(callee.dtypes)]
        arguments = [self._input(index, first), *others, *(address(one, 0) for one in constants)]
        arguments += [address(self.covered, 0), to, address(self.scratch, 0), T.int32(0), T.int32(1)]
        with T.If(end > done), T.Then():
            T.evaluate(T.call_extern("int32", callee.symbol, *arguments))
        if index and stage.reach > stage.stride:
            self._keep(index, first)

    def _first(self, index: int) -> Expr:
        """Return the first row of the input that a convolution reads: of a stripe, where it begins."""
        stage = self.plan.stages[index]
        return stage.first(self.done[index], self.done[index - 1] if index else T.int32(stage.in_rows))

    def _input(self, index: int, first: Expr) -> Expr:
        stage = self.plan.stages[index]
        if index:
            return address(self.scratch, self.plan.stripes[index - 1])
        return address(self.x, (self.image * stage.in_rows + first) * stage.in_pitch)

    def _output(self, index: int) -> Expr:
        stage, done = self.plan.stages[index], self.done[index]
        if index == len(self.plan.stages) - 1:
            return address(self.y, (self.image * stage.rows + done) * stage.pitch)
        return address(self.scratch, (done - self._first(index + 1)) * stage.pitch + self.plan.stripes[index])

    def _keep(self, index: int, first: Expr) -> None:
        """Move what the next step reads again to the front of a stripe that begins with the row `first`."""
        stage, start = self.plan.stages[index], self.plan.stripes[index - 1]
        there = self.ends[index - 1]
        kept = stage.first(self.ends[index], there)
        with T.If(T.And(kept > first, there > kept)), T.Then():
            source = address(self.scratch, (kept - first) * stage.in_pitch + start)
            to, size = address(self.scratch, start), (there - kept) * stage.in_pitch
            if stage.in_pitch % 4:
                none = T.int32(0)
                dsp.COPY.call(None, source, to, size, T.int32(1), none, none)
            else:
                dsp.MOVE.call(None, source, to, size // 4)
