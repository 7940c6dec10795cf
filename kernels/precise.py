"""A float model in float64: its results, rounded, are the same on every machine.

Float kernels sum in the order that suits a CPU, fuse products into sums or don't, and have exponentials of their
own: float32 results differ between machines in their last bits. Computed in float64 they differ too, but by
some 1e-15 of a value; `rounded` keeps 16 bits of it, which hides the difference but for one value in 1e10.

ONNX's reference implementation computes; what it is slow at is in `precise_operators`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgec.kernels.precise_operators import OPERATORS

Array = NDArray[Any]

_BITS = 16
"""Of a rounded value: 1/500 of an int8 step of a tensor that reaches up to it."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)

_TYPES = {("Cast", "to"), ("EyeLike", "dtype"), ("RandomNormalLike", "dtype"), ("RandomUniformLike", "dtype")}
"""Attributes that name a type."""


class Precise:
    """A model, ready to be evaluated in float64."""

    def __init__(self, model: bytes) -> None:
        """Take a serialized ONNX model. Raises what onnx.reference raises for operators that it lacks."""
        proto = onnx.load_from_string(model)
        _widen(proto.graph)
        for function in proto.functions:
            _widen_nodes(function.node)
        self._evaluator = ReferenceEvaluator(proto, new_ops=list(OPERATORS))
        self._nodes = list(zip(proto.graph.node, self._evaluator.rt_nodes_, strict=True))
        self._reads = [{*node.input, *_captured(node)} - {""} for node, _ in self._nodes]
        self._initializers = self._evaluator.rt_inits_

    def values(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Yield inputs, then every value as it is computed, by name; floats in float64.

        None is kept longer than a node reads it. Raises what onnx.reference raises.
        """
        known: dict[str, Any] = {"": None, **self._initializers}
        unread = Counter(name for reads in self._reads for name in reads)
        for name, array in inputs.items():
            known[name] = _wide(array)
            yield name, known[name]
        for (node, computes), reads in zip(self._nodes, self._reads, strict=True):
            context = {"context": known} if computes.need_context() else {}
            with np.errstate(all="ignore"):
                results = computes.run(*(known[name] for name in node.input), **context)
            for name in reads:
                unread[name] -= 1
                if not unread[name]:
                    known.pop(name)
            for name, result in zip(node.output, results, strict=False):
                if name:
                    if unread[name]:
                        known[name] = result
                    yield name, result


def rounded(values: Array | float) -> NDArray[np.float64]:
    """Return values to 16 significant bits, halves to even."""
    mantissas, exponents = np.frexp(np.asarray(values, np.float64))
    return np.asarray(np.ldexp(np.rint(mantissas * 2.0**_BITS), exponents - _BITS))


def _wide(array: Array) -> Array:
    narrow = array.dtype == np.float32 or array.dtype == np.float16 or array.dtype.name == "bfloat16"
    return array.astype(np.float64) if narrow else array


def _widen(graph: GraphProto) -> None:
    """Make every float tensor of a graph float64, in place."""
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    _widen_nodes(graph.node)


def _widen_nodes(nodes: Any) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            elif attribute.type == AttributeProto.GRAPH:
                _widen(attribute.g)
            elif attribute.type == AttributeProto.GRAPHS:
                for graph in attribute.graphs:
                    _widen(graph)
            elif (node.op_type, attribute.name) in _TYPES and attribute.i in _FLOATS:
                attribute.i = TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                single = attribute.name == "value_float"
                array = np.array(attribute.f if single else list(attribute.floats), np.float64)
                attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(array)))


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        name, array = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float64), name))


def _captured(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node's subgraphs read from around them."""
    names: set[str] = set()
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            made = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
            for inner in graph.node:
                names |= {*inner.input, *_captured(inner)} - made
                made |= set(inner.output)
            names |= {value.name for value in graph.output} - made
    return names
