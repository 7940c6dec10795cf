"""A .tflite file as an ONNX model."""

import onnx

from edgec.compiler.frontend.malformed import malformed
from edgec.compiler.frontend.tflite.read import Operator, read
from edgec.compiler.frontend.tflite.table import ROWS
from edgec.compiler.frontend.tflite.writer import Call, Writer
from edgec.errors import ModelError

_MOST_LISTED = 12
"""Operators that one message names."""


def convert(data: bytes) -> onnx.ModelProto:
    """Return the ONNX model that a .tflite file's content stands for.

    Float tensors stay float; int8 and uint8 ones stand between QuantizeLinear and DequantizeLinear with the
    file's own scales, and inputs and outputs keep their types. Raises ModelError for a damaged file, and for
    what isn't read: it lists the operators, or names the one.
    """
    graph = read(data)
    unread = sorted({_said(operator) for operator in graph.operators if not _is_read(operator)})
    if unread:
        listed = [*unread[:_MOST_LISTED], *(["..."] if len(unread) > _MOST_LISTED else [])]
        raise ModelError(f"TensorFlow Lite operators that edgec doesn't read: {', '.join(listed)}")
    writer = Writer(graph)
    for index, operator in enumerate(graph.operators):
        try:
            with malformed("a damaged file"):
                results = ROWS[operator.name](Call(writer, operator))
                found = results if isinstance(results, list) else [results]
                for output, result in zip(operator.outputs, found, strict=True):
                    writer.write(output, result)
        except ModelError as error:
            raise ModelError(f"operator {index} ({operator.name}): {error}") from error
    return writer.model()


def _is_read(operator: Operator) -> bool:
    return not operator.custom and operator.name in ROWS


def _said(operator: Operator) -> str:
    return f"{operator.name} (custom)" if operator.custom else operator.name
