"""Maxima and minima of floats that pass NaN on, as ONNX's do: TVM's give the second operand."""

from tvm import tirx
from tvm.ir import Expr, TensorLoad
from tvm_ffi import structural_map


def pass_nan_on(nest: tirx.Stmt) -> tirx.Stmt:
    """Return a loop nest in which NaN stays NaN, whatever limits it.

    max(x, 0)  -->  max(0, x)
    max(x, y)  -->  let z = x in (z if isnan(z) else max(z, y))

    What reduces does so, too: a pooling, ReduceMax. There `x` is what was found so far. What is only read
    gets no name: TVM takes what is common out of named expressions, and may put it behind its first use.
    """

    def rewritten(node: tirx.Max | tirx.Min) -> Expr:
        if "float" not in str(node.ty.dtype):
            return node
        kind, first, second = type(node), node.a, node.b
        if isinstance(second, tirx.FloatImm):
            return kind(second, first)
        if isinstance(first, tirx.FloatImm):
            return node
        if isinstance(first, TensorLoad):
            return tirx.Select(tirx.isnan(first), first, kind(first, second))
        bound = tirx.Var("operand", first.ty)
        return tirx.Let(bound, first, tirx.Select(tirx.isnan(bound), bound, kind(bound, second)))

    for kind in (tirx.Max, tirx.Min):
        nest = structural_map(nest, (kind, rewritten), order="post")
    return nest
