"""The default schedule of float functions: a fused TIR function becomes stages that edgec can call.

A stage is one loop nest whose outermost loop runs over tiles. Sums are accumulated in registers: the last
spatial axis fills vectors, the axes before it make the register tile, and what follows the sum elementwise
(bias, activation, residual) is done before the tile is stored. Intermediates that one stage leaves for the
next are tensors of the program, so that the arena planner places them and nothing is allocated at run time.
"""

import contextlib
import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir.schedule import ScheduleError
from tvm.tirx import PrimFunc

from edgec.compiler.lower.islands.tir_blocks import (
    called,
    fills_vectors,
    flat_offset,
    foreign,
    has_vectors,
    is_identity,
    is_reduction,
    is_simple,
    loads,
    macs,
)
from edgec.compiler.lower.islands.tir_nan import pass_nan_on
from edgec.compiler.lower.islands.tir_stage import TILES, Stage, cut
from edgec.targets.descriptor import Target

# Tiles enough for threads to share evenly; the loops inside are easier to compile when they aren't fused.
_WANTED_TILES = 64
# TVM turns a local buffer below this size into stack and then registers; a larger one it would allocate.
_LOCAL_BYTES = 1024
# Multiply-adds a core has in flight: two a cycle, four cycles each.
_IN_FLIGHT = 8


def is_view(function: PrimFunc) -> bool:
    """Whether a function copies its one input element by element in order: a reshape, or two transposes."""
    if len(function.params) != 2:
        return False
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
    _inline(schedule)
    blocks = _blocks(schedule)
    node = schedule.get(blocks[0])
    if len(blocks) > 1 or not is_simple(node) or not isinstance(node.body.value, tvm.ir.TensorLoad):
        return False
    load, store = node.body.value, node.body
    if str(load.source.dtype) != str(store.buffer.dtype) or not load.source.same_as(function.params[0]):
        return False
    analyzer = tvm.sym.Analyzer()
    for axis in node.iter_vars:
        analyzer.bind(axis.var, axis.dom)
    return bool(
        math.prod(map(int, load.source.shape)) == math.prod(map(int, store.buffer.shape))
        and analyzer.can_prove_equal(
            flat_offset(load.source, load.indices), flat_offset(store.buffer, store.indices)
        )
    )


def stages(function: PrimFunc, target: Target) -> list[Stage]:
    """Schedule a fused function of Relax and cut it into stages, in execution order.

    Raises ValueError where the function calls into TVM's runtime (sorting, for one).
    """
    if calls := sorted(foreign(function)):
        raise ValueError(f"needs TVM's runtime ({', '.join(calls)})")
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
    _inline(schedule)
    sums, counts, done = [], {}, set()
    for block in _blocks(schedule):
        node = schedule.get(block)
        if not is_simple(node) or node.name_hint in done:
            continue
        attempt = schedule.copy()
        try:
            if not is_reduction(node):
                _schedule_spatial(attempt, block, target)
            elif (epilogue := _schedule_reduction(attempt, block, target)) is not None:
                sums.append(block)
                done.add(epilogue)
                counts[node.name_hint] = macs(node)
        except ScheduleError:
            continue  # correct as it is, only slow
        schedule = attempt
    registers = [schedule.get(block).writes[0].source for block in sums]
    scheduled = schedule.mod["main"]
    body = scheduled.body.block.body
    nests = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    return [cut(pass_nan_on(nest), registers, counts, tuple(function.params)) for nest in nests]


def _blocks(schedule: Any) -> list[Any]:
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def _inline(schedule: Any) -> None:
    """Compute elementwise results where they are used, instead of storing them.

    Not into sums, which would compute them again for every term (padding, say), and no functions like
    `exp` into two places.
    """
    for block in _blocks(schedule):
        node = schedule.get(block)
        if not is_simple(node) or is_reduction(node):
            continue
        users = [schedule.get(user) for user in schedule.get_consumers(block)]
        costly = called(node.body.value) - {"tirx.if_then_else"}
        if not users or (len(users) > 1 and costly) or _is_result(schedule, block):
            continue
        if any(is_reduction(user) or not is_simple(user) for user in users) and not is_identity(node):
            continue
        with contextlib.suppress(ScheduleError):
            schedule.compute_inline(block)


def _is_result(schedule: Any, block: Any) -> bool:
    """Whether the block writes a parameter of the function: used outside even if it is used inside too."""
    written = schedule.get(block).writes[0].source
    return any(written.same_as(parameter) for parameter in schedule.mod["main"].params)


def _epilogue(schedule: Any, block: Any) -> Any | None:
    """Return the one block that uses a sum, if it does so elementwise; else None."""
    users = schedule.get_consumers(block)
    if len(users) != 1 or _is_result(schedule, block):
        return None
    user, buffer = schedule.get(users[0]), schedule.get(block).writes[0].source
    axes = user.iter_vars
    if not is_simple(user) or is_reduction(user) or len(schedule.get_loops(users[0])) != len(axes):
        return None
    if [int(v.dom.extent) for v in axes] != [int(d) for d in buffer.shape]:
        return None
    for load in loads(user.body.value):
        if load.source.same_as(buffer):
            for index, axis in zip(load.indices, axes, strict=True):
                if int(axis.dom.extent) != 1 and not axis.var.same_as(index):
                    return None
    return users[0]


def _schedule_reduction(schedule: Any, block: Any, target: Target) -> str | None:
    """Tile a sum over registers; return the name of the block that stores it, or None if left as it is.

    for n, y, x, c: for k: sum += a * b          for t: sum[tile] = 0
    for n, y, x, c: out = f(sum)            -->         for k: for tile: sum[tile] += a * b
                                                        for tile: out = f(sum[tile])
    """
    node = schedule.get(block)
    axes = [v for v in node.iter_vars if v.iter_type == tirx.IterVar.DataPar]
    if not axes or len(schedule.get_loops(block)) != len(node.iter_vars):
        return None
    store = _epilogue(schedule, block) or schedule.cache_write(block, 0, "global")
    vectors = fills_vectors(node, axes[-1].var) and has_vectors(schedule.get(store))
    extents = [int(v.dom.extent) for v in axes]
    bits = max(32, tvm.runtime.DataType(str(node.writes[0].source.dtype)).bits)
    *factors, width, lanes = _register_tile(extents, bits, target, vectors)

    *loops, last = schedule.get_loops(store)
    pairs = [schedule.split(loop, [None, factor]) for loop, factor in zip(loops, factors, strict=True)]
    last, *vector = schedule.split(last, [None, width, lanes])
    # Weights of one vector of channels stay in the cache while the image passes by.
    outer = [p[0] for p in pairs]
    outer = [*outer[:-2], last, *outer[-2:]]
    inner = [*(p[1] for p in pairs), *vector]
    schedule.reorder(*outer, *inner)
    tile = schedule.fuse(*outer)
    schedule.annotate(tile, TILES, True)
    schedule.compute_at(block, tile, preserve_unit_loops=True)
    _, *loops = schedule.get_loops(block)
    spatial, reduced = loops[: len(axes)], loops[len(axes) :]
    spatial += schedule.split(spatial.pop(), [None, lanes])
    schedule.reorder(*reduced, *spatial)
    for nest in (inner, spatial):
        for loop in nest[:-1]:
            schedule.unroll(loop)
        (schedule.vectorize if vectors else schedule.unroll)(nest[-1])
    schedule.decompose_reduction(block, reduced[0])
    return str(schedule.get(store).name_hint)


def _register_tile(extents: list[int], bits: int, target: Target, vectors: bool) -> list[int]:
    """Return how much of every spatial axis one tile takes: rows, ..., vectors, lanes.

    Chosen for the fewest cycles per result: a core multiplies two vectors and loads two a cycle.
    """
    lanes = math.gcd(extents[-1], target.vector_bits // bits) if vectors else 1
    rows = [1, 1, *extents[:-1]][-2:]

    def cycles_per_result(tile: tuple[int, int, int]) -> tuple[float, int]:
        height, width = tile[0] * tile[1], tile[2]
        return max(height * width, _IN_FLIGHT, height + width) / (height * width), height * width

    choices = [
        (a, b, c)
        for a, b, c in product(_divisors(rows[0]), _divisors(rows[1]), _divisors(extents[-1] // lanes))
        if (a * b + 1) * c + 1 <= target.vector_registers and a * b * c * lanes * bits // 8 < _LOCAL_BYTES
    ]
    tile = min(choices, key=cycles_per_result)
    return [*[1] * (len(extents) - 3), *tile[-min(3, len(extents)) :], lanes]


def _divisors(n: int) -> Iterator[int]:
    return (d for d in range(1, min(n, 64) + 1) if n % d == 0)


def _schedule_spatial(schedule: Any, block: Any, target: Target) -> None:
    """Vectorize the last axis where that reads neighbours; make tiles of the first."""
    node = schedule.get(block)
    loops = list(schedule.get_loops(block))
    if not loops or len(loops) != len(node.iter_vars):
        return
    last = node.iter_vars[-1]
    lanes = target.vector_bits // 32
    width = math.gcd(int(last.dom.extent), lanes)
    rest, inner = schedule.split(loops.pop(), [None, width])
    if width > 1 and fills_vectors(node, last.var):
        schedule.vectorize(inner)
    loops = loops or [rest]
    tiles, count = [loops[0]], int(schedule.get(loops[0]).extent)
    for loop in loops[1:]:
        if count >= _WANTED_TILES:
            break
        tiles.append(loop)
        count *= int(schedule.get(loop).extent)
    schedule.annotate(schedule.fuse(*tiles), TILES, True)
