"""Small questions about an ONNX graph, and small edits of it, that many passes need."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir

from edgec.arrays import Array

OWN_METADATA = "edgec."
"""How the keys of what edgec itself notes of a node begin."""


def constant(value: onnx_ir.Value | None) -> Array | None:
    """Return the array of an initializer, or None for anything else."""
    if value is None or not value.is_initializer() or value.is_graph_input() or value.const_value is None:
        return None
    return value.const_value.numpy()


def fits(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether numbers stay finite in a type. Where they don't, a model may still: don't fold."""
    with np.errstate(over="ignore"):
        return bool(np.all(np.isfinite(array.astype(dtype))))


def shape_of(value: onnx_ir.Value) -> tuple[int, ...] | None:
    """Return the static shape, or None where it isn't known."""
    if value.shape is None or not all(isinstance(extent, int) for extent in value.shape):
        return None
    return tuple(int(extent) for extent in value.shape)  # type: ignore[arg-type]  # just checked


def only_consumer(value: onnx_ir.Value) -> onnx_ir.Node | None:
    """Return the one node that reads `value`, or None when several do or the model's user does."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def value_names(graph: onnx_ir.Graph) -> set[str]:
    """Return every name taken in `graph`, subgraphs included."""
    values = [*graph.inputs, *graph.initializers.values()]
    values += [output for node in graph.all_nodes() for output in node.outputs]
    values += [value for subgraph in graph.subgraphs() for value in subgraph.inputs]
    return {value.name for value in values if value.name}


def unique(name: str, taken: Iterable[str]) -> str:
    """Return `name`, or the first of `name_1`, `name_2`, ... that isn't taken."""
    taken = taken if isinstance(taken, set | frozenset | dict) else set(taken)
    candidate, suffix = name, 0
    while candidate in taken:
        suffix += 1
        candidate = f"{name}_{suffix}"
    return candidate


def add_initializer(graph: onnx_ir.Graph, name: str, array: Array) -> onnx_ir.Value:
    """Add a constant to `graph`, under `name` or the next free name like it."""
    name = unique(name, value_names(graph))
    tensor = onnx_ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=name)
    value = onnx_ir.val(name, const_value=tensor)
    graph.register_initializer(value)
    return value


def add_node(
    before: onnx_ir.Node,
    operator: str,
    inputs: list[onnx_ir.Value | None],
    attributes: dict[str, Any],
    name: str,
    shape: Sequence[int] | onnx_ir.Shape | None,
    dtype: onnx_ir.DataType | None,
) -> onnx_ir.Value:
    """Insert a node with one output in front of `before`; return the output, named like the node."""
    graph = before.graph
    assert isinstance(graph, onnx_ir.Graph)
    output = onnx_ir.val(unique(name, value_names(graph)), dtype, shape)
    graph.insert_before(before, onnx_ir.node(operator, inputs, attributes, outputs=[output], name=name))
    return output


def transposed(node: onnx_ir.Node, value: onnx_ir.Value, order: list[int], name: str) -> onnx_ir.Value:
    """Return a value of known shape with its axes in another order, as a Transpose in front of `node`."""
    shape = shape_of(value)
    assert shape is not None, "the caller asked"
    if order == sorted(order):
        return value
    result = tuple(shape[axis] for axis in order)
    return add_node(
        node, "Transpose", [value], {"perm": order}, f"{node.name}_{name}_transpose", result, value.dtype
    )


def reshaped(node: onnx_ir.Node, value: onnx_ir.Value, shape: tuple[int, ...], name: str) -> onnx_ir.Value:
    """Return a value in another shape, as a Reshape in front of `node`."""
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph), "nodes of a graph are rewritten"
    if shape_of(value) == shape:
        return value
    wanted = add_initializer(graph, f"{node.name}_{name}_shape", np.array(shape, np.int64))
    return add_node(node, "Reshape", [value, wanted], {}, f"{node.name}_{name}_reshape", shape, value.dtype)


def replace_value(old: onnx_ir.Value, new: onnx_ir.Value) -> None:
    """Let every reader of `old` read `new`; a graph output keeps its name."""
    if old.is_graph_output():
        name = old.name
        old.name = f"{name}_replaced"
        new.name = name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def attribute(node: onnx_ir.Node, name: str, default: Any) -> Any:
    """Return an attribute's value (a list for ints and floats), or `default` where the node has none."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return list(found.value) if isinstance(found.value, tuple | list) else found.value
