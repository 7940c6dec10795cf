"""Divide a float model into what runs in int8 and what stays in float."""

from dataclasses import dataclass

import onnx_ir

from edgec.compiler.compress.rules import CLIPS, RULES, Role, activations, finite
from edgec.compiler.graph import constant, only_consumer


@dataclass(frozen=True, eq=False)
class Unit:
    """One int8 operator: a node, and the Relu and Clip nodes that its own clamping computes."""

    node: onnx_ir.Node
    tail: tuple[onnx_ir.Node, ...]
    role: Role
    inputs: tuple[onnx_ir.Value, ...]
    """Its activations."""

    @property
    def outputs(self) -> tuple[onnx_ir.Value, ...]:
        """Its results, after the tail."""
        return tuple((self.tail[-1] if self.tail else self.node).outputs)


def units(graph: onnx_ir.Graph) -> tuple[Unit, ...]:
    """Return the int8 operators of a float graph, in its order.

    Products by constant weights always; every other operator where its inputs come in int8 anyway (from a
    unit or from outside): a conversion in front of cheap float arithmetic would only cost time and accuracy.
    """
    available = {value for value in graph.inputs if value.dtype == onnx_ir.DataType.FLOAT}
    found: list[Unit] = []
    taken: set[onnx_ir.Node] = set()
    for node in graph:
        rule = RULES.get(node.op_type)
        if rule is None or node.domain or node in taken:
            continue
        inputs = activations(node, rule)
        if inputs is None or not rule.accepts(node) or not finite(node):
            continue
        if rule.role != "product" and not available.issuperset(inputs):
            continue
        tail = _tail(node) if rule.role in ("product", "binary", "reduction") else ()
        unit = Unit(node, tail, rule.role, tuple(inputs))
        taken.update(tail)
        available.update(unit.outputs)
        found.append(unit)
    return _worthwhile(found)


def _tail(node: onnx_ir.Node) -> tuple[onnx_ir.Node, ...]:
    """Return the Relu and Clip nodes that alone read the node's result, one after the other."""
    tail: list[onnx_ir.Node] = []
    follower = only_consumer(node.outputs[0])
    while follower is not None and follower.op_type in CLIPS and not follower.domain:
        if any(value is not None and constant(value) is None for value in follower.inputs[1:]):
            break
        tail.append(follower)
        follower = only_consumer(follower.outputs[0])
    return tuple(tail)


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
