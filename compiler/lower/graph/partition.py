"""What of a float model has a kernel, and how the rest of it groups into islands."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import onnx_ir

from edgec.compiler.graph import shape_of
from edgec.compiler.operators.constants import is_known
from edgec.compiler.operators.nodes import elementwise, float_form, moves, tail

Nodes = tuple[onnx_ir.Node, ...]


@dataclass(frozen=True, eq=False)
class Partition:
    """Every node is a layer, in a layer's tail, a movement, in an island, or known at compile time."""

    tails: dict[onnx_ir.Node, Nodes]
    """By layer: the Relu and Clip that it computes itself, in order."""
    owners: dict[onnx_ir.Node, onnx_ir.Node]
    """By node of a tail: the layer."""
    islands: dict[onnx_ir.Node, Nodes]
    """By node: the island it is in, in the graph's order."""


def partition(nodes: Sequence[onnx_ir.Node]) -> Partition:
    """Return which of these nodes, computed in float, is computed how; in the graph's order."""
    inside = set(nodes)
    forms = {node: form for node in nodes if (form := float_form(node)) is not None}
    tails = {
        node: tuple(takewhile(inside.__contains__, tail(node))) if form.clips else ()
        for node, form in forms.items()
    }
    owners = {clip: node for node, clips in tails.items() for clip in clips}
    known = {node for node in nodes if node.outputs and is_known(node.outputs[0])}
    rest = [node for node in nodes if node not in tails and node not in owners and node not in known]
    return Partition(tails, owners, _islands(nodes, _inside(rest)))


def _inside(rest: list[onnx_ir.Node]) -> set[onnx_ir.Node]:
    """Return the nodes of islands: those without a kernel, and movements between nothing but them."""
    islands = {node for node in rest if not moves(node)}
    between: set[onnx_ir.Node] = set()
    for node in rest:
        source = node.inputs[0].producer() if moves(node) and node.inputs[0] is not None else None
        if source in islands or source in between:
            between.add(node)
    for node in reversed(rest):
        readers = {usage.node for output in node.outputs for usage in output.uses()}
        if node in between and (not readers or not readers <= islands | between):
            between.discard(node)
    return islands | between


def _islands(nodes: Sequence[onnx_ir.Node], inside: set[onnx_ir.Node]) -> dict[onnx_ir.Node, Nodes]:
    """Group nodes that read each other and can be computed together.

    A path that leaves an island and comes back raises the level, so that nodes of one level don't wait for
    others of it.
    """
    levels: dict[onnx_ir.Node, int] = {}
    groups: dict[onnx_ir.Node, list[onnx_ir.Node]] = {}
    for node in nodes:
        sources = [value.producer() for value in node.inputs if value is not None]
        before = [source for source in sources if source in levels]
        levels[node] = max((levels[s] + (s in inside and node not in inside) for s in before), default=0)
        if node not in inside:
            continue
        merged = [node]
        for source in before:
            group = groups.get(source)
            if group is not None and levels[source] == levels[node] and group is not merged:
                merged = [*group, *(other for other in merged if other not in group)]
        for member in merged:
            groups[member] = merged
    order = {node: index for index, node in enumerate(nodes)}
    return {node: tuple(sorted(group, key=order.__getitem__)) for node, group in groups.items()}


def lies_anywhere(island: Nodes) -> bool:
    """Whether an island computes element by element, so that its tensors may lie in any one order."""
    for node in island:
        values = [value for value in node.inputs if value is not None and not value.is_initializer()]
        if not elementwise(node):
            return False
        if any(shape_of(value) != shape_of(node.outputs[0]) for value in values):
            return False
        constants = [value for value in node.inputs if value is not None and value.is_initializer()]
        if any(shape_of(value) not in ((), (1,)) for value in constants):
            return False
    return True
