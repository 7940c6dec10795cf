"""Write operators that compute with integers themselves as the float operators that they stand for.

ONNX Runtime's quantizer calls the two forms QOperator and QDQ; all that is behind this pass knows the second
alone. Inputs of the operators are as in
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md and in ONNX's own list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir

from edgec.compiler.graph import (
    attribute,
    constant,
    only_consumer,
    replace_value,
    shape_of,
    unique,
    value_names,
)

_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class _Quantized:
    """An operand in three inputs: integers, scale, zero point."""

    first: int
    """Which input the integers are."""
    unscaled: int | None = None
    """Which input the zero point is, where there is no scale, or a scale of 1."""
    axis: int = 1
    """What a scale per channel counts."""
    last: bool = False
    """Whether the channels are the last axis where the node says `channels_last`."""


_Operands = tuple[_Quantized | int, ...]
"""What the float operator reads: dequantized operands, and inputs of the node as they are."""


@dataclass(frozen=True)
class _Row:
    """How one operator is written out."""

    operator: str
    """The float operator."""
    operands: Callable[[onnx_ir.Node], _Operands]
    result: int | None
    """Which input is the scale of the result; the zero point is behind it. A node without one has floats; an
    operator that never has one has int32, which must be cast to float32 at once."""
    bias: int | None = None
    """Which input is an int32 bias, whose scale is the product of both operands'."""
    drops: tuple[str, ...] = ()
    """Attributes that the float operator doesn't have."""


def _these(*operands: _Quantized | int) -> Callable[[onnx_ir.Node], _Operands]:
    return lambda node: operands


def _parts(node: onnx_ir.Node) -> _Operands:
    return tuple(_Quantized(first) for first in range(2, len(node.inputs), 3))


_IMAGE = _Quantized(0, last=True)
_UNARY = _these(_Quantized(0))
_BINARY = _these(_Quantized(0), _Quantized(3))
_LAST = ("channels_last",)

_INTEGERS = _these(_Quantized(0, unscaled=2), _Quantized(1, axis=0, unscaled=3))
_ROWS_AND_COLUMNS = _these(_Quantized(0, axis=-2, unscaled=2), _Quantized(1, axis=-1, unscaled=3))

_CONV = _Row("Conv", _these(_IMAGE, _Quantized(3, axis=0)), result=6, bias=8, drops=_LAST)
_MATMUL = _Row("MatMul", _these(_Quantized(0, axis=-2), _Quantized(3, axis=-1)), result=6)

_ROWS: dict[tuple[str, str], _Row] = {
    ("", "ConvInteger"): _Row("Conv", _INTEGERS, None),
    ("", "MatMulInteger"): _Row("MatMul", _ROWS_AND_COLUMNS, None),
    ("", "QLinearConv"): _CONV,
    ("", "QLinearMatMul"): _MATMUL,
    (_MICROSOFT, "QLinearConv"): _CONV,
    (_MICROSOFT, "QLinearMatMul"): _MATMUL,
    (_MICROSOFT, "QGemm"): _Row("Gemm", _these(_Quantized(0), _Quantized(3)), 7, 6, ("alpha",)),
    (_MICROSOFT, "QLinearAdd"): _Row("Add", _BINARY, 6),
    (_MICROSOFT, "QLinearMul"): _Row("Mul", _BINARY, 6),
    (_MICROSOFT, "QLinearConcat"): _Row("Concat", _parts, 0),
    (_MICROSOFT, "QLinearGlobalAveragePool"): _Row("GlobalAveragePool", _these(_IMAGE), 3, drops=_LAST),
    (_MICROSOFT, "QLinearAveragePool"): _Row("AveragePool", _these(_IMAGE), 3, drops=_LAST),
    (_MICROSOFT, "QLinearSigmoid"): _Row("Sigmoid", _UNARY, 3),
    (_MICROSOFT, "QLinearLeakyRelu"): _Row("LeakyRelu", _UNARY, 3),
    (_MICROSOFT, "QLinearSoftmax"): _Row("Softmax", _UNARY, 3, drops=("opset",)),
    (_MICROSOFT, "QLinearWhere"): _Row("Where", _these(0, _Quantized(1), _Quantized(4)), 7),
}
"""By domain and operator."""


def write_as_qdq(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with DequantizeLinear, a float operator and QuantizeLinear in the place of QLinear*.

    QLinearConv(x, sx, zx, w, sw, zw, sy, zy, b)
      --> QuantizeLinear(Conv(DequantizeLinear(x, sx, zx), DequantizeLinear(w, sw, zw),
                              DequantizeLinear(b, sx * sw)), sy, zy)

    Cast(ConvInteger(x, w, zx, zw)) --> Conv(DequantizeLinear(x, 1, zx), DequantizeLinear(w, 1, zw))

    and com.microsoft's the same, `channels_last` between two Transposes. Scales and zero points that aren't
    known when the model is built stay as they are, and so does QLinearReduceMean, which ONNX Runtime defines
    but doesn't compute.
    """
    model = model.clone()
    taken = value_names(model.graph)
    for node in list(model.graph):
        row = _ROWS.get((node.domain, node.op_type))
        if row is not None and _is_static(node, row) and not _is_ragged(node):
            _Writer(node, taken).write(row)
    return model


def _is_static(node: onnx_ir.Node, row: _Row) -> bool:
    """Whether every scale and zero point of a node is a constant, and the node has the inputs it must."""
    wanted = [] if row.result is None else [row.result, row.result + 1]
    for operand in row.operands(node):
        if isinstance(operand, _Quantized):
            wanted += _parameters(operand)
            if operand.unscaled is None and operand.first + 1 >= len(node.inputs):
                return False
    given = [value for value in (node.inputs[index] for index in wanted if index < len(node.inputs)) if value]
    return all(constant(value) is not None for value in given) and (row.result is not None or _is_cast(node))


def _parameters(operand: _Quantized) -> tuple[int, ...]:
    """Return which inputs are the scale and the zero point."""
    first = operand.first
    return (first + 1, first + 2) if operand.unscaled is None else (operand.unscaled,)


def _is_cast(node: onnx_ir.Node) -> bool:
    """Whether a node's result is a sum of products by constants, and is made float32 at once."""
    reader = only_consumer(node.outputs[0])
    if reader is None or reader.op_type != "Cast" or constant(node.inputs[1]) is None:
        return False
    return bool(attribute(reader, "to", 0) == onnx_ir.DataType.FLOAT)


def _is_ragged(node: onnx_ir.Node) -> bool:
    """Whether a softmax is that of opsets before 13, over several axes at once."""
    old = node.op_type == "QLinearSoftmax" and attribute(node, "opset", 1) < 13
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    last = -1 if shape is None else len(shape) - 1
    return old and attribute(node, "axis", 1 if old else -1) not in (-1, last)


class _Writer:
    """Puts nodes in front of one that they replace."""

    def __init__(self, node: onnx_ir.Node, taken: set[str]) -> None:
        self.node = node
        self.taken = taken
        """Names of values; those that are made come to it."""
        self.channels_last = bool(attribute(node, "channels_last", 0))

    def write(self, row: _Row) -> None:
        """Write the node out and remove it."""
        node = self.node
        inputs = [self._operand(operand) for operand in row.operands(node)]
        if row.bias is not None and (bias := self._input(row.bias)) is not None:
            inputs.append(self._bias(bias))
        attributes = {key: value for key, value in node.attributes.items() if key not in row.drops}
        result = self._add(row.operator, inputs, attributes, "float", str(node.name))
        if self.channels_last:
            result = self._transposed(result, (0, *range(2, self._rank()), 1))
        replaced = [node]
        if row.result is None:
            cast = only_consumer(node.outputs[0])
            assert cast is not None, "_is_cast() saw it"
            replaced.insert(0, cast)
        elif (scale := self._input(row.result)) is not None:
            zero_point = self._input(row.result + 1)
            parameters = [scale] if zero_point is None else [scale, zero_point]
            result = self._add("QuantizeLinear", [result, *parameters], {}, "quantized")
        old, graph = replaced[0].outputs[0], node.graph
        result.type, result.shape = old.type, old.shape
        replace_value(old, result)
        assert isinstance(graph, onnx_ir.Graph)
        graph.remove(replaced, safe=True)

    def _input(self, index: int) -> onnx_ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def _operand(self, operand: _Quantized | int) -> onnx_ir.Value | None:
        if isinstance(operand, int):
            return self._input(operand)
        first = operand.first
        parameters = [self._input(first), *(self._input(index) for index in _parameters(operand))]
        if operand.unscaled is not None:
            zero = constant(parameters[-1])
            one = np.ones(() if zero is None else zero.shape, np.float32)
            parameters.insert(1, self._constant("one", one))
        if operand.first > 0 and attribute(self.node, "alpha", 1.0) != 1.0 and self.node.op_type == "QGemm":
            parameters[1] = self._scaled(parameters[1], attribute(self.node, "alpha", 1.0))
        axis = 1 - attribute(self.node, "transB", 0) if self.node.op_type == "QGemm" else operand.axis
        if parameters[-1] is None:
            parameters.pop()
        real = self._add("DequantizeLinear", parameters, {"axis": axis}, f"dequantized_{first}")
        if self.channels_last and operand.last:
            rank = self._rank()
            real = self._transposed(real, (0, rank - 1, *range(1, rank - 1)))
        return real

    def _bias(self, bias: onnx_ir.Value) -> onnx_ir.Value:
        scales = [constant(self._input(index)) for index in (1, 4)]
        assert scales[0] is not None, "it is static"
        assert scales[1] is not None, "it is static"
        scale = scales[0].reshape(-1)[:1] * scales[1].reshape(-1)
        if self.node.op_type == "QGemm":
            scale = scale * np.float32(attribute(self.node, "alpha", 1.0))
        value = self._constant("bias_scale", scale.reshape(()) if scale.size == 1 else scale)
        return self._add("DequantizeLinear", [bias, value], {"axis": 0}, "bias")

    def _scaled(self, scale: onnx_ir.Value | None, factor: float) -> onnx_ir.Value:
        known = constant(scale)
        assert known is not None, "it is static"
        return self._constant("scale", known * np.float32(factor))

    def _constant(self, role: str, array: Any) -> onnx_ir.Value:
        graph, name = self.node.graph, self._name(role)
        assert isinstance(graph, onnx_ir.Graph)
        value = onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name))
        graph.register_initializer(value)
        return value

    def _rank(self) -> int:
        """Return how many axes the node's image has: two more than its window, four where it has none."""
        weights = self._input(3) if self.node.op_type == "QLinearConv" else None
        shape = shape_of(weights) if weights is not None else None
        return len(shape) if shape else 2 + len(attribute(self.node, "kernel_shape", (1, 1)))

    def _transposed(self, value: onnx_ir.Value, order: Sequence[int]) -> onnx_ir.Value:
        return self._add("Transpose", [value], {"perm": list(order)}, "transposed")

    def _add(
        self,
        operator: str,
        inputs: Sequence[onnx_ir.Value | None],
        attributes: dict[str, Any],
        role: str,
        name: str | None = None,
    ) -> onnx_ir.Value:
        graph, output = self.node.graph, onnx_ir.val(self._name(role))
        assert isinstance(graph, onnx_ir.Graph)
        made = onnx_ir.node(operator, inputs, attributes, outputs=[output], name=name or str(output.name))
        graph.insert_before(self.node, made)
        return output

    def _name(self, role: str) -> str:
        name = unique(f"{self.node.outputs[0].name}_{role}", self.taken)
        self.taken.add(name)
        return name
