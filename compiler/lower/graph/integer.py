"""From a QDQ model to a network of integer operations, in float where there is no other way."""

import math
from dataclasses import replace

import numpy as np
import onnx_ir

from edgec.compiler.graph import constant
from edgec.compiler.lower.graph.floating import Floats
from edgec.compiler.lower.graph.values import Analysis, FoundLayer
from edgec.compiler.lower.islands.submodel import described, read_outside
from edgec.compiler.model import Model
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import CODES, Codes, Seen, affine, builder_of, quantized
from edgec.compiler.operators.constants import known
from edgec.compiler.operators.nodes import combined, combines, evaluate, limits, move, moves, operand, row_of
from edgec.compiler.operators.row import IntegerForm, OnnxOperator, Request
from edgec.compiler.operators.scales import INT8, parameters
from edgec.kernels.operations import (
    Dequantize,
    Lookup,
    Network,
    Quantization,
    Quantize,
)


def integer(model: Model) -> Network:
    """Return the network that computes `model`: exact integer operations wherever the model is quantized.

    The model is one that `check` lets pass.
    """
    return _Lowering(model).run()


class _Lowering:
    """Walks from the outputs to the inputs; every value is lowered once, in the way that its reader wants."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.graph = model.ir.graph
        self.analysis = Analysis(self.graph)
        self.builder = builder_of(self.graph)
        self.codes: dict[onnx_ir.Value, Codes] = {}
        """Codes that are known of 8-bit integers, and of affine and mapped floats."""
        self.plain: dict[onnx_ir.Value, Seen] = {}
        """Tensors in the values' own types."""

    def run(self) -> Network:
        for value in self.graph.inputs:
            shape, dtype = described(value)
            tensor = self.builder.declare(str(value.name), shape, dtype)
            self.plain[value] = Seen(tensor, view.row_major(shape))
        inputs = tuple(self.builder.tensors)
        for node in self.graph:  # in the model's order, so that names and steps follow it
            if node.op_type == "QuantizeLinear" and parameters(node) is not None:
                self._codes(node.outputs[0])
        outputs = {}
        for value in self.graph.outputs:
            tensor = self._output(value)
            outputs[tensor] = tensor if value.is_graph_input() else str(value.name)
        floats = [node for nodes in self.analysis.islands.values() for node in nodes]
        reasons = tuple((str(node.name), node.op_type, self.analysis.reason(node)) for node in floats)
        return replace(self.builder.network(inputs, outputs), floats=reasons)

    def _output(self, value: onnx_ir.Value) -> str:
        """Return the tensor of a model output, of its own: no input, no constant, no other output's."""
        others = [
            seen.tensor
            for other, seen in self.plain.items()
            if other is not value and other.is_graph_output()
        ]
        name = str(value.name)
        self.plain[value] = self.builder.row_major(self._plain(value), name)
        return self.builder.own(self.plain[value].tensor, name, described(value)[0], others)

    # --- 8-bit codes ----------------------------------------------------------------------------------------

    def _codes(self, value: onnx_ir.Value) -> Codes:
        """Return the codes of an 8-bit integer, or behind an affine or mapped float."""
        if value not in self.codes:
            node = value.producer()
            if node is None:
                self.codes[value] = self._given(value)
            elif node.op_type == "QuantizeLinear":
                self.codes[value] = self._quantized(node)
            elif (quantization := parameters(node)) is not None:
                codes = self._input_codes(node, 0)
                self.codes[value] = Codes(codes.tensor, codes.view, affine(quantization), quantization)
            elif moves(node):
                moved = move(self.builder, node, self._input_codes(node, 0))
                self.codes.update(zip(node.outputs, moved, strict=True))
            elif (index := operand(node)) is not None:
                codes = self._input_codes(node, index)
                self.codes[value] = Codes(codes.tensor, codes.view, evaluate(node, codes.real), None)
            elif combines(node):
                one, two = (self._input_codes(node, index) for index in (0, 1))
                self.codes[value] = Codes(one.tensor, one.view, combined(node, one.real, two.real), None)
            else:  # one that keeps its input's scale
                codes = self._input_codes(node, 0)
                assert codes.quantization is not None, "the analysis saw it"
                kept = codes.quantization
                request = Request(node, (codes,), kept, kept.lowest, kept.highest)
                self.codes[value] = _form(row_of(node)).lower(self.builder, request)
        return self.codes[value]

    def _input_codes(self, node: onnx_ir.Node, index: int) -> Codes:
        value = node.inputs[index]
        assert value is not None, "the analysis saw it"
        return self._codes(value)

    def _given(self, value: onnx_ir.Value) -> Codes:
        """Return an input or constant of 8 bits; a DequantizeLinear says what numbers they stand for."""
        array = constant(value)
        if array is None:
            tensor = self.plain[value].tensor
            if value.dtype == onnx_ir.DataType.UINT8:
                tensor = self._flipped(tensor, f"{tensor}_int8", "int8")
        else:
            signed = array if array.dtype == np.int8 else (array ^ 128).view(np.int8)
            tensor = self.builder.constant(str(value.name), signed)
        shape, _ = described(value)
        return Codes(tensor, view.row_major(shape), CODES.astype(np.float64), None)

    def _flipped(self, tensor: str, name: str, dtype: str) -> str:
        """uint8 as int8 less 128, or back: flipping the top bit does both.

        A table is indexed by a byte's int8 value plus 128; entry i is that byte with its top bit flipped.
        """
        shape = self.builder.tensors[tensor].shape
        operation = Lookup(math.prod(shape), (CODES ^ -128).astype(np.int8))
        return self.builder.emit(name, operation, (tensor,), shape, None, name, dtype)

    def _quantized(self, node: onnx_ir.Node) -> Codes:
        """Return the codes that a QuantizeLinear computes."""
        quantization, found, name = parameters(node), self.analysis.layer(node), str(node.name)
        assert quantization is not None, "asked for 8-bit values only"
        source = found or self.analysis.source(node)
        if isinstance(source, FoundLayer):
            codes = self._layer(source, quantization)
        elif self.analysis.kind(source.value) != "float":
            codes = self.builder.requantize(self._codes(source.value), quantization, name)
        else:
            plain = self.builder.dense(self._plain(source.value), name)
            shape = self.builder.tensors[plain.tensor].shape
            operation = Quantize(
                math.prod(shape), quantization.scale, quantization.zero_point, quantization.dtype
            )
            tensor = self.builder.emit(name, operation, (plain.tensor,), shape, quantization)
            codes = Codes(tensor, plain.view, affine(quantization), quantization)
        for mover in source.moves:
            (codes,) = move(self.builder, mover, codes)
        return codes

    def _layer(self, found: FoundLayer, quantization: Quantization) -> Codes:
        """Return the result of an integer operation; Relu and Clip behind it are its clamps."""
        form = _form(found.row)
        low, high = (int(code) for code in quantized(limits(found.tail), quantization))
        inputs = tuple(self._input_codes(node, i) for node, i in found.row.inputs(found.node))
        request = Request(found.node, inputs, quantization, low, high)
        codes = form.lower(self.builder, request)
        if form.clamps:
            return codes
        table = np.clip(quantization.codes, low, high).astype(quantization.dtype)
        return self.builder.mapped(codes, table, quantization, f"{found.node.name}_clamp")

    # --- values in their own types --------------------------------------------------------------------------

    def _plain(self, value: onnx_ir.Value) -> Seen:
        """Return the tensor of a value in its own type."""
        if value not in self.plain:
            array = known(value)
            if array is not None:
                tensor = self.builder.constant(str(value.name), array)
                self.plain[value] = Seen(tensor, view.row_major(array.shape))
            elif value.dtype in INT8:
                self.plain[value] = self._integers(value)
            elif isinstance(self.analysis.kind(value), Quantization):
                self.plain[value] = self._dequantized(value)
            else:
                self._floats(self.analysis.level(value))
        return self.plain[value]

    def _integers(self, value: onnx_ir.Value) -> Seen:
        name = str(value.name)
        codes = self.builder.row_major(self._codes(value), name)
        unsigned = value.dtype == onnx_ir.DataType.UINT8
        return Seen(self._flipped(codes.tensor, name, "uint8") if unsigned else codes.tensor, codes.view)

    def _dequantized(self, value: onnx_ir.Value) -> Seen:
        node, codes = value.producer(), self._codes(value)
        quantization = codes.quantization
        assert node is not None, "affine values come from a node"
        assert quantization is not None, "only affine values are dequantized"
        lies = self.builder.row_major if value.is_graph_output() else self.builder.dense
        codes = lies(codes, str(node.name))  # bytes are cheaper to move than floats
        operation = Dequantize(
            codes.view.size, quantization.scale, quantization.zero_point, quantization.dtype
        )
        shape = self.builder.tensors[codes.tensor].shape
        tensor = self.builder.emit(
            str(node.name), operation, (codes.tensor,), shape, None, str(value.name), "float32"
        )
        return Seen(tensor, codes.view)

    def _floats(self, level: int) -> None:
        """Lower all float nodes of a level."""
        nodes = self.analysis.islands[level]
        floats = Floats(self.model, self.builder, nodes, self._plain, f"island_{level}")
        for value in read_outside(nodes):
            self.plain[value] = floats.value(value)


def _form(row: OnnxOperator | None) -> IntegerForm:
    assert row is not None, "the analysis saw it"
    assert row.integer is not None, "the analysis saw it"
    return row.integer
