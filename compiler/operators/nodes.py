"""What the table says of one node."""

from collections.abc import Sequence

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import constant, only_consumer, shape_of
from edgec.compiler.operators.builder import Builder, S
from edgec.compiler.operators.row import FloatForm, OnnxOperator, Real
from edgec.compiler.operators.table import OPERATORS


def row_of(node: onnx_ir.Node) -> OnnxOperator | None:
    """Return the row of a node's operator, None where it has none."""
    return None if node.domain else OPERATORS.get(node.op_type)


def moves(node: onnx_ir.Node) -> bool:
    """Whether a node only moves elements, in a way that is known at compile time."""
    row = row_of(node)
    return row is not None and row.move is not None and row.refuses(node) is None


def move(builder: Builder, node: onnx_ir.Node, source: S) -> list[S]:
    """Return the outputs of a node that moves elements."""
    row = row_of(node)
    assert row is not None and row.move is not None, "moves() said so"  # noqa: PT018
    moved: list[S] = row.move(builder, node, source)
    return moved


def float_form(node: onnx_ir.Node) -> FloatForm | None:
    """Return how a node of a float model is computed by a kernel of edgec's own, None where it isn't."""
    row = row_of(node)
    if row is None or row.floating is None:
        return None
    values = [reader.inputs[index] for reader, index in row.inputs(node)]
    floats = all(value is not None and value.dtype == onnx_ir.DataType.FLOAT for value in values)
    return row.floating if floats and row.refuses(node) is None else None


# --- functions of one element -------------------------------------------------------------------------------


def operand(node: onnx_ir.Node) -> int | None:
    """Return which input a node is a unary function of, element by element, or None where it is none."""
    row = row_of(node)
    if row is None or (row.function is None and row.of_two is None) or row.refuses(node) is not None:
        return None
    if row.function is not None:
        return 0
    if len(node.inputs) != 2:
        return None
    for index, value in enumerate(node.inputs):
        scalar = constant(node.inputs[1 - index])
        if value is None or scalar is None or scalar.size != 1:
            continue
        if shape_of(value) == shape_of(node.outputs[0]):  # no further dimensions by broadcasting
            return index
    return None


def evaluate(node: onnx_ir.Node, x: Real) -> Real:
    """Return what such a node computes of real numbers `x`; NaN where the function isn't defined."""
    row, index = row_of(node), operand(node)
    assert row is not None, "operand() said so"
    assert index is not None, "operand() said so"
    with np.errstate(all="ignore"):
        if row.function is not None:
            return np.asarray(row.function(node, x), np.float64)
        scalar = constant(node.inputs[1 - index])
        assert row.of_two is not None, "operand() said so"
        assert scalar is not None, "operand() said so"
        other = scalar.astype(np.float64).reshape(1)
        return np.asarray(row.of_two(*((x, other) if index == 0 else (other, x))), np.float64)


def elementwise(node: onnx_ir.Node) -> bool:
    """Whether a node computes element by element, of one tensor or of several of one shape."""
    row = row_of(node)
    return operand(node) is not None or (row is not None and row.of_two is not None)


# --- limits -------------------------------------------------------------------------------------------------


def clamps(node: onnx_ir.Node) -> bool:
    """Whether a node only limits numbers, by constants."""
    row = row_of(node)
    return row is not None and row.clamps and operand(node) == 0


def tail(node: onnx_ir.Node) -> tuple[onnx_ir.Node, ...]:
    """Return the nodes that limit a node's result, one after the other, as long as nobody else reads between.

    An operation's own clamping computes them.
    """
    found: list[onnx_ir.Node] = []
    value = node.outputs[0]
    while (reader := only_consumer(value)) is not None and clamps(reader) and reader.inputs[0] is value:
        found.append(reader)
        value = reader.outputs[0]
    return tuple(found)


def limits(tail: Sequence[onnx_ir.Node]) -> NDArray[np.float64]:
    """Return the least and the largest number that such nodes let pass."""
    ends = np.array([-np.inf, np.inf])
    for node in tail:
        ends = evaluate(node, ends)
    return ends
