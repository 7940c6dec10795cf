"""Attention as exporters write it, MatMul by MatMul: which nodes are one operation, and what it reads."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant, only_consumer, shape_of
from edgec.compiler.operators.row import Operand
from edgec.kernels.operations import LONGEST


@dataclass(frozen=True, eq=False)
class AttentionForm:
    """softmax(queries · keys * scale + mask) · values, over the last axis."""

    operands: tuple[Operand, ...]
    """Queries [..., rows, inner], keys [..., inner, length], values [..., length, columns] and, if there is
    one, the mask, which broadcasts to [..., rows, length]."""
    scale: float
    inner: tuple[onnx_ir.Node, ...]
    """The nodes before the last, whose results nobody else reads."""


def attention(node: onnx_ir.Node) -> AttentionForm | None:
    """Return the attention that a MatMul ends, None where it ends none."""
    softmax = _only_read_here(node, 0, "Softmax")
    if node.domain or node.op_type != "MatMul" or softmax is None:
        return None
    scores = shape_of(softmax.outputs[0])
    if scores is None or len(scores) < 2 or attribute(softmax, "axis", -1) not in (-1, len(scores) - 1):
        return None
    for last, mask, inner in _masked(softmax):
        scaled = _scaled(last)
        if scaled is None:
            continue
        product, scale, more = scaled
        queries, keys = _factored(product, 0), _factored(product, 1)
        shapes = [shape_of(value) if value is not None else None for value in product.inputs]
        values = shape_of(node.inputs[1]) if node.inputs[1] is not None else None
        if values is None or any(shape is None or len(shape) < 2 for shape in (*shapes, values)):
            return None
        if max(shapes[0][-1] if shapes[0] else 0, scores[-1]) > LONGEST or 0 in scores:
            return None
        operands = (queries.operand, keys.operand, (node, 1), *mask)
        scale *= queries.factor * keys.factor
        return AttentionForm(operands, scale, (*queries.nodes, *keys.nodes, product, *more, *inner, softmax))
    return None


def inner_nodes(graph: onnx_ir.Graph) -> set[onnx_ir.Node]:
    """Return the nodes of a graph that are part of an attention, but for those that end one."""
    found = (attention(node) for node in graph)
    return {node for form in found if form is not None for node in form.inner}


_Masked = tuple[tuple[onnx_ir.Node, int], tuple[Operand, ...], tuple[onnx_ir.Node, ...]]


def _masked(softmax: onnx_ir.Node) -> list[_Masked]:
    """Return what a Softmax's input may be: where the scores are, the mask, and their addition."""
    addition = _only_read_here(softmax, 0, "Add")
    if addition is None:
        return [((softmax, 0), (), ())]
    found: list[_Masked] = []
    scores = shape_of(softmax.outputs[0])
    for index in (0, 1):
        mask = addition.inputs[1 - index]
        shape = shape_of(mask) if mask is not None else None
        if mask is None or not shape or scores is None or mask.dtype != onnx_ir.DataType.FLOAT:
            continue
        array = constant(mask)
        if (array is None or np.isfinite(array).all()) and shape[-1] == scores[-1]:
            found.append(((addition, index), ((addition, 1 - index),), (addition,)))
    return found


@dataclass(frozen=True, eq=False)
class _Factored:
    """An operand without the positive number that it is multiplied by, which may as well scale the scores."""

    operand: Operand
    factor: float
    nodes: tuple[onnx_ir.Node, ...]


def _factored(product: onnx_ir.Node, index: int) -> _Factored:
    scaling = _only_read_here(product, index, "Mul")
    if scaling is not None:
        for side in (0, 1):
            factor, operand = constant(scaling.inputs[1 - side]), scaling.inputs[side]
            number = float(factor.reshape(())) if factor is not None and factor.size == 1 else math.nan
            if 0 < number < math.inf and operand is not None and operand.shape == scaling.outputs[0].shape:
                return _Factored((scaling, side), number, (scaling,))
    return _Factored((product, index), 1.0, ())


def _scaled(last: tuple[onnx_ir.Node, int]) -> tuple[onnx_ir.Node, float, tuple[onnx_ir.Node, ...]] | None:
    """Return the product behind an input, what it is multiplied by, and the node that does that."""
    reader, index = last
    for operator in ("Mul", "Div"):
        scaling = _only_read_here(reader, index, operator)
        if scaling is None:
            continue
        for side in (0, 1) if operator == "Mul" else (0,):
            factor = constant(scaling.inputs[1 - side])
            product = _only_read_here(scaling, side, "MatMul")
            if product is not None and factor is not None and factor.size == 1:
                number = float(factor.reshape(()))
                scale = number if operator == "Mul" else 1 / number if number else 0.0
                positive = scale > 0 and math.isfinite(scale)
                return (product, scale, (scaling,)) if positive else None
    product = _only_read_here(reader, index, "MatMul")
    return None if product is None else (product, 1.0, ())


def _only_read_here(reader: onnx_ir.Node, index: int, operator: str) -> onnx_ir.Node | None:
    """Return the node of an operator that an input comes from, if nobody else reads that value."""
    value = reader.inputs[index] if index < len(reader.inputs) else None
    node = value.producer() if value is not None else None
    if value is None or node is None or node.domain or node.op_type != operator:
        return None
    return node if only_consumer(value) is reader else None
