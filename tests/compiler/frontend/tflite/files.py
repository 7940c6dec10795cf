"""Small .tflite files, written with the schema's own builders."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor: a constant where it has an array."""

    name: str
    shape: Sequence[int]
    dtype: str = "float32"
    scale: Sequence[float] = ()
    zero_point: Sequence[int] = (0,)
    axis: int = 0
    array: NDArray[Any] | None = None


def constant(name: str, array: Any, **keywords: Any) -> Tensor:
    """A tensor of known value."""
    array = np.asarray(array)
    return Tensor(name, array.shape, array.dtype.name, array=array, **keywords)


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator, tensors by name; "" is an optional one left out."""

    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    options: tuple[str, dict[str, Any]] | None = None
    """The schema's table, such as Conv2DOptions, and its fields."""
    custom: bool = False


@dataclass
class _Builder:
    builder: flatbuffers.Builder = field(default_factory=lambda: flatbuffers.Builder(1024))

    def table(self, kind: str, **fields: Any) -> int:
        getattr(tflite, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(self.builder, value)
        return int(getattr(tflite, f"{kind}End")(self.builder))

    def vector(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def numbers(self, array: Any, dtype: type) -> int:
        return int(self.builder.CreateNumpyVector(np.asarray(array, dtype)))


def written(
    tensors: Sequence[Tensor], operators: Sequence[Operator], inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    """The bytes of a file."""
    made = _Builder()
    place = {tensor.name: index for index, tensor in enumerate(tensors)} | {"": -1}
    buffers, rows = [made.table("Buffer")], []
    for tensor in tensors:
        content = {}
        if tensor.array is not None:
            content["Data"] = made.numbers(np.frombuffer(tensor.array.tobytes(), np.uint8), np.uint8)
        fields: dict[str, Any] = {}
        if tensor.scale:
            scale = made.numbers(tensor.scale, np.float32)
            zero = made.numbers(np.broadcast_to(tensor.zero_point, len(tensor.scale)), np.int64)
            fields["Quantization"] = made.table(
                "QuantizationParameters", Scale=scale, ZeroPoint=zero, QuantizedDimension=tensor.axis
            )
        if content:
            fields["Buffer"] = len(buffers)
            buffers.append(made.table("Buffer", **content))
        name, shape = made.builder.CreateString(tensor.name), made.numbers(tensor.shape, np.int32)
        rows.append(made.table("Tensor", Name=name, Shape=shape, Type=_TYPES[tensor.dtype], **fields))
    codes, nodes = [], []
    for operator in operators:
        number = 32 if operator.custom else getattr(tflite.BuiltinOperator, operator.name)
        fields = {"CustomCode": made.builder.CreateString(operator.name)} if operator.custom else {}
        codes.append(
            made.table(
                "OperatorCode",
                BuiltinCode=number,
                DeprecatedBuiltinCode=min(number, 127),
                Version=1,
                **fields,
            )
        )
        fields = {}
        if operator.options is not None:
            kind, options = operator.options
            options = {
                key: made.numbers(value, np.int32) if isinstance(value, list) else value
                for key, value in options.items()
            }
            fields = {
                "BuiltinOptions": made.table(kind, **options),
                "BuiltinOptionsType": getattr(tflite.BuiltinOptions, kind),
            }
        reads, writes = (
            made.numbers([place[n] for n in names], np.int32) for names in (operator.inputs, operator.outputs)
        )
        nodes.append(
            made.table("Operator", OpcodeIndex=len(codes) - 1, Inputs=reads, Outputs=writes, **fields)
        )
    ends = [made.numbers([place[name] for name in names], np.int32) for names in (inputs, outputs)]
    lists = [made.vector(offsets) for offsets in (rows, nodes)]
    graph = made.table("SubGraph", Tensors=lists[0], Inputs=ends[0], Outputs=ends[1], Operators=lists[1])
    parts = [made.vector(offsets) for offsets in (codes, [graph], buffers)]
    model = made.table("Model", Version=3, OperatorCodes=parts[0], Subgraphs=parts[1], Buffers=parts[2])
    made.builder.Finish(model, b"TFL3")
    return bytes(made.builder.Output())
