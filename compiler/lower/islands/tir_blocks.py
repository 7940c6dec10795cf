"""Questions about the blocks of a TIR function: what one computes, and how it reads memory."""

import math
from collections.abc import Sequence

import tvm
from tvm import tirx
from tvm.ir import Call, Expr, TensorLoad
from tvm.s_tir import SBlock
from tvm_ffi import structural_map, structural_walk


def is_reduction(node: SBlock) -> bool:
    """Whether the block sums, or takes a maximum, over some of its axes."""
    return any(v.iter_type == tirx.IterVar.CommReduce for v in node.iter_vars)


def is_simple(node: SBlock) -> bool:
    """One store, one loop per axis: what Relax's tensor expressions give, but for sorts and scans."""
    return isinstance(node.body, tirx.BufferStore) and all(
        v.iter_type in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce) for v in node.iter_vars
    )


def loads(expression: Expr) -> list[TensorLoad]:
    """Return all reads of buffers in an expression."""
    found: list[TensorLoad] = []
    structural_walk(expression, (TensorLoad, lambda load: found.append(load)))
    return found


def called(code: Expr | tirx.Stmt | tirx.PrimFunc) -> set[str]:
    """Return the names of the functions that an expression, statement or function calls (`tirx.exp`)."""
    names: set[str] = set()

    def visit(call: Call) -> None:
        if isinstance(call.op, tvm.ir.Op):
            names.add(str(call.op.name))

    structural_walk(code, (Call, visit))
    return names


def foreign(function: tirx.PrimFunc) -> set[str]:
    """Return what a function calls of TVM's runtime, which edgec's programs don't have (sorting, for one)."""
    return {name for name in called(function) if "packed" in name or "extern" in name}


def is_sequential(function: tirx.PrimFunc) -> bool:
    """Whether a function has loops inside of its blocks: what one tile writes may then be for another."""
    found: list[tirx.Stmt] = []

    def visit(block: SBlock) -> None:
        if block.name_hint != "root":
            structural_walk(block.body, (tirx.For, found.append))
            structural_walk(block.body, (tirx.While, found.append))

    structural_walk(function.body, (SBlock, visit))
    return bool(found)


def macs(node: SBlock) -> int:
    """Return the multiply-accumulates of y += a * b; 0 for any other reduction."""
    value = node.body.value
    if isinstance(value, tirx.Add) and isinstance(value.b, tirx.Mul):
        return math.prod(int(v.dom.extent) for v in node.iter_vars)
    return 0


def is_identity(node: SBlock) -> bool:
    """Whether the block copies elements to the same place of another buffer."""
    value = node.body.value
    return isinstance(value, TensorLoad) and list(value.indices) == list(node.body.indices)


def _step(index: Expr, variable: tirx.Var) -> int | None:
    """How far `index` moves when `variable` grows by one; None if that varies."""
    moved = structural_map(index, (tirx.Var, lambda v: v + 1 if v.same_as(variable) else v), order="post")
    difference = tvm.sym.Analyzer().simplify(moved - index)
    return int(difference.value) if isinstance(difference, tirx.IntImm) else None


_SCALAR = {"tirx.cosh", "tirx.sinh"}
"""Functions of the C library that TVM calls for single numbers, and has no code for vectors of."""


def has_vectors(node: SBlock) -> bool:
    """Whether there is code for vectors of all that the block calls."""
    return _SCALAR.isdisjoint(called(node.body.value))


def fills_vectors(node: SBlock, axis: tirx.Var) -> bool:
    """Whether neighbours along `axis` lie beside each other, or are the same, in everything read."""
    if not has_vectors(node):
        return False
    for load in loads(node.body.value):
        steps = [_step(index, axis) for index in load.indices]
        if any(s != 0 for s in steps[:-1]) or (steps and steps[-1] not in (0, 1)):
            return False
    return True


def flat_offset(buffer: tirx.Buffer, indices: Sequence[Expr]) -> Expr | int:
    """Return the row-major offset of an element."""
    offset: Expr | int = 0
    for extent, index in zip(buffer.shape, indices, strict=True):
        offset = offset * extent + index
    return offset
