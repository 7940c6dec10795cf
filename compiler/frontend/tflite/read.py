"""A .tflite file as values: tensors, and operators in the order in which they run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import tflite
from numpy.typing import NDArray

from edgec.compiler.frontend.malformed import malformed
from edgec.errors import ModelError

_IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every such file."""

_NONE = 0
"""The type of options where an operator has none."""

_T = TypeVar("_T")


def _names(enumeration: type) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


_OPERATORS = _names(tflite.BuiltinOperator)
_OPTIONS = _names(tflite.BuiltinOptions)
_TYPES = _names(tflite.TensorType)


@dataclass(frozen=True, eq=False)
class Scales:
    """What the integers of a tensor stand for: (integer - zero point) * scale."""

    scale: NDArray[np.float32]
    """One, or one per slice along `axis`."""
    zero_point: NDArray[np.int64]
    axis: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor as the file describes it."""

    name: str
    shape: tuple[int, ...]
    type: str
    """In TensorFlow Lite's words: FLOAT32, INT8."""
    scales: Scales | None
    data: NDArray[np.uint8] | None
    """The bytes of a constant; None where it is computed."""


@dataclass(frozen=True, eq=False)
class Operator:
    """One operation."""

    name: str
    """In TensorFlow Lite's words: CONV_2D; of a custom one, its own."""
    custom: bool
    inputs: tuple[int, ...]
    """Which tensors; -1 where an optional one is left out."""
    outputs: tuple[int, ...]
    options: Any
    """As the schema's own reader gives them; None where there are none."""

    def option(self, name: str, default: Any) -> Any:
        """Return an option by the schema's name, such as StrideW. Raises ModelError where there is none."""
        if self.options is None:
            return default
        if not hasattr(self.options, name):
            raise ModelError("its options are another operator's: a damaged file")
        return getattr(self.options, name)()


@dataclass(frozen=True, eq=False)
class Graph:
    """What the file computes."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: Mapping[int, str]
    """Tensor -> what it is called, by the file's one signature if it has that."""
    outputs: Mapping[int, str]


def read(data: bytes) -> Graph:
    """Return what a file says. Raises ModelError where it is none, or is damaged.

    Of several subgraphs it is the first: the others belong to operators that say so (IF, CALL_ONCE).
    """
    if data[4:8] != _IDENTIFIER:
        raise ModelError("not a TensorFlow Lite file, or a damaged one")
    with malformed("a damaged TensorFlow Lite file"):
        return _graph(tflite.Model.GetRootAs(data, 0), len(data))


def _graph(model: Any, size: int) -> Graph:
    def items(count: int, item: Callable[[int], _T]) -> list[_T]:
        if count > size:
            raise ModelError("a damaged TensorFlow Lite file: a list is longer than the file")
        return [item(index) for index in range(count)]

    graph = model.Subgraphs(0)
    buffers = items(model.BuffersLength(), model.Buffers)
    codes = [_code(code) for code in items(model.OperatorCodesLength(), model.OperatorCodes)]
    tensors = tuple(_tensor(tensor, buffers) for tensor in items(graph.TensorsLength(), graph.Tensors))
    operators = tuple(_operator(node, codes) for node in items(graph.OperatorsLength(), graph.Operators))
    signatures = items(model.SignatureDefsLength(), model.SignatureDefs)
    one = signatures[0] if len(signatures) == 1 else None
    sides = []
    for side in ("Inputs", "Outputs"):
        entries = [] if one is None else items(getattr(one, f"{side}Length")(), getattr(one, side))
        called = {entry.TensorIndex(): _text(entry.Name()) for entry in entries}
        found = _numbers(getattr(graph, f"{side}AsNumpy")())
        sides.append({index: called.get(index) or tensors[index].name for index in found})
    return Graph(tensors, operators, *sides)


def _code(code: Any) -> tuple[str, bool]:
    """Return the name of an operator, and whether it is a custom one."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == tflite.BuiltinOperator.CUSTOM:
        return _text(code.CustomCode()), True
    return _OPERATORS.get(number, f"operator {number}"), False


def _tensor(tensor: Any, buffers: list[Any]) -> Tensor:
    name, scales, quantization = _text(tensor.Name()), None, tensor.Quantization()
    if tensor.Sparsity() is not None:
        raise ModelError(f"tensor '{name}' is sparse, and edgec reads dense ones")
    if quantization is not None and quantization.ScaleLength():
        scale = np.asarray(quantization.ScaleAsNumpy(), np.float32)
        zero = np.zeros(1, np.int64)
        if quantization.ZeroPointLength():
            zero = np.asarray(quantization.ZeroPointAsNumpy(), np.int64)
        scales = Scales(scale, np.broadcast_to(zero, scale.shape), quantization.QuantizedDimension())
    shape = tuple(_numbers(tensor.ShapeAsNumpy()))
    if any(extent < 1 for extent in shape):
        raise ModelError(f"tensor '{name}' has the shape {list(shape)}, which isn't static")
    buffer = buffers[tensor.Buffer()]
    if buffer.Offset() > 1:
        raise ModelError("weights behind the model, as in files of 2 GiB, aren't read")
    data = np.asarray(buffer.DataAsNumpy(), np.uint8) if buffer.DataLength() else None
    return Tensor(name, shape, _TYPES.get(tensor.Type(), f"type {tensor.Type()}"), scales, data)


def _operator(node: Any, codes: list[tuple[str, bool]]) -> Operator:
    name, custom = codes[node.OpcodeIndex()]
    inputs, outputs = _numbers(node.InputsAsNumpy()), _numbers(node.OutputsAsNumpy())
    return Operator(name, custom, tuple(inputs), tuple(outputs), _options(node))


def _options(node: Any) -> Any:
    """Return the options of an operator, None where it has none."""
    kind, table = _OPTIONS.get(node.BuiltinOptionsType()), node.BuiltinOptions()
    if kind is None or table is None or node.BuiltinOptionsType() == _NONE:
        return None
    options = getattr(tflite, kind)()
    options.Init(table.Bytes, table.Pos)
    return options


def _numbers(array: Any) -> list[int]:
    """Return a vector's numbers; the reader gives 0 for one that isn't there."""
    return [int(number) for number in array] if isinstance(array, np.ndarray) else []


def _text(given: bytes | None) -> str:
    return (given or b"").decode()
