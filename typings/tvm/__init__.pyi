"""Types of the part of TVM that kernels are written in; TVM ships none. All the rest of it is untyped."""

from typing import Any

def __getattr__(name: str) -> Any: ...
