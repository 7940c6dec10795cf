"""From a QDQ model to a network of integer operations, with float islands where there is no other way."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import constant, shape_of
from edgec.compiler.lower import movement, unary, view
from edgec.compiler.lower.analysis import Analysis, FoundLayer, is_constant, scalar_parameters
from edgec.compiler.lower.builder import Builder, Codes, affine, quantized
from edgec.compiler.lower.layer import Request
from edgec.compiler.lower.layers import SAME_SCALE
from edgec.compiler.lower.submodel import dequantized_constant, submodel
from edgec.compiler.model import Model, is_qdq
from edgec.errors import UnsupportedError
from edgec.kernels.operators import (
    Dequantize,
    Island,
    Lookup,
    Network,
    Operator,
    Quantization,
    Quantize,
    Rearrange,
)


def integer(model: Model) -> Network:
    """Return the network that computes `model`: exact integer operations wherever the model is quantized.

    Raises UnsupportedError when a tensor has a type that neither integers nor float islands know.
    """
    return _Lowering(model).run()


class _Lowering:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.graph = model.ir.graph
        self.analysis = Analysis(self.graph)
        self.builder = Builder()
        self.quantized_model = is_qdq(model)
        self.integers: dict[onnx_ir.Value, tuple[str, view.View]] = {}
        self.codes: dict[onnx_ir.Value, Codes] = {}
        self.floats: dict[onnx_ir.Value, str] = {}

    def run(self) -> Network:
        for value in self.graph.inputs:
            shape, dtype = _described(value)
            tensor = self.builder.declare(str(value.name), shape, dtype)
            self.floats[value] = tensor
            if dtype in ("int8", "uint8"):
                if dtype == "uint8":
                    tensor = self._shifted(tensor, f"{tensor}_int8", "int8")
                self.integers[value] = tensor, view.row_major(shape)
        inputs = tuple(self.builder.tensors)[: len(self.graph.inputs)]
        for node in self.graph:
            if node.op_type == "QuantizeLinear" and scalar_parameters(node) is not None:
                self._integers(node.outputs[0])
        outputs = tuple(self._output(value) for value in self.graph.outputs)
        return self._pruned(inputs, outputs)

    def _pruned(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Network:
        """Leave out operators whose results nobody reads."""
        needed, kept = set(outputs), []
        for operator in reversed(self.builder.operators):
            if needed.intersection(operator.outputs):
                kept.append(operator)
                needed.update(operator.inputs)
        read = needed.union(inputs, *(operator.outputs for operator in kept))
        return Network(
            tuple(reversed(kept)),
            {name: tensor for name, tensor in self.builder.tensors.items() if name in read},
            inputs,
            outputs,
            {name: array for name, array in self.builder.constants.items() if name in read},
        )

    def _output(self, value: onnx_ir.Value) -> str:
        """The tensor of a model output, of its own: no input, no constant, no other output's."""
        shape, dtype = _described(value)
        name = str(value.name)
        if dtype in ("int8", "uint8"):
            tensor, seen = self._integers(value)
            tensor = self.builder.copy(f"{name}_layout", tensor, seen, view.row_major(shape))
            if dtype == "uint8":
                return self._shifted(tensor, name, "uint8")
        else:
            tensor = self._float(value)
        produced = {output: operator for operator in self.builder.operators for output in operator.outputs}
        taken = [t for v, t in self.floats.items() if v is not value and v.is_graph_output()]
        if tensor == name and tensor in produced and tensor not in taken:
            return tensor
        size = int(np.prod(shape, dtype=np.int64))
        return self.builder.emit(
            f"{name}_copy", Rearrange((size,), (1,), 0, dtype, size), (tensor,), shape, None, name, dtype
        )

    def _shifted(self, tensor: str, name: str, dtype: str) -> str:
        """uint8 as int8 less 128, or back: flipping the top bit does both.

        A table is indexed by a byte's int8 value plus 128; entry i is that byte with its top bit flipped.
        """
        declared = self.builder.tensors[tensor]
        table = (np.arange(-128, 128) ^ -128).astype(np.int8)
        operation = Lookup(int(np.prod(declared.shape)), table)
        return self.builder.emit(name, operation, (tensor,), declared.shape, None, name, dtype)

    # --- int8 values ----------------------------------------------------------------------------------------

    def _integers(self, value: onnx_ir.Value) -> tuple[str, view.View]:
        """The int8 tensor of an 8-bit value."""
        if value not in self.integers:
            node = value.producer()
            if node is None:
                array = constant(value)
                assert array is not None, "inputs were entered first"
                shifted = array if array.dtype == np.int8 else (array.astype(np.int16) - 128).astype(np.int8)
                name = self.builder.constant(str(value.name), np.ascontiguousarray(shifted))
                self.integers[value] = name, view.row_major(array.shape)
            elif node.op_type == "QuantizeLinear":
                codes = self._quantized(node)
                self.integers[value] = codes.tensor, codes.view
            elif movement.accepts(node):
                for output, seen in zip(node.outputs, self._moved_integers(node), strict=True):
                    self.integers[output] = seen
            else:
                raise UnsupportedError(
                    f"node '{node.name}' ({node.op_type}) can't be compiled: it computes on 8-bit integers"
                )
        return self.integers[value]

    def _moved_integers(self, node: onnx_ir.Node) -> list[tuple[str, view.View]]:
        assert node.inputs[0] is not None, "accepts() saw it"
        tensor, seen = self._integers(node.inputs[0])
        views = movement.apply(node, seen)
        if views is None:
            plain = view.row_major(seen.shape)
            tensor = self.builder.copy(f"{node.name}_layout", tensor, seen, plain)
            views = movement.apply(node, plain)
            assert views is not None, "row-major tensors can be moved anyhow"
        return [(tensor, moved) for moved in views]

    def _quantized(self, node: onnx_ir.Node) -> Codes:
        """The codes that a QuantizeLinear computes."""
        parameters = scalar_parameters(node)
        source = node.inputs[0]
        assert parameters is not None, "asked for 8-bit values only"
        assert source is not None, "QuantizeLinear has an input"
        quantization = Quantization(*parameters)
        if self.analysis.kind(source) != "float":
            return self.builder.requantize(self._codes(source), quantization, str(node.name))
        found = self.analysis.layer(node)
        if found is not None:
            return self._layer(found, quantization)
        tensor = self._float(source)
        shape = shape_of(source)
        assert shape is not None, "the frontend leaves static shapes only"
        size = int(np.prod(shape, dtype=np.int64))
        operation = Quantize(size, quantization.scale, quantization.zero_point)
        name = self.builder.emit(str(node.name), operation, (tensor,), shape, quantization)
        return Codes(name, view.row_major(shape), affine(quantization), quantization)

    def _layer(self, found: FoundLayer, quantization: Quantization) -> Codes:
        """An integer operation; Relu and Clip behind it are its clamps."""
        limits = np.array([-np.inf, np.inf])
        for node in found.tail:
            limits = unary.evaluate(node, limits)
        low, high = (int(code) for code in quantized(limits, quantization))
        inputs = []
        for index in found.layer.activations(found.node):
            value = found.node.inputs[index]
            assert value is not None, "the analysis saw it"
            inputs.append(self._codes(value))
        request = Request(found.node, tuple(inputs), quantization, low, high)
        try:
            return found.layer.lower(self.builder, request)
        except ValueError as error:
            raise UnsupportedError(
                f"node '{found.node.name}' ({found.node.op_type}) can't be compiled: {error}"
            ) from error

    def _codes(self, value: onnx_ir.Value) -> Codes:
        """The codes behind an affine or mapped value."""
        if value not in self.codes:
            node = value.producer()
            assert node is not None, "constants and inputs are float"
            if node.op_type == "DequantizeLinear":
                parameters = scalar_parameters(node)
                assert parameters is not None, "the analysis saw them"
                assert node.inputs[0] is not None, "DequantizeLinear has an input"
                quantization = Quantization(*parameters)
                tensor, seen = self._integers(node.inputs[0])
                self.codes[value] = Codes(tensor, seen, affine(quantization), quantization)
            elif node.op_type in SAME_SCALE:
                codes = self._input_codes(node, 0)
                assert codes.quantization is not None, "the analysis saw it"
                request = Request(node, (codes,), codes.quantization, -128, 127)
                self.codes[value] = SAME_SCALE[node.op_type].lower(self.builder, request)
            elif movement.accepts(node):
                self._move(node)
            elif node.op_type == "Identity":
                self.codes[value] = self._input_codes(node, 0)
            else:
                codes = self._input_codes(node, unary.operand(node) or 0)
                self.codes[value] = Codes(codes.tensor, codes.view, unary.evaluate(node, codes.real), None)
        return self.codes[value]

    def _input_codes(self, node: onnx_ir.Node, index: int) -> Codes:
        value = node.inputs[index]
        assert value is not None, "the analysis saw it"
        return self._codes(value)

    def _move(self, node: onnx_ir.Node) -> None:
        codes = self._input_codes(node, 0)
        views = movement.apply(node, codes.view)
        if views is None:
            codes = self.builder.arranged(codes, view.row_major(codes.view.shape), str(node.name))
            views = movement.apply(node, codes.view)
            assert views is not None, "row-major tensors can be moved anyhow"
        for output, seen in zip(node.outputs, views, strict=True):
            self.codes[output] = Codes(codes.tensor, seen, codes.real, codes.quantization)

    # --- float values ---------------------------------------------------------------------------------------

    def _float(self, value: onnx_ir.Value) -> str:
        """The row-major tensor of a value in its own type."""
        if value not in self.floats:
            if is_constant(value):
                array = constant(value)
                array = dequantized_constant(value) if array is None else array
                self.floats[value] = self.builder.constant(str(value.name), np.ascontiguousarray(array))
            elif value.dtype in (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8):
                self.floats[value] = self._integers(value)[0]
            elif self.analysis.kind(value) == "affine":
                self.floats[value] = self._dequantized(value)
            else:
                self._island(self.analysis.level(value))
        return self.floats[value]

    def _dequantized(self, value: onnx_ir.Value) -> str:
        codes = self._codes(value)
        assert codes.quantization is not None, "only affine values are dequantized"
        shape = codes.view.shape
        node = value.producer()
        assert node is not None, "affine values come from a node"
        codes = self.builder.arranged(codes, view.row_major(shape), str(node.name))
        operation = Dequantize(codes.view.size, codes.quantization.scale, codes.quantization.zero_point)
        return self.builder.emit(
            str(node.name), operation, (codes.tensor,), shape, None, str(value.name), "float32"
        )

    def _island(self, level: int) -> None:
        """All float nodes of a level, as one operator."""
        nodes = self.analysis.islands[level]
        outside = self._read_outside(set(nodes))
        outputs = [value for node in nodes for value in node.outputs if value in outside]
        model, inputs = submodel(self.model, nodes, outputs)
        tensors = tuple(self._float(value) for value in inputs)
        names = []
        for value in outputs:
            shape, dtype = _described(value)
            names.append(self.builder.declare(str(value.name), shape, dtype))
            self.floats[value] = names[-1]
        why = self.analysis.reason if self.quantized_model else lambda node: "the target computes in float32"
        reasons = tuple((str(node.name), node.op_type, why(node)) for node in nodes)
        self.builder.operators.append(Operator(f"island_{level}", Island(model, reasons), tensors, tuple(names)))

    def _read_outside(self, nodes: set[onnx_ir.Node]) -> set[onnx_ir.Value]:
        return {
            value
            for node in nodes
            for value in node.outputs
            if value.is_graph_output() or any(usage.node not in nodes for usage in value.uses())
        }


def _described(value: onnx_ir.Value) -> tuple[tuple[int, ...], str]:
    """Shape and numpy dtype of a value."""
    shape = shape_of(value)
    if shape is None or value.dtype is None:
        raise UnsupportedError(f"value '{value.name}' has no static shape or type")
    return shape, value.dtype.numpy().name
