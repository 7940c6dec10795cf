"""Nodes in float: float kernels, and islands for the operators that have none."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir

from edgec.compiler.lower.graph.partition import Nodes, lies_anywhere, partition
from edgec.compiler.lower.islands.submodel import described, read_outside, submodel
from edgec.compiler.model import Model
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, Seen, builder_of
from edgec.compiler.operators.constants import is_known, known
from edgec.compiler.operators.nodes import float_form, limits, move, moves, row_of
from edgec.compiler.operators.row import FloatRequest
from edgec.kernels.operations import Island, Network


def floating(model: Model) -> Network:
    """Return the network that computes `model`, in which nothing is quantized.

    The model is one that `check` lets pass.
    """
    graph = model.ir.graph
    builder = builder_of(graph)
    given = {}
    for value in graph.inputs:
        shape, dtype = described(value)
        given[value] = Seen(builder.declare(str(value.name), shape, dtype), view.row_major(shape))
    inputs = tuple(builder.tensors)
    floats = Floats(model, builder, tuple(graph), given.__getitem__)
    floats.lower()
    outputs: dict[str, str] = {}
    for value in graph.outputs:
        plain = builder.row_major(floats.value(value), str(value.name)).tensor
        tensor = builder.own(plain, str(value.name), described(value)[0], outputs)
        outputs[tensor] = tensor if value.is_graph_input() else str(value.name)
    return builder.network(inputs, outputs)


class Floats:
    """Lowers every node once, when its turn comes or a reader of its result needs it."""

    def __init__(
        self,
        model: Model,
        builder: Builder,
        nodes: Sequence[onnx_ir.Node],
        given: Callable[[onnx_ir.Value], Seen],
        name: str = "island",
    ) -> None:
        """Lower `nodes` of a model, in the graph's order, from values that are `given`, by `builder`.

        Islands are called `name`_0, `name`_1 and so on.
        """
        self.model = model
        self.builder = builder
        self.nodes = nodes
        self.partition = partition(nodes)
        self.name = name
        self._given = given
        self._inside = set(nodes)
        self._values: dict[onnx_ir.Value, Seen] = {}
        self._islands = 0

    def lower(self) -> None:
        """Lower all layers, in the model's order, so that names and steps follow it.

        An island is lowered when it is read, as all that it needs is there then.
        """
        for node in self.nodes:
            if node not in self.partition.islands and node not in self.partition.owners:
                self.value((node, *self.partition.tails.get(node, ()))[-1].outputs[0])

    def value(self, value: onnx_ir.Value) -> Seen:
        """Return a tensor, lowering what computes it."""
        if value not in self._values:
            node = value.producer()
            array = known(value) if node is None or is_known(value) else None
            if array is not None:
                tensor = self.builder.constant(str(value.name), array)
                self._values[value] = Seen(tensor, view.row_major(array.shape))
            elif node is None or node not in self._inside:
                self._values[value] = self._given(value)
            elif node in self.partition.islands:
                self._island(self.partition.islands[node])
            elif moves(node):
                source = self.value(_there(node.inputs[0]))
                moved = move(self.builder, node, source)
                self._values.update(zip(node.outputs, moved, strict=True))
            else:
                self._values[value] = self._layer(self.partition.owners.get(node, node))
        return self._values[value]

    def _layer(self, node: onnx_ir.Node) -> Seen:
        """Return the result of a layer and its tail."""
        row, form = row_of(node), float_form(node)
        assert row is not None, "the partition saw it"
        assert form is not None, "the partition saw it"
        low, high = (float(np.float32(limit)) for limit in limits(self.partition.tails[node]))
        inputs = tuple(self.value(_there(reader.inputs[index])) for reader, index in row.inputs(node))
        return form.lower(self.builder, FloatRequest(node, inputs, low, high))

    def _island(self, nodes: Nodes) -> None:
        """Emit nodes that have no kernel as one operator; in the order that kernels want, if in any."""
        outputs = read_outside(nodes)
        model, inputs = submodel(self.model, nodes, outputs)
        order = None
        if lies_anywhere(nodes):
            order = view.natural_order(len(described(outputs[0])[0]))
        name = f"{self.name}_{self._islands}"
        self._islands += 1
        tensors = []
        for value in inputs:
            shape, _ = described(value)
            tensors.append(self.builder.arranged(self.value(value), _lies(shape, order), name).tensor)
        for value in outputs:
            shape, dtype = described(value)
            packed = shape if order is None else tuple(shape[axis] for axis in order)
            tensor = self.builder.declare(str(value.name), packed, dtype)
            self._values[value] = Seen(tensor, _lies(shape, order))
        results = tuple(self._values[value].tensor for value in outputs)
        self.builder.append(name, Island(model, order), tuple(tensors), results)


def _lies(shape: tuple[int, ...], order: tuple[int, ...] | None) -> view.View:
    return view.row_major(shape) if order is None else view.ordered(shape, order)


def _there(value: onnx_ir.Value | None) -> onnx_ir.Value:
    assert value is not None, "layers and movements have all their inputs"
    return value
