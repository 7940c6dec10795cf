"""What of a quantized model runs in integers, and what is left in float and why.

Values of a QDQ graph are of three kinds. *Affine*: dequantized int8 codes, perhaps moved about. *Mapped*:
affine codes behind unary functions; still 256 possible values, so a table computes it, but no longer evenly
spaced. *Float*: everything else. A QuantizeLinear closes a layer: the operator in front of it, with the Relu
and Clip in between, becomes one integer operation when all its inputs are affine.
"""

from dataclasses import dataclass
from functools import cached_property

import onnx_ir

from edgec.compiler.graph import constant, only_consumer
from edgec.compiler.lower import movement, unary
from edgec.compiler.lower.layer import Layer
from edgec.compiler.lower.layers import LAYERS, SAME_SCALE

_INT8 = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)
_CLIPS = ("Relu", "Clip")


@dataclass(frozen=True, eq=False)
class FoundLayer:
    """An integer operation: a node, what clamps its result, and how it is lowered."""

    node: onnx_ir.Node
    tail: tuple[onnx_ir.Node, ...]
    """Relu and Clip, in order."""
    layer: Layer


def scalar_parameters(node: onnx_ir.Node) -> tuple[float, int] | None:
    """Return scale and int8 zero point of a per-tensor QuantizeLinear or DequantizeLinear of 8 bits, or None."""
    scale = constant(node.inputs[1])
    quantized = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    zero_point_value = node.inputs[2] if len(node.inputs) > 2 else None
    zero_point = constant(zero_point_value)
    if scale is None or scale.size != 1 or (zero_point_value is not None and zero_point is None):
        return None
    dtype = quantized.dtype if quantized is not None else None
    if zero_point is not None:
        dtype = onnx_ir.DataType.from_numpy(zero_point.dtype)
    elif node.op_type == "QuantizeLinear":
        dtype = onnx_ir.DataType.UINT8  # ONNX's default
    if dtype not in _INT8:
        return None
    offset = 0 if zero_point is None else int(zero_point.reshape(()))
    return float(scale.reshape(())), offset - (128 if dtype == onnx_ir.DataType.UINT8 else 0)


class Analysis:
    """Answers, for one graph, what each value is and which node is computed how."""

    def __init__(self, graph: onnx_ir.Graph) -> None:
        """Nothing is computed before it is asked for."""
        self.graph = graph
        self._kinds: dict[onnx_ir.Value, str] = {}
        self._levels: dict[onnx_ir.Value, int] = {}

    def kind(self, value: onnx_ir.Value) -> str:
        """`affine`, `mapped` or `float`."""
        if value not in self._kinds:
            self._kinds[value] = self._kind(value)
        return self._kinds[value]

    def _kind(self, value: onnx_ir.Value) -> str:
        node = value.producer()
        if node is None or node.domain:
            return "float"
        if node.op_type == "DequantizeLinear":
            return "affine" if scalar_parameters(node) is not None else "float"
        if (index := unary.operand(node)) is not None and node.op_type != "Identity":
            return "float" if self._input_kind(node, index) == "float" else "mapped"
        if movement.accepts(node) or node.op_type == "Identity":
            return self._input_kind(node, 0)
        if node.op_type in SAME_SCALE and SAME_SCALE[node.op_type].accepts(node) is None:
            return "affine" if value is node.outputs[0] and self._input_kind(node, 0) == "affine" else "float"
        return "float"

    def _input_kind(self, node: onnx_ir.Node, index: int) -> str:
        value = node.inputs[index]
        return "float" if value is None else self.kind(value)

    def layer(self, quantize: onnx_ir.Node) -> FoundLayer | None:
        """Return the integer operation that a QuantizeLinear closes, or None."""
        value = quantize.inputs[0]
        if value is None or self.kind(value) != "float" or scalar_parameters(quantize) is None:
            return None
        tail: list[onnx_ir.Node] = []
        node = value.producer()
        while node is not None and only_consumer(value) is not None and node.op_type in _CLIPS and not node.domain:
            if unary.operand(node) is None or node.inputs[0] is None:
                return None
            tail.insert(0, node)
            value = node.inputs[0]
            node = value.producer()
        if node is None or only_consumer(value) is None or self.refusal(node) is not None:
            return None
        return FoundLayer(node, tuple(tail), LAYERS[node.op_type])

    def refusal(self, node: onnx_ir.Node) -> str | None:
        """Return why a node is no integer layer, leaving aside what reads its result; None if it is one."""
        layer = LAYERS.get(node.op_type)
        if layer is None or node.domain:
            return "no integer kernel for this operator"
        activations = layer.activations(node)
        if node.op_type in ("Add", "Mul") and len(activations) != 2:
            return "not two operands"
        if any(self._input_kind(node, index) != "affine" for index in activations):
            return "its input isn't quantized"
        return layer.accepts(node)

    def reason(self, node: onnx_ir.Node) -> str:
        """Return why a node is computed in float."""
        return self.refusal(node) or "its result isn't quantized, or is also used in float"

    def level(self, value: onnx_ir.Value) -> int:
        """Number of float islands before the value: nodes of one level can be computed together.

        A path that leaves an island and comes back crosses a QuantizeLinear, which raises the level.
        """
        if value not in self._levels:
            stack = [value]
            while stack:  # not recursive: models are deeper than Python's stack
                current = stack[-1]
                node = current.producer()
                inputs = [] if node is None else [i for i in node.inputs if i is not None]
                waiting = [i for i in inputs if i not in self._levels]
                if waiting:
                    stack += waiting
                    continue
                stack.pop()
                level = max((self._levels[i] for i in inputs), default=0)
                if node is not None and node.op_type == "QuantizeLinear" and self._leaves_island(node):
                    level += 1
                self._levels[current] = level
        return self._levels[value]

    def _leaves_island(self, quantize: onnx_ir.Node) -> bool:
        value = quantize.inputs[0]
        computed = value is not None and value.producer() is not None
        return computed and value is not None and self.kind(value) == "float" and self.layer(quantize) is None

    @cached_property
    def islands(self) -> dict[int, tuple[onnx_ir.Node, ...]]:
        """The nodes computed in float, by level, each level in the graph's order."""
        wanted = [value for value in self.graph.outputs if value.dtype not in _INT8]
        for node in self.graph:
            if node.op_type == "QuantizeLinear" and self.layer(node) is None and node.inputs[0] is not None:
                if self.kind(node.inputs[0]) == "float":
                    wanted.append(node.inputs[0])
        found: set[onnx_ir.Node] = set()
        while wanted:
            value = wanted.pop()
            node = value.producer()
            if node is None or node in found or self.kind(value) == "affine" or is_constant(value):
                continue
            if node.op_type == "QuantizeLinear" and scalar_parameters(node) is not None:
                continue
            found.add(node)
            wanted += [i for i in node.inputs if i is not None]
        levels: dict[int, list[onnx_ir.Node]] = {}
        for node in self.graph:
            if node in found:
                levels.setdefault(self.level(node.outputs[0]), []).append(node)
        return {level: tuple(nodes) for level, nodes in levels.items()}


def is_constant(value: onnx_ir.Value) -> bool:
    """Whether a value is known at compile time: an initializer, or one behind DequantizeLinear."""
    node = value.producer()
    if node is None:
        return constant(value) is not None
    return node.op_type == "DequantizeLinear" and all(i is None or constant(i) is not None for i in node.inputs)
