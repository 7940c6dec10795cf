"""A part of a model as an ONNX model of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import attribute, constant
from edgec.compiler.lower.analysis import is_constant
from edgec.compiler.model import Model


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
    copied: list[onnx_ir.Node] = []

    def copy(value: onnx_ir.Value | None) -> onnx_ir.Value | None:
        if value is None:
            return None
        if value not in copies:
            fresh = onnx_ir.val(str(value.name), value.dtype, value.shape)
            if is_constant(value):
                array = constant(value)
                array = dequantized_constant(value) if array is None else array
                fresh = onnx_ir.val(str(value.name), const_value=onnx_ir.tensor(array, name=str(value.name)))
                initializers.append(fresh)
            elif value not in inside:
                inputs.append(value)
            copies[value] = fresh
        return copies[value]

    for node in nodes:
        copied.append(
            onnx_ir.node(
                node.op_type,
                [copy(value) for value in node.inputs],
                attributes=dict(node.attributes),
                domain=node.domain,
                outputs=[copy(value) for value in node.outputs],  # type: ignore[misc]
                name=node.name,
            )
        )
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


def dequantized_constant(value: onnx_ir.Value) -> NDArray[Any]:
    """Return the float32 array of DequantizeLinear(constant), as ONNX defines it."""
    node = value.producer()
    assert node is not None, "only what is_constant() accepts"
    integers, scale = constant(node.inputs[0]), constant(node.inputs[1])
    assert integers is not None, "only what is_constant() accepts"
    assert scale is not None, "only what is_constant() accepts"
    zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    axis = attribute(node, "axis", 1)
    along = [1] * integers.ndim
    if scale.size > 1:
        along[axis % integers.ndim] = scale.size
    centred = integers.astype(np.int32)
    if zero_point is not None:
        centred = centred - zero_point.astype(np.int32).reshape(along if zero_point.size > 1 else ())
    return np.asarray(centred.astype(np.float32) * scale.reshape(along if scale.size > 1 else ()), np.float32)
