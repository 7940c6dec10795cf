"""Divide a float model into what runs in int8 and what stays in float."""

from dataclasses import dataclass

import onnx_ir

from edgec.compiler.compress.policy import activations, is_product, rule
from edgec.compiler.operators.attention import attention, inner_nodes
from edgec.compiler.operators.nodes import combines, operand, tail
from edgec.compiler.operators.row import OnnxOperator, Role

_CLAMPING = ("product", "bilinear", "binary", "reduction")
"""Roles of operations that limit their results on the way out: the ends of the int8 range."""

_COSTLY = ("product", "bilinear", "recurrent")
"""Roles of operations that are worth converting floats for."""


@dataclass(frozen=True, eq=False)
class Unit:
    """One int8 operation: a node, and those that are computed with it."""

    node: onnx_ir.Node
    row: OnnxOperator
    """The row of the table for the node's operator."""
    role: Role
    """What the operation does with scales."""
    inputs: tuple[onnx_ir.Value, ...]
    """The operation's activations."""
    tail: tuple[onnx_ir.Node, ...] = ()
    """The Relu and Clip nodes behind the node that its own clamping computes."""
    inner: tuple[onnx_ir.Node, ...] = ()
    """The nodes before it whose results stay within the operation."""

    @property
    def outputs(self) -> tuple[onnx_ir.Value, ...]:
        """The results of the node, or of the tail's end where there is a tail."""
        return tuple((self.tail[-1] if self.tail else self.node).outputs)


def units(graph: onnx_ir.Graph) -> tuple[Unit, ...]:
    """Return the int8 operations of a float graph, in its order.

    Products always; every other operator where its inputs come in int8 anyway (from a
    unit or from outside): a conversion in front of cheap float arithmetic would only cost time and accuracy.
    What a front end takes the logarithm of stays in float, see `_before_logarithms`, and what decodes the
    results, see `_decodes`.
    """
    in_float = _before_logarithms(graph)
    available = {value for value in graph.inputs if value.dtype == onnx_ir.DataType.FLOAT}
    found: list[Unit] = []
    functions = _Functions()
    taken = inner_nodes(graph)
    for node in graph:
        row = None if node in taken or node in in_float or _decodes(node) else rule(node)
        inputs = None if row is None else activations(node, row)
        if row is None or inputs is None:
            continue
        if row.role not in _COSTLY and not available.issuperset(inputs):
            continue
        if (unit := functions.unit(node, row)) is None:
            form = attention(node)
            inner = () if form is None else form.inner
            clamped = tail(node) if row.role in _CLAMPING else ()
            unit = Unit(node, row, row.role, tuple(inputs), clamped, inner)
        taken.update(unit.tail)
        available.update(unit.outputs)
        found.append(unit)
    return _worthwhile([unit for unit in found if not functions.inside(unit)])


class _Functions:
    """Functions of one value, element by element, however many nodes they are: one table each.

    x * (erf(x / sqrt(2)) + 1) / 2 is five nodes, of which the last is a unit.
    """

    def __init__(self) -> None:
        """None is found yet."""
        self._arguments: dict[onnx_ir.Value, onnx_ir.Value] = {}
        self._nodes: dict[onnx_ir.Value, tuple[onnx_ir.Node, ...]] = {}
        """The nodes that compute such a value from its argument, in order."""

    def unit(self, node: onnx_ir.Node, row: OnnxOperator) -> Unit | None:
        """Return the unit of a node that completes such a function, None for any other."""
        index = operand(node)
        if index is None and not combines(node):
            return None
        read = [
            value for value in (node.inputs if index is None else node.inputs[index : index + 1]) if value
        ]
        (argument, *others) = {self._arguments.get(value, value) for value in read}
        if others:
            return None
        before = tuple(dict.fromkeys(part for value in read for part in self._nodes.get(value, ())))
        value = node.outputs[0]
        self._arguments[value], self._nodes[value] = argument, (*before, node)
        return Unit(node, row, "unary", (argument,), inner=before)

    def inside(self, unit: Unit) -> bool:
        """Whether a unit's result is read by functions of the same argument only, which compute it anew."""
        value = unit.outputs[0]
        if value not in self._arguments or value.is_graph_output() or not value.uses():
            return False
        argument = self._arguments[value]
        readers = [usage.node.outputs[0] for usage in value.uses()]
        return all(self._arguments.get(reader) is argument for reader in readers)


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


def _decodes(node: onnx_ir.Node) -> bool:
    """Whether a node makes results of what the network says: a difference or quotient behind all products.

    Boxes are differences of corners, in pixels of an image: its edge would have 255 places.
    """
    return node.op_type in ("Sub", "Div") and not node.domain and not _read_by_product(node)


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
