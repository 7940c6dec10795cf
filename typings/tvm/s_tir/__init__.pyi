from collections.abc import Sequence
from typing import Any

from tvm.tirx import Buffer, Expr, IterVar, Stmt

def __getattr__(name: str) -> Any: ...

class BufferRegion:
    source: Buffer

class SBlock(Stmt):
    name_hint: str
    iter_vars: Sequence[IterVar]
    reads: Sequence[BufferRegion]
    writes: Sequence[BufferRegion]
    body: Any
    """A `BufferStore` where the block is a simple one."""
    def __init__(
        self,
        iter_vars: Sequence[IterVar],
        reads: Sequence[BufferRegion],
        writes: Sequence[BufferRegion],
        name_hint: str,
        body: Stmt,
        alloc_buffers: Sequence[Buffer] = ...,
    ) -> None: ...

class SBlockRealize(Stmt):
    def __init__(self, iter_values: Sequence[Expr], predicate: bool, block: SBlock) -> None: ...
