"""One form for every product by constant weights: Gemm(x[M, K], weights[N, K], bias[N])."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import (
    add_initializer,
    add_node,
    attribute,
    constant,
    only_consumer,
    replace_value,
    shape_of,
)
from edgec.compiler.operators.product_form import folded_gemm


def normalize_gemm(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with MatMul and Gemm by constant matrices as Gemm(transB=1, alpha=1, beta=1).

    MatMul(x[B, T, K], weights[K, N]) + bias[N]  -->  Reshape(Gemm(Reshape(x, [B*T, K]), weights', bias))
    Gemm(x, weights[K, N], bias[1, N], alpha)    -->  Gemm(x, alpha * weights', bias[N])
    Gemm(x, Transpose(DequantizeLinear(w)))      -->  Gemm(x, DequantizeLinear(w), transB=1)

    What the weights' type can't hold isn't folded.
    """
    model = model.clone()
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "MatMul":
            _from_matmul(node)
        elif node.domain == "" and node.op_type == "Gemm":
            _from_gemm(node)
    for node in model.graph:
        if node.domain == "" and node.op_type == "Gemm":
            _untranspose(node)
    return model


def _from_matmul(node: onnx_ir.Node) -> None:
    """Replace a MatMul by a constant matrix, with the addition of a constant bias that may follow it."""
    graph, source, weights = node.graph, node.inputs[0], node.inputs[1]
    shape = shape_of(source) if source is not None else None
    extents = shape_of(weights) if weights is not None else None
    if not isinstance(graph, onnx_ir.Graph) or source is None or shape is None or len(shape) < 2:
        return
    if weights is None or extents is None or len(extents) != 2 or not _is_constant(weights):
        return
    last, bias = node, None
    addition = only_consumer(node.outputs[0])
    if addition is not None and addition.op_type == "Add" and not addition.domain:
        other = addition.inputs[1 if addition.inputs[0] is node.outputs[0] else 0]
        if other is not None and _is_constant(other) and shape_of(other) == extents[1:]:
            last, bias = addition, other
    dtype, (inner, columns), rows = source.dtype, extents, int(np.prod(shape[:-1]))
    matrix: onnx_ir.Value | None = source
    result_shape = (*shape[:-1], columns)
    if len(shape) > 2:
        flat = add_initializer(graph, f"{node.name}_rows", np.array([rows, inner], np.int64))
        name = f"{node.name}_flatten"
        matrix = add_node(last, "Reshape", [source, flat], {}, name, (rows, inner), dtype)
    array = constant(weights)
    if array is not None:
        weights = add_initializer(graph, f"{node.name}_weights", array.T)
    inputs = [matrix, weights] + ([bias] if bias is not None else [])
    form = {"transB": int(array is not None)}
    result = add_node(last, "Gemm", inputs, form, str(node.name), (rows, columns), dtype)
    if len(shape) > 2:
        full = add_initializer(graph, f"{node.name}_shape", np.array(result_shape, np.int64))
        name = f"{node.name}_unflatten"
        result = add_node(last, "Reshape", [result, full], {}, name, result_shape, dtype)
    replace_value(last.outputs[0], result)
    graph.remove([node] if last is node else [last, node], safe=True)


def _is_constant(value: onnx_ir.Value) -> bool:
    """Whether a value is an initializer, or one that is dequantized and perhaps transposed."""
    while (node := value.producer()) is not None:
        if node.domain or node.op_type not in ("DequantizeLinear", "Transpose") or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return constant(value) is not None


def _from_gemm(node: onnx_ir.Node) -> None:
    """Fold alpha, beta, transB and the bias's shape into a Gemm's constants."""
    graph, folded = node.graph, folded_gemm(node)
    if not isinstance(graph, onnx_ir.Graph) or folded is None:
        return
    weights, bias = folded
    if not attribute(node, "transB", 0) or attribute(node, "alpha", 1.0) != 1.0:
        node.replace_input_with(1, add_initializer(graph, f"{node.name}_weights", weights))
    given = constant(node.inputs[2]) if bias is not None else None
    if given is not None and bias is not None and not np.array_equal(given, bias):
        node.replace_input_with(2, add_initializer(graph, f"{node.name}_bias", bias))
    for name in ("alpha", "beta"):
        node.attributes.pop(name, None)
    node.attributes.add(onnx_ir.AttrInt64("transB", 1))


def _untranspose(node: onnx_ir.Node) -> None:
    """Let a Gemm read its weights as they are stored, where a Transpose lies between."""
    transpose = node.inputs[1].producer() if node.inputs[1] is not None else None
    if transpose is None or transpose.domain or transpose.op_type != "Transpose":
        return
    if _is_constant(transpose.outputs[0]) and attribute(transpose, "perm", [1, 0]) == [1, 0]:
        node.replace_input_with(1, transpose.inputs[0])
        node.attributes.add(onnx_ir.AttrInt64("transB", 1 - attribute(node, "transB", 0)))
