"""Work out the type and shape of every value."""

import onnx
import onnx_ir
from onnx.shape_inference import InferenceError

from edgec.errors import ModelError

SMALL_BYTES = 1024
"""Larger constants are weights, whose values no shape depends on: they needn't be copied to infer shapes."""


def infer_shapes(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with the types and shapes that ONNX's inference finds.

    Raises ModelError when the shapes contradict each other.
    """
    model = model.clone()
    probe = model.clone()
    for name, value in list(probe.graph.initializers.items()):
        if value.const_value is not None and value.const_value.nbytes > SMALL_BYTES:
            value.dtype, value.shape = value.const_value.dtype, onnx_ir.Shape(value.const_value.numpy().shape)
            probe.graph.initializers.pop(name)
            probe.graph.inputs.append(value)
    try:
        proto = onnx.shape_inference.infer_shapes(
            onnx_ir.to_proto(probe), check_type=True, strict_mode=True, data_prop=True
        )
    except InferenceError as error:
        raise ModelError(f"shapes don't fit together: {' '.join(str(error).split())}") from error
    inferred = onnx_ir.convenience.create_value_mapping(onnx_ir.from_proto(proto).graph)
    for name, value in onnx_ir.convenience.create_value_mapping(model.graph).items():
        if name in inferred and inferred[name].shape is not None:
            value.shape, value.type = inferred[name].shape, inferred[name].type
    return model
