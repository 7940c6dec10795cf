"""Whether the constants of an ONNX file hold as many bytes as their types and shapes say."""

import math
from collections.abc import Iterable, Iterator

import onnx
import onnx_ir

from edgec.errors import ModelError


def check_tensors(model: onnx.ModelProto) -> None:
    """Raise ModelError, naming it, for a constant that can't be what it says; onnx's checker lets some pass.

    Tensors in other files are left to who reads these.
    """
    for nodes in (function.node for function in model.functions):
        for tensor in _of_nodes(nodes):
            _check(tensor)
    for tensor in _of_graph(model.graph):
        _check(tensor)
    for sparse in model.graph.sparse_initializer:
        raise ModelError(
            f"initializer '{sparse.values.name}' is sparse, and edgec reads dense ones: write it out"
        )


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _of_graph(graph)


def _check(tensor: onnx.TensorProto) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    name = f"tensor '{tensor.name}'"
    try:
        dtype = onnx_ir.DataType(tensor.data_type)
    except ValueError as error:
        raise ModelError(f"{name} is of type {tensor.data_type}, which ONNX doesn't have") from error
    if dtype == onnx_ir.DataType.UNDEFINED or any(extent < 0 for extent in tensor.dims):
        raise ModelError(f"{name} has no type, or a negative dimension {list(tensor.dims)}")
    elements = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        given, unit = len(tensor.raw_data), "bytes"
        wanted = given if dtype == onnx_ir.DataType.STRING else -(-elements * dtype.bitwidth // 8)
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        given, unit = len(getattr(tensor, field)), "numbers"
        wanted = elements * (2 if dtype.name.startswith("COMPLEX") else 1)
        if dtype.name != "STRING" and dtype.bitwidth < 8:
            wanted = -(-elements * dtype.bitwidth // 8)
    if given != wanted:
        shape = "x".join(map(str, tensor.dims)) or "a scalar"
        raise ModelError(f"{name}, {dtype.name.lower()} {shape}, holds {given} {unit}, not {wanted}")
