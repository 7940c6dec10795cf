"""What a converter is given: a node of ONNX as expressions of Relax, and how its results are declared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Expr

from edgec.arrays import Array

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Given:
    """One node to convert."""

    kind: str
    inputs: tuple[Any, ...]
    """Relax's expressions; None for an input that is left away."""
    attributes: dict[str, Any]
    """As `onnx.helper.get_attribute_value` has them, text decoded."""
    results: tuple[tuple[Shape, str], ...]
    """Shape and dtype of every output, as the model declares or ONNX infers them."""
    opset: int
    builder: Any

    @property
    def data(self) -> Expr:
        """The first input."""
        first: Expr = self.inputs[0]
        return first

    @property
    def shape(self) -> Shape:
        """Shape of the first result."""
        return self.results[0][0]

    @property
    def dtype(self) -> str:
        """Type of the first result."""
        return self.results[0][1]

    def input(self, index: int) -> Any:
        """Return an input, None where the node has none there."""
        return self.inputs[index] if index < len(self.inputs) else None

    def constant(self, index: int) -> Array | None:
        """Return the value of an input, None where it isn't known or there is none."""
        given = self.input(index)
        if not isinstance(given, tvm.ir.GenericConst):
            return None
        value: Array = given.value.numpy()
        return value

    def axis(self, default: int = 0) -> int:
        """Return the node's axis, counted from the front."""
        return int(self.attributes.get("axis", default)) % max(1, len(shape_of(self.data)))

    def emit(self, expression: Expr) -> Expr:
        """Give an expression a name, so that others can read it."""
        named: Expr = self.builder.emit(expression)
        return named

    def compute(self, function: Callable[..., Expr], *tensors: Expr) -> Expr:
        """Return a tensor expression of other tensors."""
        computed: Expr = self.builder.emit_te(function, *tensors, primfunc_name_hint=self.kind.lower())
        return computed


Result = Expr | list[Expr] | None
Converter = Callable[[Given], Result]
"""Returns an expression, a list of them for several results, or None: then TVM's own converter is asked."""


def shape_of(expression: Expr) -> Shape:
    """Return the static shape of an expression."""
    return tuple(int(extent) for extent in expression.ty.shape)


def dtype_of(expression: Expr) -> str:
    """Return the dtype of an expression's elements."""
    return str(expression.ty.dtype)


def is_float(dtype: str) -> bool:
    """Whether a dtype is a float's."""
    return dtype.startswith(("float", "bfloat"))


def array(value: Any, dtype: str) -> Expr:
    """Return a constant."""
    return relax.const(np.asarray(value, dtype), dtype)  # untold, it would make int64 int32
