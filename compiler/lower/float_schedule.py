"""The default schedule of float functions: a fused TIR function becomes stages that edgec can call.

A stage is one loop nest whose outermost loop runs over tiles. Sums are accumulated in registers: the last
spatial axis fills vectors, the axes before it make the register tile, and what follows the sum elementwise
(bias, activation, residual) is done before the tile is stored. Intermediates that one stage leaves for the
next are tensors of the program, so that the arena planner places them and nothing is allocated at run time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_map, structural_walk

from edgec.kernels.codegen import CONTRACT
from edgec.targets.descriptor import Target

# Tiles enough for threads to share evenly; the loops inside are easier to compile when they aren't fused.
_WANTED_TILES = 64
# TVM turns a local buffer below this size into stack and then registers; a larger one it would allocate.
_LOCAL_BYTES = 1024
# Multiply-adds a core has in flight: two a cycle, four cycles each.
_IN_FLIGHT = 8


@dataclass(frozen=True, eq=False)
class Stage:
    """One function f(buffers..., scratch, begin, end) over tiles [begin, end)."""

    function: Any
    """`tirx.PrimFunc`."""
    reads: tuple[Any, ...]
    """Buffers of the fused function (its parameters or its intermediates): the first pointers."""
    writes: tuple[Any, ...]
    """The pointers after those."""
    parameters: tuple[Any, ...]
    """Of the fused function."""
    tiles: int
    macs: int


def is_view(function: Any) -> bool:
    """Whether a function copies its one input element by element in order: a reshape, or two transposes."""
    if len(function.params) != 2:
        return False
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
    _inline(schedule)
    blocks = _blocks(schedule)
    node = schedule.get(blocks[0])
    if len(blocks) > 1 or not _is_simple(node) or not isinstance(node.body.value, tvm.ir.TensorLoad):
        return False
    load, store = node.body.value, node.body
    if str(load.source.dtype) != str(store.buffer.dtype) or not load.source.same_as(function.params[0]):
        return False
    analyzer = tvm.sym.Analyzer()
    for axis in node.iter_vars:
        analyzer.bind(axis.var, axis.dom)
    return bool(
        math.prod(map(int, load.source.shape)) == math.prod(map(int, store.buffer.shape))
        and analyzer.can_prove_equal(_flat(load.source, load.indices), _flat(store.buffer, store.indices))
    )


def _flat(buffer: Any, indices: Any) -> Any:
    """Row-major offset of an element."""
    offset: Any = 0
    for extent, index in zip(buffer.shape, indices, strict=True):
        offset = offset * extent + index
    return offset


def stages(function: Any, target: Target) -> list[Stage]:
    """Schedule a fused function of Relax and cut it into stages, in execution order.

    Raises ValueError where the function calls into TVM's runtime (sorting, for one).
    """
    if calls := sorted({n for n in _called(function) if "packed" in n or "extern" in n}):
        raise ValueError(f"needs TVM's runtime ({', '.join(calls)})")
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
    _inline(schedule)
    sums, macs, done = [], {}, set()
    for block in _blocks(schedule):
        node = schedule.get(block)
        if not _is_simple(node) or node.name_hint in done:
            continue
        if not _is_reduction(node):
            if not any(_is_reduction(schedule.get(p)) and _epilogue(schedule, p) for p in _producers(schedule, block)):
                _schedule_spatial(schedule, block, target)
        elif (epilogue := _schedule_reduction(schedule, block, target)) is not None:
            sums.append(block)
            done.add(epilogue)
            macs[node.name_hint] = _macs(node)
    registers = [schedule.get(block).writes[0].source for block in sums]
    scheduled = schedule.mod["main"]
    body = scheduled.body.block.body
    nests = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    return [_stage(nest, registers, macs, tuple(function.params)) for nest in nests]


# ---- what a block is


def _blocks(schedule: Any) -> list[Any]:
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def _producers(schedule: Any, block: Any) -> list[Any]:
    return list(schedule.get_producers(block))


def _is_reduction(node: Any) -> bool:
    return any(v.iter_type == tirx.IterVar.CommReduce for v in node.iter_vars)


def _is_simple(node: Any) -> bool:
    """One store, one loop per axis: what Relax's tensor expressions give, but for sorts and scans."""
    return isinstance(node.body, tirx.BufferStore) and all(
        v.iter_type in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce) for v in node.iter_vars
    )


def _spatial(node: Any) -> list[Any]:
    return [v for v in node.iter_vars if v.iter_type == tirx.IterVar.DataPar]


def _loads(expression: Any) -> list[Any]:
    found: list[Any] = []
    structural_walk(expression, (tvm.ir.TensorLoad, lambda load: found.append(load)))
    return found


def _called(expression: Any) -> set[str]:
    """Names of the functions that an expression or statement calls (`tirx.exp`)."""
    names: set[str] = set()

    def visit(call: Any) -> None:
        if isinstance(call.op, tvm.ir.Op):
            names.add(str(call.op.name))

    structural_walk(expression, (tvm.ir.Call, visit))
    return names


def _macs(node: Any) -> int:
    """Multiply-accumulates of y += a * b; none for any other reduction."""
    value = node.body.value
    if isinstance(value, tirx.Add) and isinstance(value.b, tirx.Mul):
        return math.prod(int(v.dom.extent) for v in node.iter_vars)
    return 0


def _is_identity(node: Any) -> bool:
    value = node.body.value
    return isinstance(value, tvm.ir.TensorLoad) and list(value.indices) == list(node.body.indices)


def _step(index: Any, variable: Any) -> int | None:
    """How far `index` moves when `variable` grows by one; None if that varies."""
    moved = structural_map(index, (tirx.Var, lambda v: v + 1 if v.same_as(variable) else v), order="post")
    difference = tvm.sym.Analyzer().simplify(moved - index)
    return int(difference) if isinstance(difference, tirx.IntImm) else None


def _fills_vectors(node: Any, axis: Any) -> bool:
    """Whether neighbours along `axis` lie beside each other, or are the same, in everything read."""
    for load in _loads(node.body.value):
        steps = [_step(index, axis) for index in load.indices]
        if any(s != 0 for s in steps[:-1]) or (steps and steps[-1] not in (0, 1)):
            return False
    return True


# ---- what is done to it


def _inline(schedule: Any) -> None:
    """Compute elementwise results where they are used, instead of storing them.

    Not into sums, which would compute them again for every term (padding, say), and no functions like
    `exp` into two places.
    """
    for block in _blocks(schedule):
        node = schedule.get(block)
        if not _is_simple(node) or _is_reduction(node):
            continue
        users = [schedule.get(user) for user in schedule.get_consumers(block)]
        costly = _called(node.body.value) - {"tirx.if_then_else"}
        if not users or (len(users) > 1 and costly):
            continue
        if any(_is_reduction(user) or not _is_simple(user) for user in users) and not _is_identity(node):
            continue
        schedule.compute_inline(block)


def _epilogue(schedule: Any, block: Any) -> Any | None:
    """The one block that uses a sum, if it does so elementwise; else None."""
    users = schedule.get_consumers(block)
    if len(users) != 1:
        return None
    user, buffer = schedule.get(users[0]), schedule.get(block).writes[0].source
    axes = user.iter_vars
    if not _is_simple(user) or _is_reduction(user) or len(schedule.get_loops(users[0])) != len(axes):
        return None
    if [int(v.dom.extent) for v in axes] != [int(d) for d in buffer.shape]:
        return None
    for load in _loads(user.body.value):
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
    axes = _spatial(node)
    if not axes or len(schedule.get_loops(block)) != len(node.iter_vars):
        return None
    vectors = _fills_vectors(node, axes[-1].var)
    store = _epilogue(schedule, block) or schedule.cache_write(block, 0, "global")
    *factors, width, lanes = _register_tile([int(v.dom.extent) for v in axes], target, vectors)

    *loops, last = schedule.get_loops(store)
    pairs = [schedule.split(loop, [None, factor]) for loop, factor in zip(loops, factors, strict=True)]
    last, *vector = schedule.split(last, [None, width, lanes])
    # Weights of one vector of channels stay in the cache while the image passes by.
    outer = [p[0] for p in pairs]
    outer = [*outer[:-2], last, *outer[-2:]]
    inner = [*(p[1] for p in pairs), *vector]
    schedule.reorder(*outer, *inner)
    tile = schedule.fuse(*outer)
    schedule.annotate(tile, _TILES, True)
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


def _register_tile(extents: list[int], target: Target, vectors: bool) -> list[int]:
    """Return how much of every spatial axis one tile takes: rows, ..., vectors, lanes.

    Chosen for the fewest cycles per result: a core multiplies two vectors and loads two a cycle.
    """
    lanes = math.gcd(extents[-1], target.vector_bits // 32) if vectors else 1
    rows = [1, 1, *extents[:-1]][-2:]

    def cycles_per_result(tile: tuple[int, int, int]) -> tuple[float, int]:
        height, width = tile[0] * tile[1], tile[2]
        return max(height * width, _IN_FLIGHT, height + width) / (height * width), height * width

    choices = [
        (a, b, c)
        for a, b, c in product(_divisors(rows[0]), _divisors(rows[1]), _divisors(extents[-1] // lanes))
        if (a * b + 1) * c + 1 <= target.vector_registers and a * b * c * lanes * 4 < _LOCAL_BYTES
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
    if width > 1 and _fills_vectors(node, last.var):
        schedule.vectorize(inner)
    loops = loops or [rest]
    tiles, count = [loops[0]], int(schedule.get(loops[0]).extent)
    for loop in loops[1:]:
        if count >= _WANTED_TILES:
            break
        tiles.append(loop)
        count *= int(schedule.get(loop).extent)
    schedule.annotate(schedule.fuse(*tiles), _TILES, True)


# ---- and how it is cut


_TILES = "edgec.tiles"
"""Annotation of the loop that is shared out."""


def _stage(nest: Any, registers: list[Any], macs: dict[str, int], parameters: tuple[Any, ...]) -> Stage:
    """Make a function of one loop nest.

    for t in range(n): body  -->  f(buffers..., scratch, begin, end) { for t in range(begin, end): body }
    """
    blocks: list[Any] = []
    structural_walk(nest, (s_tir.SBlock, lambda block: blocks.append(block)))
    read = [region.source for block in blocks for region in block.reads]
    written = [region.source for block in blocks for region in block.writes]
    local = _distinct([b for b in read + written if _contains(registers, b)])
    writes = _distinct([b for b in written if not _contains(registers, b)])
    reads = _distinct([b for b in read if not _contains([*registers, *writes], b)])

    if not (isinstance(nest, tirx.For) and _TILES in nest.annotations):
        tile = tirx.Var("tile", "int32")
        nest = tirx.For(tile, 0, 1, tirx.ForKind.SERIAL, nest, annotations={_TILES: True})
    root = s_tir.SBlock([], [], [], "root", nest, alloc_buffers=local)
    scratch = tirx.decl_buffer((1,), "uint8", name="scratch")
    begin, end = tirx.Var("begin", "int32"), tirx.Var("end", "int32")
    function = tirx.PrimFunc([*reads, *writes, scratch, begin, end], s_tir.SBlockRealize([], True, root))
    function = function.with_attr({"tirx.noalias": True, "s_tir": True, CONTRACT: True})
    return Stage(
        _lower(function, begin, end),
        tuple(reads),
        tuple(writes),
        parameters,
        int(nest.extent),
        sum(macs.get(block.name_hint.removesuffix("_update"), 0) for block in blocks),
    )


def _lower(function: Any, begin: Any, end: Any) -> Any:
    """Turn blocks into loops over the registers they need, then make the tiles' range an argument.

    In this order: with bounds unknown, TVM couldn't tell how much of an intermediate one tile needs.
    """
    passes = [
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerOpaqueBlock(),
        s_tir.transform.StmtSimplify(),
    ]
    lowered = tvm.ir.transform.Sequential(passes)(tvm.IRModule({"main": function}))["main"]

    def share_out(loop: Any) -> Any:
        if _TILES not in loop.annotations:
            return loop
        dtype = str(loop.loop_var.ty.dtype)
        first, count = tirx.Cast(dtype, begin), tirx.Cast(dtype, end - begin)
        return tirx.For(loop.loop_var, first, count, loop.kind, loop.body)

    return lowered.with_body(structural_map(lowered.body, (tirx.For, share_out), order="post"))


def _contains(buffers: list[Any], buffer: Any) -> bool:
    return any(buffer.same_as(b) for b in buffers)


def _distinct(buffers: list[Any]) -> list[Any]:
    result: list[Any] = []
    for buffer in buffers:
        if not _contains(result, buffer):
            result.append(buffer)
    return result
