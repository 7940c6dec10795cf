"""One form for every product of two activations: MatMul, with transposes and reshapes around it."""

import math

import numpy as np
import onnx_ir

from edgec.compiler.graph import (
    add_initializer,
    add_node,
    attribute,
    constant,
    replace_value,
    reshaped,
    shape_of,
    transposed,
)


def write_matmul(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with Einsum of two float32 operands, and Gemm without constant weights, as MatMul.

    Einsum("bhid,bhjd->bhij", a, b)      -->  MatMul(a, Transpose(b))
    Gemm(a, b, c, transA=1, alpha, beta) -->  Add(Mul(MatMul(Transpose(a), b), alpha), Mul(c, beta))

    An Einsum stays that repeats a letter in an operand, or sums over one that only one operand has.
    """
    model = model.clone()
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "Einsum":
            _from_einsum(node)
        elif node.domain == "" and node.op_type == "Gemm":
            _from_gemm(node)
    return model


def _from_gemm(node: onnx_ir.Node) -> None:
    """Replace a Gemm whose operands are both computed."""
    a, b, c = (*node.inputs, None)[:3]
    if a is None or b is None or a.dtype != onnx_ir.DataType.FLOAT or _is_constant(b):
        return
    if shape_of(a) is None or shape_of(b) is None:
        return
    if attribute(node, "transA", 0):
        a = transposed(node, a, [1, 0], "left")
    if attribute(node, "transB", 0):
        b = transposed(node, b, [1, 0], "right")
    result = _matmul(node, a, b)
    result = _scaled(node, result, attribute(node, "alpha", 1.0), "alpha")
    if c is not None:
        added = _scaled(node, c, attribute(node, "beta", 1.0), "beta")
        shape = shape_of(node.outputs[0])
        result = add_node(node, "Add", [result, added], {}, f"{node.name}_add", shape, a.dtype)
    _replace(node, result)


def _is_constant(value: onnx_ir.Value) -> bool:
    """Whether a value is a constant, or one that is dequantized or moved."""
    while (node := value.producer()) is not None:
        if node.domain or node.op_type not in ("DequantizeLinear", "Transpose") or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return constant(value) is not None


def _scaled(node: onnx_ir.Node, value: onnx_ir.Value, factor: float, name: str) -> onnx_ir.Value:
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph), "nodes of a graph are rewritten"
    if factor == 1.0:
        return value
    number = add_initializer(graph, f"{node.name}_{name}", np.array(factor, np.float32))
    return add_node(node, "Mul", [value, number], {}, f"{node.name}_{name}_mul", shape_of(value), value.dtype)


def _from_einsum(node: onnx_ir.Node) -> None:
    """Replace an Einsum that is one product of matrices for every index that both operands have."""
    if len(node.inputs) != 2 or any(value is None for value in node.inputs):
        return
    a, b = (value for value in node.inputs if value is not None)
    terms = _terms(attribute(node, "equation", ""), a, b)
    if terms is None or a.dtype != onnx_ir.DataType.FLOAT:
        return
    left, right, wanted = terms
    batch = [letter for letter in wanted if letter in left and letter in right]
    rows = [letter for letter in wanted if letter in left and letter not in right]
    columns = [letter for letter in wanted if letter in right and letter not in left]
    inner = [letter for letter in left if letter in right and letter not in wanted]
    if {*batch, *rows, *columns} != set(wanted) or {*batch, *rows, *inner} != set(left):
        return
    if {*batch, *columns, *inner} != set(right):
        return
    extents, others = (
        dict(zip(letters, shape_of(value) or (), strict=True)) for letters, value in ((left, a), (right, b))
    )
    if any(extents.get(letter, n) != n for letter, n in others.items()):
        return  # broadcasts an extent of 1
    extents |= others
    one = _gathered(node, a, left, [batch, rows, inner], extents, "left")
    two = _gathered(node, b, right, [batch, inner, columns], extents, "right")
    result = _matmul(node, one, two)
    letters = [*batch, *rows, *columns]
    result = reshaped(node, result, tuple(extents[letter] for letter in letters), "result")
    result = transposed(node, result, [letters.index(letter) for letter in wanted], "result")
    _replace(node, result)


def _terms(equation: str, a: onnx_ir.Value, b: onnx_ir.Value) -> tuple[str, str, str] | None:
    """Return the letters of both operands and of the result; None where there is more to the equation."""
    equation = equation.replace(" ", "")
    given, arrow, wanted = equation.partition("->")
    operands = given.split(",")
    if len(operands) != 2 or "." in equation:
        return None
    left, right = operands
    if not arrow:  # in the alphabet's order, those that occur once
        wanted = "".join(sorted(letter for letter in set(left + right) if (left + right).count(letter) == 1))
    for letters, value in ((left, a), (right, b), (wanted, None)):
        shape = shape_of(value) if value is not None else letters
        if shape is None or len(shape) != len(letters) or len(set(letters)) != len(letters):
            return None
    return left, right, wanted


def _gathered(
    node: onnx_ir.Node, value: onnx_ir.Value, letters: str, groups: list[list[str]], extents: dict[str, int],
    name: str,
) -> onnx_ir.Value:  # fmt: skip
    """Return an operand with its letters in the groups' order; the last two groups are one axis each."""
    order = [letter for group in groups for letter in group]
    value = transposed(node, value, [letters.index(letter) for letter in order], name)
    batch, *others = groups
    shape = [extents[letter] for letter in batch]
    shape += [math.prod(extents[letter] for letter in group) for group in others]
    return reshaped(node, value, tuple(shape), name)


def _matmul(node: onnx_ir.Node, a: onnx_ir.Value, b: onnx_ir.Value) -> onnx_ir.Value:
    one, two = shape_of(a), shape_of(b)
    assert one is not None, "the caller asked"
    assert two is not None, "the caller asked"
    shape = (*one[:-1], two[-1])
    return add_node(node, "MatMul", [a, b], {}, str(node.name), shape, a.dtype)


def _replace(node: onnx_ir.Node, result: onnx_ir.Value) -> None:
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph), "nodes of a graph are rewritten"
    replace_value(node.outputs[0], result)
    graph.remove([node], safe=True)
