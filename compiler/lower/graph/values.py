"""What of a quantized model runs in integers, and what is left in float and why.

Values of a QDQ graph are of three kinds. *Affine*: dequantized int8 codes, perhaps moved about. *Mapped*:
affine codes behind unary functions; still 256 possible values, so a table computes it, but no longer evenly
spaced. *Float*: everything else. A QuantizeLinear closes a layer: the operator in front of it, with the Relu
and Clip in between, becomes one integer operation when all its inputs are affine.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import onnx_ir

from edgec.compiler.graph import only_consumer
from edgec.compiler.operators.constants import is_known
from edgec.compiler.operators.nodes import clamps, moves, operand, row_of
from edgec.compiler.operators.row import OnnxOperator
from edgec.compiler.operators.scales import INT8, parameters
from edgec.kernels.operations import Quantization

_UNQUANTIZED = "its result isn't quantized right behind it, or is also read as it is"

Kind = Quantization | Literal["mapped", "float"]
"""An affine value's quantization, or which of the other kinds a value is."""


@dataclass(frozen=True, eq=False)
class FoundLayer:
    """An integer operation: a node, what clamps its result, and how it is lowered."""

    node: onnx_ir.Node
    tail: tuple[onnx_ir.Node, ...]
    """Relu and Clip, in order."""
    moves: tuple[onnx_ir.Node, ...]
    """Movements between it and its QuantizeLinear, in order: they can as well be done with the codes."""
    row: OnnxOperator
    """The row of the table for the value's operator, which has an integer form."""


@dataclass(frozen=True, eq=False)
class Source:
    """A value that a QuantizeLinear quantizes, as a float or in a table, and the movements in between."""

    value: onnx_ir.Value
    moves: tuple[onnx_ir.Node, ...]


class Analysis:
    """Answers, for one graph, what each value is and which node is computed how."""

    def __init__(self, graph: onnx_ir.Graph) -> None:
        """Nothing is computed before it is asked for."""
        self.graph = graph
        self._kinds: dict[onnx_ir.Value, Kind] = {}
        self._layers: dict[onnx_ir.Node, FoundLayer | None] = {}
        self._levels: dict[onnx_ir.Value, int] = {}

    def kind(self, value: onnx_ir.Value) -> Kind:
        """Return what a value of float32 is to integers."""
        if value not in self._kinds:
            self._kinds[value] = self._kind(value)
        return self._kinds[value]

    def _kind(self, value: onnx_ir.Value) -> Kind:
        node = value.producer()
        if node is None or node.domain:
            return "float"
        if (quantization := parameters(node)) is not None and node.op_type != "QuantizeLinear":
            return quantization
        if moves(node):
            return self._input_kind(node, 0)
        if (index := operand(node)) is not None:
            return "float" if self._input_kind(node, index) == "float" else "mapped"
        row = row_of(node)
        if row is not None and row.integer is not None and row.integer.keeps_scale:
            accepted = value is node.outputs[0] and self.refusal(node) is None
            return self._input_kind(node, 0) if accepted else "float"
        return "float"

    def _input_kind(self, node: onnx_ir.Node, index: int) -> Kind:
        value = node.inputs[index]
        return "float" if value is None else self.kind(value)

    def layer(self, quantize: onnx_ir.Node) -> FoundLayer | None:
        """Return the integer operation that a QuantizeLinear closes, or None."""
        if quantize not in self._layers:
            self._layers[quantize] = self._layer(quantize)
        return self._layers[quantize]

    def _layer(self, quantize: onnx_ir.Node) -> FoundLayer | None:
        value = quantize.inputs[0]
        if value is None or self.kind(value) != "float" or parameters(quantize) is None:
            return None
        tail: list[onnx_ir.Node] = []
        moved: list[onnx_ir.Node] = []
        while only_consumer(value) is not None and (node := value.producer()) is not None:
            row = row_of(node)
            if row is not None and row.integer is not None and not row.integer.keeps_scale:
                refused = self.refusal(node) is not None
                return None if refused else FoundLayer(node, tuple(tail), tuple(moved), row)
            if clamps(node):
                tail.insert(0, node)
            elif _moves_alone(node):
                moved.insert(0, node)
            else:
                return None
            assert node.inputs[0] is not None, "clips and movements have an input"
            value = node.inputs[0]
        return None

    def source(self, quantize: onnx_ir.Node) -> Source:
        """Return what a QuantizeLinear that closes no layer quantizes."""
        value = quantize.inputs[0]
        assert value is not None, "QuantizeLinear has an input"
        moved: list[onnx_ir.Node] = []
        while self.kind(value) == "float" and only_consumer(value) is not None:
            node = value.producer()
            if node is None or not _moves_alone(node):
                break
            moved.insert(0, node)
            assert node.inputs[0] is not None, "movements have an input"
            value = node.inputs[0]
        return Source(value, tuple(moved))

    def refusal(self, node: onnx_ir.Node) -> str | None:
        """Return why a node is no integer layer, leaving aside what reads its result; None if it is one."""
        row = row_of(node)
        if row is None or row.integer is None:
            quantizes = node.op_type in ("QuantizeLinear", "DequantizeLinear")
            return "not 8 bits with one scale" if quantizes else "no integer kernel for this operator"
        sources = [self._input_kind(reader, index) for reader, index in row.inputs(node)]
        quantized = tuple(source for source in sources if isinstance(source, Quantization))
        if len(quantized) < len(sources):
            return "its input isn't quantized"
        return row.refuses(node) or row.integer.refuses(node, quantized)

    def reason(self, node: onnx_ir.Node) -> str:
        """Return why a node is computed in float."""
        if moves(node) or operand(node) is not None:
            index = operand(node) or 0
            return "its input isn't quantized" if self._input_kind(node, index) == "float" else _UNQUANTIZED
        return self.refusal(node) or _UNQUANTIZED

    def level(self, value: onnx_ir.Value) -> int:
        """Return the number of float islands before the value: nodes of one level can be computed together.

        A path that leaves an island and comes back crosses a QuantizeLinear, which raises the level.
        """
        stack = [value]
        while stack:  # not recursive: models are deeper than Python's stack
            current = stack[-1]
            node = current.producer()
            inputs = [] if node is None else [part for part in node.inputs if part is not None]
            waiting = [part for part in inputs if part not in self._levels]
            if waiting and current not in self._levels:
                stack += waiting
                continue
            stack.pop()
            level = max((self._levels[part] for part in inputs), default=0)
            leaves = node is not None and node.op_type == "QuantizeLinear" and self._reads_float(node)
            self._levels[current] = level + leaves
        return self._levels[value]

    def _reads_float(self, quantize: onnx_ir.Node) -> bool:
        """Whether a QuantizeLinear closes a float island."""
        value = self.source(quantize).value
        if value.producer() is None or parameters(quantize) is None or self.layer(quantize) is not None:
            return False
        return self.kind(value) == "float" and not is_known(value)

    @cached_property
    def islands(self) -> dict[int, tuple[onnx_ir.Node, ...]]:
        """The nodes computed in float, by level, each level in the graph's order."""
        wanted = [value for value in self.graph.outputs if value.dtype not in INT8]
        for node in self.graph:
            if node.op_type == "QuantizeLinear" and self._reads_float(node):
                wanted.append(self.source(node).value)
        found: set[onnx_ir.Node] = set()
        while wanted:
            value = wanted.pop()
            producer = value.producer()
            if producer is None or producer in found or is_known(value):
                continue
            if isinstance(self.kind(value), Quantization):
                continue
            if producer.op_type == "QuantizeLinear" and parameters(producer) is not None:
                continue
            found.add(producer)
            wanted += [part for part in producer.inputs if part is not None]
        levels: dict[int, list[onnx_ir.Node]] = {}
        for node in self.graph:
            if node in found:
                levels.setdefault(self.level(node.outputs[0]), []).append(node)
        return {level: tuple(nodes) for level, nodes in levels.items()}


def _moves_alone(node: onnx_ir.Node) -> bool:
    """Whether a node moves elements to one result."""
    return moves(node) and len(node.outputs) == 1
