from collections.abc import Mapping, Sequence
from typing import Any

from tvm.ir import Expr as Expr

def __getattr__(name: str) -> Any: ...

class Var(Expr):
    name: str
    def __init__(self, name: str, ty: Any) -> None: ...

class IntImm(Expr):
    value: int
    def __init__(self, dtype: str, value: int) -> None: ...

class FloatImm(Expr):
    value: float
    def __init__(self, dtype: str, value: float) -> None: ...

class Buffer:
    """A flat or shaped piece of memory. In TVM it is a Var, too; a kernel never means it as one."""

    name: str
    shape: Sequence[Expr]
    dtype: str
    def __getitem__(self, index: Expr | int | tuple[Expr | int, ...]) -> Expr: ...

class PrimFunc:
    params: Sequence[Var]
    body: Any
    attrs: Any
    def __init__(self, params: Sequence[Any], body: Any, ret_type: Any = ..., attrs: Any = ...) -> None: ...
    def with_attr(self, key: str | Mapping[str, Any], value: Any = ...) -> PrimFunc: ...
    def with_body(self, body: Any) -> PrimFunc: ...

def address_of(element: Expr) -> Expr: ...
