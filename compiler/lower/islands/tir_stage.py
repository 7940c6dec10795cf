"""Stages: a scheduled TIR function, cut into functions of the kernels' C ABI, one per loop nest."""

from dataclasses import dataclass

import tvm
from tvm import s_tir, tirx
from tvm.tirx import Buffer, Expr, PrimFunc, Stmt
from tvm_ffi import structural_map, structural_walk

from edgec.kernels.codegen.native import CONTRACT

TILES = "edgec.tiles"
"""Annotation of a nest's outermost loop where its iterations are independent: they are the tiles."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One function f(buffers..., scratch, begin, end) over tiles [begin, end)."""

    function: PrimFunc
    reads: tuple[Buffer, ...]
    """Buffers of the fused function (its parameters or its intermediates): the first pointers."""
    writes: tuple[Buffer, ...]
    """The pointers after those."""
    parameters: tuple[tirx.Var | Buffer, ...]
    """Parameters of the fused function, in its order."""
    tiles: int
    macs: int


def cut(
    nest: Stmt, registers: list[Buffer], macs: dict[str, int], parameters: tuple[tirx.Var | Buffer, ...]
) -> Stage:
    """Make a stage of one loop nest; `registers` are the buffers that stay inside it, `macs` is by block.

    for t in range(n): body  -->  f(buffers..., scratch, begin, end) { for t in range(begin, end): body }
    """
    blocks: list[s_tir.SBlock] = []
    structural_walk(nest, (s_tir.SBlock, lambda block: blocks.append(block)))
    read = [region.source for block in blocks for region in block.reads]
    written = [region.source for block in blocks for region in block.writes]
    local = _distinct([b for b in read + written if _contains(registers, b)])
    writes = _distinct([b for b in written if not _contains(registers, b)])
    reads = _distinct([b for b in read if not _contains([*registers, *writes], b)])

    if not (isinstance(nest, tirx.For) and TILES in nest.annotations):
        tile = tirx.Var("tile", "int32")
        nest = tirx.For(tile, 0, 1, tirx.ForKind.SERIAL, nest, annotations={TILES: True})
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


def _lower(function: PrimFunc, begin: Expr, end: Expr) -> PrimFunc:
    """Turn blocks into loops over the registers they need, then make the tiles' range an argument.

    In this order: with bounds unknown, TVM couldn't tell how much of an intermediate one tile needs.
    """
    passes = [
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerOpaqueBlock(),
        s_tir.transform.StmtSimplify(),
    ]
    lowered: PrimFunc = tvm.ir.transform.Sequential(passes)(tvm.IRModule({"main": function}))["main"]

    def share_out(loop: tirx.For) -> tirx.For:
        if TILES not in loop.annotations:
            return loop
        dtype = str(loop.loop_var.ty.dtype)
        first, count = tirx.Cast(dtype, begin), tirx.Cast(dtype, end - begin)
        return tirx.For(loop.loop_var, first, count, loop.kind, loop.body)

    return lowered.with_body(structural_map(lowered.body, (tirx.For, share_out), order="post"))


def _contains(buffers: list[Buffer], buffer: Buffer) -> bool:
    return any(buffer.same_as(b) for b in buffers)


def _distinct(buffers: list[Buffer]) -> list[Buffer]:
    result: list[Buffer] = []
    for buffer in buffers:
        if not _contains(result, buffer):
            result.append(buffer)
    return result
