"""Which expressions leave it to the compiler that TVM was built with which operand is computed first."""

from typing import Any

from tvm import tirx
from tvm_ffi import structural_map

from edgec.kernels.codegen import native

_LEAVES = tirx.Var, tirx.IntImm, tirx.FloatImm


def unordered(function: Any) -> tuple[list[Any], int]:
    """Return the expressions of a lowered function with several operands to compute, and how many it has.

    Fails where a name is bound twice.
    """
    found: list[Any] = []
    counted = 0
    names: list[Any] = []

    def binary(node: Any) -> Any:
        nonlocal counted
        counted += 1
        if not isinstance(node.a, _LEAVES) and not isinstance(node.b, _LEAVES):
            found.append(node)
        return node

    def select(node: Any) -> Any:
        nonlocal counted
        counted += 1
        computed = [x for x in (node.true_value, node.false_value) if not isinstance(x, _LEAVES)]
        if len(computed) > (isinstance(node.condition, _LEAVES) and isinstance(node.true_value, _LEAVES)):
            found.append(node)
        return node

    def let(node: Any) -> Any:
        assert not any(node.var.same_as(name) for name in names)
        names.append(node.var)
        return node

    structural_map(function.body, [(native.BINARY, binary), (tirx.Select, select), (tirx.Let, let)])
    return found, counted
