"""One form for every recurrent layer: one direction of whole sequences, time first, of which Y is read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir

from edgec.arrays import Array
from edgec.compiler.graph import (
    add_initializer,
    add_node,
    attribute,
    constant,
    replace_value,
    shape_of,
    unique,
    value_names,
)
from edgec.kernels.reference.precise_recurrent import DEFAULTS

_BIAS, _LENGTHS, _HIDDEN, _CELL, _PEEPHOLES = range(3, 8)
_PER_DIRECTION = ("activations", "activation_alpha", "activation_beta")


def write_recurrent(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with each LSTM, GRU and RNN in that form.

    Two directions become two nodes and a Concat; the last hidden state is taken from the others; layout 1 is
    transposed; sequences that all end early are cut, and their results filled up with zeros. States and
    peepholes that are zero are left out. What has no such form stays as it is.

    Y, H = GRU<direction="bidirectional">(x, W, R, B) -->
    F = GRU(x, W[0:1], R[0:1], B[0:1]), G = GRU<direction="reverse">(x, W[1:2], R[1:2], B[1:2]),
    Y = Concat(F, G, axis=1), H = Concat(F[-1], G[0], axis=0)
    """
    model = model.clone()
    for node in list(model.graph):
        if not node.domain and node.op_type in DEFAULTS and (layer := _layer(node)) is not None:
            layer.write()
    return model


def _layer(node: onnx_ir.Node) -> "_Layer | None":
    """Return a node that has another form, and can have this one."""
    inputs: list[onnx_ir.Value | None] = [*node.inputs, *[None] * 8][:8]
    for index in (_HIDDEN, _CELL, _PEEPHOLES):
        array = constant(inputs[index])
        if array is not None and not array.any():
            inputs[index] = None
    shapes = [None if value is None else shape_of(value) for value in inputs]
    if shapes[0] is None or shapes[1] is None or shapes[2] is None or 0 in shapes[0]:
        return None
    batch_first = bool(attribute(node, "layout", 0))
    steps = shapes[0][1 if batch_first else 0]
    length = steps
    lengths = inputs[_LENGTHS]
    if lengths is not None:
        array = constant(lengths)
        if array is None or not array.size or array.min() != array.max() or not 0 < array.min() <= steps:
            return None
        length, inputs[_LENGTHS] = int(array.min()), None
    same = inputs[: len(node.inputs)] == list(node.inputs)
    needed = [_read(output) for output in node.outputs if output.name][1:] in ([], [True])
    needed = needed and not any(map(_read, node.outputs[1:2]))
    if same and needed and not batch_first and shapes[2][0] == 1:
        return None
    batch = shapes[0][0 if batch_first else 1]
    return _Layer(node, inputs, shapes[2][0], shapes[2][2], batch_first, batch, steps, length)


@dataclass(frozen=True, eq=False)
class _Result:
    """What one direction computes."""

    states: onnx_ir.Value
    """Y."""
    cell: onnx_ir.Value | None
    """The last one, if it is read."""
    reverse: bool


class _Layer:
    """A node on its way."""

    def __init__(
        self, node: onnx_ir.Node, inputs: list[onnx_ir.Value | None], directions: int, hidden: int,
        batch_first: bool, batch: int, steps: int, length: int,
    ) -> None:  # fmt: skip
        """Take a node and all its eight inputs; of the `steps` of x the first `length` count."""
        self.node, self.inputs, self.directions, self.hidden = node, inputs, directions, hidden
        self.batch_first, self.batch, self.steps, self.length = batch_first, batch, steps, length
        graph = node.graph
        assert isinstance(graph, onnx_ir.Graph), "it is walked over"
        self.graph = graph

    def write(self) -> None:
        """Put what it is in the place of the node."""
        node, x = self.node, self.inputs[0]
        assert x is not None, "its shape is known"
        states = [self.inputs[_HIDDEN], self.inputs[_CELL]]
        if self.batch_first:
            x = self._add("Transpose", [x], {"perm": [1, 0, 2]}, "time_first")
            states = [
                None
                if state is None
                else self._add("Transpose", [state], {"perm": [1, 0, 2]}, f"state_{i}_first")
                for i, state in enumerate(states)
            ]
        if self.length < self.steps:
            x = self._slice(x, 0, self.length, 0, "whole")
        results = [self._direction(x, states, d) for d in range(self.directions)]
        makers = (self._every, self._last, self._cells)
        orders = ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2])
        for i, (old, make, order) in enumerate(zip(node.outputs, makers, orders, strict=False)):
            if _read(old):
                new = make(results)
                if self.batch_first:
                    new = self._add("Transpose", [new], {"perm": order}, f"batch_first_{i}")
                new.shape = old.shape  # a layer that reads it directly is written next
                replace_value(old, new)
        self.graph.remove(node, safe=True)

    def _every(self, results: list[_Result]) -> onnx_ir.Value:
        """Return all hidden states, those behind the sequences' end being zero."""
        every = self._joined([one.states for one in results], 1, "y")
        if self.length == self.steps:
            return every
        pads = np.array([0, 0, 0, 0, self.steps - self.length, 0, 0, 0], np.int64)
        return self._add("Pad", [every, self._constant(pads, "behind")], {}, "filled")

    def _last(self, results: list[_Result]) -> onnx_ir.Value:
        """Return the last hidden states."""
        last = []
        for number, one in enumerate(results):
            end = np.array(0 if one.reverse else self.length - 1, np.int64)
            index = self._constant(end, f"end_{number}")
            last.append(self._add("Gather", [one.states, index], {"axis": 0}, f"last_{number}"))
        return self._joined(last, 0, "y_h")

    def _cells(self, results: list[_Result]) -> onnx_ir.Value:
        """Return the last cells."""
        return self._joined([one.cell for one in results if one.cell is not None], 0, "y_c")

    def _direction(self, x: onnx_ir.Value, initial: list[onnx_ir.Value | None], number: int) -> _Result:
        """Write the node of one direction."""
        node = self.node
        reverse = attribute(node, "direction", "forward") == "reverse" or number == 1
        kept: dict[str, Any] = {
            name: attribute.value
            for name, attribute in node.attributes.items()
            if name not in (*_PER_DIRECTION, "direction", "layout")
        }
        kept |= {"direction": "reverse" if reverse else "forward", "hidden_size": self.hidden}
        for name in _PER_DIRECTION:
            values = attribute(node, name, [])
            count = len(values) // self.directions
            if count:
                kept[name] = values[number * count : (number + 1) * count]
        own = [self._part(self.inputs[index], number, index) for index in (1, 2, _BIAS)]
        begun = [self._part(state, number, _HIDDEN + i) for i, state in enumerate(initial)]
        peepholes = self._part(self.inputs[_PEEPHOLES], number, _PEEPHOLES)
        inputs = [x, *own, self.inputs[_LENGTHS], *begun, peepholes]
        while inputs[-1] is None:
            inputs.pop()
        states = self._value(f"states_{number}", (self.length, 1, self.batch, self.hidden))
        cell = None
        outputs = [states]
        if any(map(_read, node.outputs[2:])):
            cell = self._value(f"cell_{number}", (1, self.batch, self.hidden))
            outputs += [onnx_ir.val(""), cell]
        name = str(node.name) if self.directions == 1 else f"{node.name}_{kept['direction']}"
        written = onnx_ir.node(node.op_type, inputs, kept, outputs=outputs, name=name)
        written.metadata_props.update(node.metadata_props)
        self.graph.insert_before(node, written)
        return _Result(states, cell, reverse)

    def _part(self, value: onnx_ir.Value | None, number: int, index: int) -> onnx_ir.Value | None:
        """Return a direction's part of an input."""
        if value is None or self.directions == 1:
            return value
        array = constant(value)
        if array is None:
            return self._slice(value, number, number + 1, 0, f"input_{index}_{number}")
        return self._constant(array[number : number + 1], f"input_{index}_{number}")

    def _joined(self, parts: list[onnx_ir.Value], axis: int, name: str) -> onnx_ir.Value:
        return parts[0] if len(parts) == 1 else self._add("Concat", list(parts), {"axis": axis}, name)

    def _slice(self, value: onnx_ir.Value, start: int, end: int, axis: int, name: str) -> onnx_ir.Value:
        bounds = [
            self._constant(np.array([bound], np.int64), f"{name}_{i}")
            for i, bound in enumerate((start, end, axis))
        ]
        return self._add("Slice", [value, *bounds], {}, name)

    def _constant(self, array: Array, name: str) -> onnx_ir.Value:
        return add_initializer(self.graph, f"{self.node.name}_{name}", array)

    def _add(
        self, operator: str, inputs: list[onnx_ir.Value | None], attributes: dict[str, Any], name: str
    ) -> onnx_ir.Value:
        dtype = onnx_ir.DataType.FLOAT
        return add_node(self.node, operator, inputs, attributes, f"{self.node.name}_{name}", None, dtype)

    def _value(self, name: str, shape: tuple[int, ...]) -> onnx_ir.Value:
        name = unique(f"{self.node.name}_{name}", value_names(self.graph))
        return onnx_ir.val(name, onnx_ir.DataType.FLOAT, onnx_ir.Shape(shape))


def _read(value: onnx_ir.Value) -> bool:
    return bool(value.name) and (bool(value.uses()) or value.is_graph_output())
