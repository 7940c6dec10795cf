"""A float model in float64: its results, rounded, are the same on every machine.

Float kernels sum in the order that suits a CPU, fuse products into sums or don't, and have exponentials of
their own: float32 results differ between machines in their last bits. In float64 they differ too, but by some
1e-15; `rounded` keeps so few bits that the difference hides, but for about one value in 1e10.

ONNX's reference implementation computes, with some operators of `precise_operators`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgec.errors import ModelError
from edgec.kernels.precise_operators import OPERATORS

Array = NDArray[Any]

_BITS = 16
"""Of a rounded value: as the end of a range, it is exact to 1/500 of an int8 step."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)

_NAMED_TYPES = {
    ("Cast", "to"), ("EyeLike", "dtype"), ("RandomNormalLike", "dtype"), ("RandomUniformLike", "dtype"),
}  # fmt: skip
"""Operators' attributes that are the type of a result."""


class Precise:
    """A model, ready to be evaluated in float64."""

    def __init__(self, model: bytes) -> None:
        """Take a serialized ONNX model. Raises ModelError where nothing can evaluate an operator."""
        proto = onnx.load_from_string(model)
        _widen(proto.graph)
        for function in proto.functions:
            _widen_nodes(function.node)
        try:
            evaluator = ReferenceEvaluator(proto, new_ops=list(OPERATORS))
        except Exception as error:  # of every class
            raise _unknown(proto, error) from error
        self._initializers = evaluator.rt_inits_
        self._nodes = list(zip(proto.graph.node, evaluator.rt_nodes_, strict=True))
        self._reads = [{*node.input, *_captured(node)} - {""} for node, _ in self._nodes]

    def values(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Yield inputs, then every value as it is computed, by name; floats in float64.

        Nothing is kept longer than a node reads it. Raises ModelError.
        """
        known: dict[str, Any] = {"": None, **self._initializers}
        unread = Counter(name for reads in self._reads for name in reads)
        for name, array in inputs.items():
            known[name] = _wide(array)
            yield name, known[name]
        for (node, evaluator), reads in zip(self._nodes, self._reads, strict=True):
            context = {"context": known} if evaluator.need_context() else {}
            try:
                with np.errstate(all="ignore"):
                    results = evaluator.run(*(known[name] for name in node.input), **context)
            except Exception as error:  # of every class that numpy has
                raise ModelError(f"{_described(node)} can't be evaluated: {_line(error)}") from error
            for name in reads:
                unread[name] -= 1
                if not unread[name]:
                    del known[name]
            for name, result in zip(node.output, map(_wide, results), strict=False):
                if unread[name]:
                    known[name] = result
                if name:
                    yield name, result


def rounded(values: Array | float) -> NDArray[np.float64]:
    """Return values to 16 significant bits, halves to even."""
    mantissas, exponents = np.frexp(np.asarray(values, np.float64))
    return np.asarray(np.ldexp(np.rint(mantissas * 2.0**_BITS), exponents - _BITS))


def _wide(value: Any) -> Any:
    """Return an array of floats in float64, anything else as it is."""
    dtype = getattr(value, "dtype", np.dtype(object))
    return value.astype(np.float64) if dtype.kind == "f" or dtype.name == "bfloat16" else value


def _widen(graph: GraphProto) -> None:
    """Make every float constant of a graph, and its graphs, float64, in place."""
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    _widen_nodes(graph.node)


def _widen_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = numpy_helper.from_array(np.zeros(1))
            node.attribute.append(onnx.helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            elif attribute.type == AttributeProto.GRAPH:
                _widen(attribute.g)
            elif (node.op_type, attribute.name) in _NAMED_TYPES and attribute.i in _FLOATS:
                attribute.i = TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.array(value, np.float64))
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _captured(node: NodeProto) -> set[str]:
    """Return the names that a node's graphs read from outside."""
    names: set[str] = set()
    for graph in (attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH):
        made = {value.name for value in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            names |= {*inner.input, *_captured(inner)} - made
            made |= set(inner.output)
        names |= {value.name for value in graph.output} - made
    return names


def _unknown(proto: onnx.ModelProto, error: Exception) -> ModelError:
    """Name the node that there is no evaluator for."""
    for node in proto.graph.node:
        alone = onnx.helper.make_graph([node], "g", [], [])
        try:
            ReferenceEvaluator(
                onnx.helper.make_model(alone, opset_imports=proto.opset_import, functions=proto.functions),
                new_ops=list(OPERATORS),
            )
        except Exception as reason:
            return ModelError(f"{_described(node)} can't be evaluated: {_line(reason)}")
    return ModelError(f"the model can't be evaluated: {_line(error)}")


def _described(node: NodeProto) -> str:
    domain = f"{node.domain}:" if node.domain else ""
    return f"node '{node.name}' ({domain}{node.op_type})"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
