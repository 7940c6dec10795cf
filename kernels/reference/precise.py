"""A float model in float64: its results, rounded, are the same on every machine.

Float kernels sum in the order that suits a CPU, fuse products into sums or don't, and have exponentials of
their own: float32 results differ between machines in their last bits. In float64 they differ too, but by some
1e-15 of a tensor's largest value, 1e-14 at most; fewer bits hide that: of 20, in all but one value of 1e9.

ONNX's reference implementation computes, with some operators of `precise_operators`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgec.arrays import Array, Arrays
from edgec.errors import ModelError
from edgec.kernels.reference import oracle
from edgec.kernels.reference.precise_operators import OPERATORS
from edgec.kernels.reference.precise_recurrent import RECURRENT

_RELATIVE, _ABSOLUTE = 1e-3, 1e-4
"""How near float64 comes to what ONNX says in float32; the latter is a share of a tensor's largest value."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)

_NAMED_TYPES = {
    ("Cast", "to"), ("EyeLike", "dtype"), ("RandomNormalLike", "dtype"), ("RandomUniformLike", "dtype"),
}  # fmt: skip
"""Operators' attributes that are the type of a result."""


_LOOPS = {"DeformConv", "GridSample", "MaxUnpool", "NonMaxSuppression", "RoiAlign"}
"""Operators that the reference computes element by element in Python: a thousand times slower."""


class Precise:
    """A model, ready to be evaluated in float64."""

    def __init__(self, model: bytes, wanted: Iterable[str] | None = None) -> None:
        """Take a serialized ONNX model and the names of the values that are wanted, by default its outputs.

        Raises ModelError where nothing can evaluate an operator that they depend on.
        """
        proto = onnx.load_from_string(model)
        self._outputs = [value.name for value in proto.graph.output]
        _drop_unneeded(proto.graph, set(self._outputs if wanted is None else wanted))
        _widen(proto.graph)
        for function in proto.functions:
            _widen_nodes(function.node)
        try:
            evaluator = ReferenceEvaluator(proto, new_ops=[*OPERATORS, *RECURRENT])
        except Exception as error:  # of every class
            raise _unknown(proto, error) from error
        self._initializers = evaluator.rt_inits_
        self._nodes = list(zip(proto.graph.node, evaluator.rt_nodes_, strict=True))
        self.loops = any(node.op_type in _LOOPS for node in proto.graph.node)
        """Whether evaluation may take minutes."""
        self._reads = [_read(node) for node, _ in self._nodes]
        self._shapes = {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in proto.graph.input
            if value.type.tensor_type.HasField("shape")
            and all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
        }

    def values(self, inputs: Arrays) -> Iterator[tuple[str, Array]]:
        """Yield inputs, then what is wanted or leads to it as it is computed, by name; floats in float64.

        Inputs are reshaped to the model's shapes; nothing is kept longer than a node reads it. Raises
        ModelError.
        """
        known: dict[str, Any] = {"": None, **self._initializers}
        unread = Counter(name for reads in self._reads for name in reads)
        for name, array in inputs.items():
            known[name] = _wide(array).reshape(self._shapes.get(name, array.shape))
            yield name, known[name]
        for (node, evaluator), reads in zip(self._nodes, self._reads, strict=True):
            context = {"context": known} if evaluator.need_context() else {}
            try:
                with np.errstate(all="ignore"):
                    results = evaluator.run(*(known[name] for name in node.input), **context)
            except Exception as error:  # of every class that numpy has
                raise ModelError(f"{_described(node)} can't be evaluated: {oracle.line(error)}") from error
            for name in reads:
                unread[name] -= 1
                if not unread[name]:
                    del known[name]
            for name, result in zip(node.output, map(_wide, results), strict=False):
                if unread[name]:
                    known[name] = result
                if name:
                    yield name, result

    def outputs(self, inputs: Arrays) -> dict[str, Any]:
        """Return the model's outputs, floats in float64. Raises ModelError."""
        kept = {name: _wide(self._initializers[name]) for name in self._outputs if name in self._initializers}
        kept |= {name: value for name, value in self.values(inputs) if name in self._outputs}
        return {name: kept[name] for name in self._outputs}


def rounded(values: Array | float, bits: int) -> NDArray[np.float64]:
    """Return values to so many significant bits, halves to even."""
    mantissas, exponents = np.frexp(np.asarray(values, np.float64))
    return np.asarray(np.ldexp(np.rint(mantissas * 2.0**bits), exponents - bits))


def evaluate(model: bytes, inputs: Arrays) -> dict[str, Array]:
    """Return what the oracle does, as exactly as `repeatable` can. Raises OracleError."""
    (result,) = repeatable(model, [inputs], [oracle.evaluate(model, inputs)])
    return result


def repeatable(model: bytes, feeds: Sequence[Arrays], said: Sequence[Arrays]) -> list[dict[str, Array]]:
    """Return what the oracle said of each feed, the same on every machine.

    The oracle decides what a model computes, float64 the bits: an output that comes out otherwise in float64,
    or would take minutes, is as the oracle has it.
    """
    try:
        precise = Precise(model)
        if precise.loops:
            return [dict(run) for run in said]
        found = [precise.outputs(feed) for feed in feeds]
    except ModelError:
        return [dict(run) for run in said]
    return [
        {name: _nearest(array, run.get(name)) for name, array in expected.items()}
        for expected, run in zip(said, found, strict=True)
    ]


def _nearest(expected: Array, precise: Any) -> Array:
    """Return `precise` in the other's type, if they are the same but for float32's rounding."""
    if getattr(precise, "shape", None) != expected.shape or expected.dtype.kind not in "fiub":
        return expected
    with np.errstate(all="ignore"):
        finite = np.abs(np.where(np.isfinite(expected), expected, 0))
        limit = _RELATIVE * finite + _ABSOLUTE * finite.max(initial=0)
        near = np.isclose(precise, expected, 0, limit, equal_nan=True).all()
        return precise.astype(expected.dtype) if near else expected


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


def _drop_unneeded(graph: GraphProto, wanted: set[str]) -> None:
    """Remove the nodes that no wanted value depends on, and the outputs, which say nothing here."""
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted |= _read(node)
    del graph.node[:], graph.output[:]
    graph.node.extend(reversed(kept))


def _read(node: NodeProto) -> set[str]:
    """Return the names of the values that a node needs."""
    return {*node.input, *_captured(node)} - {""}


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
                new_ops=[*OPERATORS, *RECURRENT],
            )
        except Exception as reason:
            return ModelError(f"{_described(node)} can't be evaluated: {oracle.line(reason)}")
    return ModelError(f"the model can't be evaluated: {oracle.line(error)}")


def _described(node: NodeProto) -> str:
    domain = f"{node.domain}:" if node.domain else ""
    return f"node '{node.name}' ({domain}{node.op_type})"
