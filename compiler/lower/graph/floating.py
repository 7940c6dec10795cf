"""From a float model to a network of float kernels, with islands for the operators that have none."""

import numpy as np
import onnx_ir

from edgec.compiler.lower.graph.partition import Nodes, lies_anywhere, partition
from edgec.compiler.lower.islands.submodel import described, read_outside, submodel
from edgec.compiler.model import Model
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Seen, builder_of
from edgec.compiler.operators.constants import is_known, known
from edgec.compiler.operators.nodes import float_form, limits, move, moves, row_of
from edgec.compiler.operators.row import FloatRequest
from edgec.kernels.operations import Island, Network

_REASON = "no float kernel for this operator"


def floating(model: Model) -> Network:
    """Return the network that computes `model`, in which nothing is quantized.

    The model is one that `check` lets pass.
    """
    return _Lowering(model).run()


class _Lowering:
    """Lowers every node once, when its turn comes or a reader of its result needs it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.graph = model.ir.graph
        self.partition = partition(self.graph)
        self.builder = builder_of(self.graph)
        self.values: dict[onnx_ir.Value, Seen] = {}
        self.islands = 0

    def run(self) -> Network:
        for value in self.graph.inputs:
            shape, dtype = described(value)
            tensor = self.builder.declare(str(value.name), shape, dtype)
            self.values[value] = Seen(tensor, view.row_major(shape))
        inputs = tuple(self.builder.tensors)
        for node in self.graph:  # in the model's order, so that names and steps follow it
            # An island is lowered when it is read, as all that it needs is there then.
            if node not in self.partition.islands and node not in self.partition.owners:
                self._value((node, *self.partition.tails.get(node, ()))[-1].outputs[0])
        outputs: dict[str, str] = {}
        for value in self.graph.outputs:
            plain = self.builder.row_major(self._value(value), str(value.name)).tensor
            tensor = self.builder.own(plain, str(value.name), described(value)[0], outputs)
            outputs[tensor] = tensor if value.is_graph_input() else str(value.name)
        return self.builder.network(inputs, outputs)

    def _value(self, value: onnx_ir.Value) -> Seen:
        """Return a tensor, lowering what computes it."""
        if value not in self.values:
            node = value.producer()
            if node is None or is_known(value):
                self.values[value] = self._constant(value)
            elif node in self.partition.islands:
                self._island(self.partition.islands[node])
            elif moves(node):
                source = self._value(_given(node.inputs[0]))
                moved = move(self.builder, node, source)
                self.values.update(zip(node.outputs, moved, strict=True))
            else:
                self.values[value] = self._layer(self.partition.owners.get(node, node))
        return self.values[value]

    def _constant(self, value: onnx_ir.Value) -> Seen:
        array = known(value)
        assert array is not None, "the model's inputs are there from the start"
        return Seen(self.builder.constant(str(value.name), array), view.row_major(array.shape))

    def _layer(self, node: onnx_ir.Node) -> Seen:
        """Return the result of a layer and its tail."""
        row, form = row_of(node), float_form(node)
        assert row is not None, "the partition saw it"
        assert form is not None, "the partition saw it"
        low, high = (float(np.float32(limit)) for limit in limits(self.partition.tails[node]))
        inputs = tuple(self._value(_given(reader.inputs[index])) for reader, index in row.inputs(node))
        return form.lower(self.builder, FloatRequest(node, inputs, low, high))

    def _island(self, nodes: Nodes) -> None:
        """Emit nodes that have no kernel as one operator; in the order that kernels want, if in any."""
        outputs = read_outside(nodes)
        model, inputs = submodel(self.model, nodes, outputs)
        order = None
        if lies_anywhere(nodes):
            order = view.natural_order(len(described(outputs[0])[0]))
        name = f"island_{self.islands}"
        self.islands += 1
        tensors = []
        for value in inputs:
            shape, _ = described(value)
            tensors.append(self.builder.arranged(self._value(value), _lies(shape, order), name).tensor)
        for value in outputs:
            shape, dtype = described(value)
            packed = shape if order is None else tuple(shape[axis] for axis in order)
            tensor = self.builder.declare(str(value.name), packed, dtype)
            self.values[value] = Seen(tensor, _lies(shape, order))
        reasons = tuple((str(node.name), node.op_type, _REASON) for node in nodes)
        results = tuple(self.values[value].tensor for value in outputs)
        self.builder.append(name, Island(model, reasons, order), tuple(tensors), results)


def _lies(shape: tuple[int, ...], order: tuple[int, ...] | None) -> view.View:
    return view.row_major(shape) if order is None else view.ordered(shape, order)


def _given(value: onnx_ir.Value | None) -> onnx_ir.Value:
    assert value is not None, "layers and movements have all their inputs"
    return value
