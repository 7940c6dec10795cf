"""The ONNX model under construction: values by tensor of a .tflite file, as stored and as real numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.arrays import Array
from edgec.compiler.frontend.tflite.read import Graph, Operator, Tensor
from edgec.compiler.graph import unique
from edgec.errors import ModelError

OPSET = 20
"""The opset of the model that is made: the first that has Gelu."""

_TYPES = {
    "FLOAT32": TensorProto.FLOAT,
    "FLOAT16": TensorProto.FLOAT16,
    "FLOAT64": TensorProto.DOUBLE,
    "INT8": TensorProto.INT8,
    "UINT8": TensorProto.UINT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT32": TensorProto.UINT32,
    "BOOL": TensorProto.BOOL,
}
"""TensorFlow Lite's type -> ONNX's."""

_QUANTIZED = ("INT8", "UINT8")


@dataclass
class Writer:
    """Collects nodes."""

    graph: Graph
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """Taken."""
    _values: dict[int, str] = field(default_factory=dict)
    """By tensor: the value that has its type."""
    _reals: dict[tuple[int, tuple[int, ...]], str] = field(default_factory=dict)
    """By tensor and order of axes: the value that has its real numbers."""

    def __post_init__(self) -> None:
        """Give inputs and outputs the names that they have in the file."""
        self.weights_only = not any(
            tensor.type in _QUANTIZED and tensor.scales is not None and tensor.data is None
            for tensor in self.graph.tensors
        )
        self.inputs = [self._declared(index, name) for index, name in self.graph.inputs.items()]
        self.outputs = {index: self.name(name) for index, name in self.graph.outputs.items()}
        self._values |= dict(zip(self.graph.inputs, self.inputs, strict=True))

    def _declared(self, index: int, name: str) -> str:
        self.onnx_type(index)
        return self.name(name)

    def name(self, wanted: str) -> str:
        """Return a free name like the wanted one, and take it."""
        name = unique(wanted or "tensor", self.names)
        self.names.add(name)
        return name

    def tensor(self, index: int) -> Tensor:
        """Return a tensor of the file. Raises ModelError where there is none of that number."""
        if not 0 <= index < len(self.graph.tensors):
            raise ModelError(f"a damaged TensorFlow Lite file: there is no tensor {index}")
        return self.graph.tensors[index]

    def onnx_type(self, index: int) -> int:
        """Return ONNX's type of a tensor. Raises ModelError where edgec doesn't read it."""
        tensor = self.tensor(index)
        if tensor.type == "INT16" and tensor.scales is not None:
            raise ModelError(f"tensor '{tensor.name}' is quantized to 16 bits (int16x8): quantize it to int8")
        if tensor.type not in _TYPES:
            raise ModelError(f"tensor '{tensor.name}' is of type {tensor.type.lower()}, which isn't read")
        return _TYPES[tensor.type]

    # --- what operators read --------------------------------------------------------------------------------

    def array(self, index: int) -> Array | None:
        """Return a constant as it is stored, None for what is computed. Raises ModelError."""
        tensor, dtype = self.tensor(index), helper.tensor_dtype_to_np_dtype(self.onnx_type(index))
        if tensor.data is None:
            return None
        if tensor.data.size != math.prod(tensor.shape) * dtype.itemsize:
            raise ModelError(
                f"tensor '{tensor.name}' {list(tensor.shape)} has {tensor.data.size} bytes: a damaged file"
            )
        return np.frombuffer(tensor.data.tobytes(), dtype).reshape(tensor.shape)

    def integers(self, index: int, what: str) -> list[int]:
        """Return a constant list of integers. Raises ModelError, which names it, where it is computed."""
        array = self.array(index)
        if array is None or array.dtype.kind not in "iu":
            raise ModelError(f"its {what} are computed when it runs, and edgec needs constants")
        return [int(number) for number in array.reshape(-1)]

    def real(self, index: int, order: Sequence[int] = ()) -> str:
        """Return the value of a tensor's real numbers; of a constant with its axes in an order.

        Integers without scales are themselves.
        """
        key = index, tuple(order)
        if key not in self._reals:
            constant = self.array(index)
            self._reals[key] = (
                self._computed(index) if constant is None else self._known(index, constant, order)
            )
        return self._reals[key]

    def _computed(self, index: int) -> str:
        tensor = self.tensor(index)
        if index not in self._values:
            raise ModelError(f"a damaged TensorFlow Lite file: nothing computes tensor '{tensor.name}'")
        value = self._values[index]
        return self._dequantized(tensor, value, 0) if self._is_quantized(index) else value

    def _known(self, index: int, array: Array, order: Sequence[int]) -> str:
        tensor, axis = self.tensor(index), 0
        array = array.transpose(order) if order else array
        if tensor.scales is not None:
            axis = list(order).index(tensor.scales.axis) if order else tensor.scales.axis
        if array.dtype == np.float16:
            return self.constant(tensor.name, array.astype(np.float32))
        if tensor.scales is None or array.dtype not in (np.int8, np.uint8, np.int32):
            return self.constant(tensor.name, array)
        if self.weights_only:
            along = [
                -1 if place == axis and tensor.scales.scale.size > 1 else 1 for place in range(array.ndim)
            ]
            scale, zero = (part.reshape(along) for part in (tensor.scales.scale, tensor.scales.zero_point))
            return self.constant(tensor.name, ((array - zero) * scale.astype(np.float64)).astype(np.float32))
        return self._dequantized(tensor, self.constant(tensor.name, array), axis)

    def _is_quantized(self, index: int) -> bool:
        return self.tensor(index).type in _QUANTIZED and self.tensor(index).scales is not None

    def _dequantized(self, tensor: Tensor, value: str, axis: int) -> str:
        return self.node("DequantizeLinear", [value, *self._scales(tensor)], axis=axis)

    def _scales(self, tensor: Tensor) -> list[str]:
        """Return the scale and the zero point, which int32 has none of."""
        assert tensor.scales is not None, "it is quantized"
        scale, zero = tensor.scales.scale, tensor.scales.zero_point
        if scale.size == 1:
            scale, zero = scale.reshape(()), zero.reshape(())
        values = [self.constant(f"{tensor.name}_scale", scale)]
        if tensor.type in _QUANTIZED:
            dtype = helper.tensor_dtype_to_np_dtype(_TYPES[tensor.type])
            values.append(self.constant(f"{tensor.name}_zero_point", zero.astype(dtype)))
        return values

    # --- what they write ------------------------------------------------------------------------------------

    def constant(self, name: str, array: Any) -> str:
        """Add a constant; return the value."""
        name = self.name(name)
        self.initializers.append(
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name)
        )
        return name

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node; return its result."""
        return self.parts(operator, inputs, 1, **attributes)[0]

    def parts(self, operator: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Add a node of several results; return them."""
        names = [self.name(f"{operator.lower()}_{len(self.nodes)}") for _ in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, names, names[0], **attributes))
        return names

    def write(self, index: int, real: str) -> None:
        """Make real numbers the value of a tensor, quantized if the tensor is."""
        self.onnx_type(index)
        tensor = self.tensor(index)
        if self._is_quantized(index):
            real = self.node("QuantizeLinear", [real, *self._scales(tensor)])
        self._values[index] = real

    # --- the whole ------------------------------------------------------------------------------------------

    def model(self) -> onnx.ModelProto:
        """Return the model."""
        for index, name in self.outputs.items():
            known = self.array(index)
            value = self._values.get(index)
            if value is None and known is not None:
                value = self.constant(f"{name}_constant", known)
            if value is None:
                raise ModelError(f"a damaged TensorFlow Lite file: nothing computes output '{name}'")
            self.nodes.append(helper.make_node("Identity", [value], [name], name))
        graph = helper.make_graph(
            self.nodes,
            "tflite",
            [self._info(index, name) for index, name in zip(self.graph.inputs, self.inputs, strict=True)],
            [self._info(index, name) for index, name in self.outputs.items()],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="tflite")

    def _info(self, index: int, name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, self.onnx_type(index), self.tensor(index).shape)


@dataclass(frozen=True)
class Call:
    """One operator to write out, and where to."""

    writer: Writer
    operator: Operator

    def shape(self, position: int) -> tuple[int, ...]:
        """Return the shape of an input."""
        return self.writer.tensor(self.operator.inputs[position]).shape

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.writer.tensor(self.operator.outputs[0]).shape

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.operator.inputs) and self.operator.inputs[position] >= 0

    def real(self, position: int, order: Sequence[int] = ()) -> str:
        """Return the real numbers of an input; of a constant with its axes in an order."""
        return self.writer.real(self.operator.inputs[position], order)

    def integers(self, position: int, what: str) -> list[int]:
        """Return an input that is a constant list of integers."""
        return self.writer.integers(self.operator.inputs[position], what)

    def is_constant(self, position: int) -> bool:
        """Whether an input is one."""
        return self.writer.tensor(self.operator.inputs[position]).data is not None

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return its result."""
        return self.writer.node(operator, inputs, **attributes)

    def list(self, numbers: Sequence[int]) -> str:
        """Return a constant list of 64-bit integers, such as ONNX takes shapes and axes."""
        return self.writer.constant("list", np.array(numbers, np.int64))

    def scalar(self, number: float) -> str:
        """Return a constant of float32."""
        return self.writer.constant("number", np.float32(number))

    def reshaped(self, value: str, shape: Sequence[int]) -> str:
        """Return the same elements under another shape."""
        return self.node("Reshape", value, self.list(shape))

    def transposed(self, value: str, order: Sequence[int]) -> str:
        """Return the same elements with the axes in another order."""
        return self.node("Transpose", value, perm=list(order))

    def activated(self, value: str) -> str:
        """Return what the operator's fused activation makes of its result."""
        code = self.operator.option("FusedActivationFunction", 0)
        if code not in _ACTIVATIONS:
            raise ModelError(f"its fused activation {code} isn't read")
        operator, *limits = _ACTIVATIONS[code]
        return self.node(operator, value, *map(self.scalar, limits)) if operator else value


_ACTIVATIONS: dict[int, tuple[Any, ...]] = {
    0: ("",),
    1: ("Relu",),
    2: ("Clip", -1, 1),
    3: ("Clip", 0, 6),
    4: ("Tanh",),
}
"""By the schema's ActivationFunctionType: ONNX's operator and its limits."""
