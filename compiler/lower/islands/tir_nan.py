"""Maxima and minima of floats that pass NaN on, as ONNX's do: TVM's give the second operand."""

from tvm import tirx
from tvm.ir import Expr, TensorLoad
from tvm_ffi import structural_map, structural_walk


def pass_nan_on(nest: tirx.Stmt) -> tirx.Stmt:
    """Return a loop nest in which NaN stays NaN, whatever limits it.

    max(x, 0)  -->  max(0, x)
    max(x, y)  -->  let z = x in (z if isnan(z) else max(z, y))

    What reduces, a pooling or ReduceMax, stays: there ONNX leaves open what NaN does.
    """
    reduced: list[Expr] = []

    def visit(store: tirx.BufferStore) -> None:
        value = store.value
        if isinstance(value, tirx.Max | tirx.Min):
            for operand in (value.a, value.b):
                if isinstance(operand, TensorLoad) and operand.source.same_as(store.buffer):
                    reduced.append(value)

    structural_walk(nest, (tirx.BufferStore, visit))

    def rewritten(node: tirx.Max | tirx.Min) -> Expr:
        if "float" not in str(node.ty.dtype) or any(node.same_as(other) for other in reduced):
            return node
        kind, first, second = type(node), node.a, node.b
        if isinstance(second, tirx.FloatImm):
            return kind(second, first)
        if isinstance(first, tirx.FloatImm):
            return node
        bound = tirx.Var("operand", first.ty)
        return tirx.Let(bound, first, tirx.Select(tirx.isnan(bound), bound, kind(bound, second)))

    for kind in (tirx.Max, tirx.Min):
        nest = structural_map(nest, (kind, rewritten), order="post")
    return nest
