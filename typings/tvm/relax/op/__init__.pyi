from collections.abc import Callable

from tvm.ir import Expr
from tvm.relax.op import nn as nn

def __getattr__(name: str) -> Callable[..., Expr]: ...
