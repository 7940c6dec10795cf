"""Divide a float model into what runs in int8 and what stays in float."""

from dataclasses import dataclass

import onnx_ir

from edgec.compiler.compress.policy import activations, is_product, rule
from edgec.compiler.operators.attention import inner_nodes
from edgec.compiler.operators.nodes import tail
from edgec.compiler.operators.row import OnnxOperator, Role

_CLAMPING = ("product", "bilinear", "binary", "reduction")
"""Roles of operations that limit their results on the way out: the ends of the int8 range."""

_COSTLY = ("product", "bilinear")
"""Roles of operations that are worth converting floats for."""


@dataclass(frozen=True, eq=False)
class Unit:
    """One int8 operator: a node, and the Relu and Clip nodes that its own clamping computes."""

    node: onnx_ir.Node
    row: OnnxOperator
    """The row of the table for the node's operator."""
    tail: tuple[onnx_ir.Node, ...]
    inputs: tuple[onnx_ir.Value, ...]
    """The node's activations."""

    @property
    def role(self) -> Role:
        """What the operator does with scales."""
        return self.row.role

    @property
    def outputs(self) -> tuple[onnx_ir.Value, ...]:
        """The results of the node, or of the tail's end where there is a tail."""
        return tuple((self.tail[-1] if self.tail else self.node).outputs)


def units(graph: onnx_ir.Graph) -> tuple[Unit, ...]:
    """Return the int8 operators of a float graph, in its order.

    Products always; every other operator where its inputs come in int8 anyway (from a
    unit or from outside): a conversion in front of cheap float arithmetic would only cost time and accuracy.
    What a front end takes the logarithm of stays in float, see `_before_logarithms`.
    """
    in_float = _before_logarithms(graph)
    available = {value for value in graph.inputs if value.dtype == onnx_ir.DataType.FLOAT}
    found: list[Unit] = []
    taken = inner_nodes(graph)
    for node in graph:
        row = None if node in taken or node in in_float else rule(node)
        inputs = None if row is None else activations(node, row)
        if row is None or inputs is None:
            continue
        if row.role not in _COSTLY and not available.issuperset(inputs):
            continue
        unit = Unit(node, row, tail(node) if row.role in _CLAMPING else (), tuple(inputs))
        taken.update(unit.tail)
        available.update(unit.outputs)
        found.append(unit)
    return _worthwhile(found)


def _before_logarithms(graph: onnx_ir.Graph) -> set[onnx_ir.Node]:
    """Return the nodes that a logarithm is computed from, where layers with weights read its result.

    A logarithm asks for ratios (of powers a million apart, in a log-mel front end), where int8 has equal
    steps: all that is quiet would be zero, and its logarithm minus infinity. One at a network's end, of
    probabilities, leaves the network as it is.
    """
    before: set[onnx_ir.Node] = set()
    for node in graph:
        if node.op_type == "Log" and not node.domain and _read_by_product(node):
            front: list[onnx_ir.Node | None] = [node]
            while front:
                found = front.pop()
                if found is not None and found not in before:
                    before.add(found)
                    front += [value.producer() for value in found.inputs if value is not None]
    return before


def _read_by_product(node: onnx_ir.Node) -> bool:
    """Whether a product by weights reads what follows from a node."""
    seen: set[onnx_ir.Node] = set()
    front = [node]
    while front:
        for reader in {usage.node for output in front.pop().outputs for usage in output.uses()} - seen:
            if is_product(reader):
                return True
            seen.add(reader)
            front.append(reader)
    return False


def _worthwhile(found: list[Unit]) -> tuple[Unit, ...]:
    """Drop units that only move data between float operators: int8 would round for nothing."""
    computed: set[onnx_ir.Value] = set()
    kept: set[Unit] = set()
    for unit in found:
        if unit.role not in ("movement", "concat") or computed.intersection(unit.inputs):
            computed.update(unit.outputs)
            kept.add(unit)
    read: set[onnx_ir.Value] = {value for unit in kept for value in unit.inputs}
    for unit in reversed(found):
        if unit in kept or read.intersection(unit.outputs):
            kept.add(unit)
            read.update(unit.inputs)
    return tuple(unit for unit in found if unit in kept)
