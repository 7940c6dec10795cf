"""A part of a model as an ONNX model of its own."""

from collections.abc import Sequence

import numpy as np
import onnx_ir

from edgec.compiler.graph import shape_of
from edgec.compiler.model import Model
from edgec.compiler.operators.constants import known


def submodel(
    model: Model, nodes: Sequence[onnx_ir.Node], outputs: Sequence[onnx_ir.Value]
) -> tuple[bytes, list[onnx_ir.Value]]:
    """Return `nodes` as a serialized model that computes `outputs`, and the values it takes as inputs.

    Constants that the nodes read, dequantized where they are quantized, become initializers.
    """
    inside = {value for node in nodes for value in node.outputs}
    copies: dict[onnx_ir.Value, onnx_ir.Value] = {}
    inputs: list[onnx_ir.Value] = []
    initializers: list[onnx_ir.Value] = []

    def copy(value: onnx_ir.Value) -> onnx_ir.Value:
        if value in copies:
            return copies[value]
        fresh = onnx_ir.val(str(value.name), value.dtype, value.shape)
        if (array := None if value in inside else known(value)) is not None:
            tensor = onnx_ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=str(value.name))
            fresh = onnx_ir.val(str(value.name), const_value=tensor)
            initializers.append(fresh)
        elif value not in inside:
            inputs.append(value)
        copies[value] = fresh
        return fresh

    copied = [
        onnx_ir.node(
            node.op_type,
            [None if value is None else copy(value) for value in node.inputs],
            attributes=dict(node.attributes),
            domain=node.domain,
            outputs=[copy(value) for value in node.outputs],
            name=node.name,
        )
        for node in nodes
    ]
    graph = onnx_ir.Graph(
        [copies[value] for value in inputs],
        [copies[value] for value in outputs],
        nodes=copied,
        initializers=initializers,
        opset_imports=dict(model.ir.opset_imports),
        name="island",
    )
    proto = onnx_ir.to_proto(onnx_ir.Model(graph, ir_version=model.ir.ir_version))
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized, inputs


def read_outside(nodes: Sequence[onnx_ir.Node]) -> list[onnx_ir.Value]:
    """Return the results of `nodes` that others read, or the model's user."""
    inside = set(nodes)
    return [
        value
        for node in nodes
        for value in node.outputs
        if value.is_graph_output() or any(usage.node not in inside for usage in value.uses())
    ]


def described(value: onnx_ir.Value) -> tuple[tuple[int, ...], str]:
    """Return shape and numpy dtype of a value."""
    shape = shape_of(value)
    assert shape is not None, "check() leaves static shapes only"
    assert value.dtype is not None, "check() leaves typed values only"
    return shape, str(value.dtype.numpy().name)
