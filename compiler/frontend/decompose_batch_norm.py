"""Write BatchNormalization as the multiplication and addition that it is at inference."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import (
    add_initializer,
    add_node,
    attribute,
    constant,
    fits,
    replace_value,
    shape_of,
)
from edgec.errors import ModelError


def decompose_batch_norm(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with BatchNormalization over constants as Mul and Add, for fold_affine to take on.

    BatchNormalization(x, scale, bias, mean, variance) --> Add(Mul(x, factor), offset)

    One whose factor or offset its type can't hold stays: x times infinity isn't what it computes.
    Raises ModelError where a variance is negative.
    """
    model = model.clone()
    graph = model.graph
    for node in list(graph):
        if node.op_type != "BatchNormalization" or node.domain or attribute(node, "training_mode", 0):
            continue
        source, output = node.inputs[0], node.outputs[0]
        parameters = [constant(value) for value in node.inputs[1:5]]
        shape = shape_of(output)
        if source is None or shape is None or any(parameter is None for parameter in parameters):
            continue
        scale, bias, mean, variance = (p.astype(np.float64) for p in parameters if p is not None)
        if np.any(variance + attribute(node, "epsilon", 1e-5) <= 0):
            raise ModelError(f"node '{node.name}' (BatchNormalization): a variance is negative")
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        channels = (-1, *[1] * (len(shape) - 2))  # broadcasts along axis 1
        dtype = output.dtype.numpy() if output.dtype is not None else np.dtype(np.float32)
        constants = {"factor": factor, "offset": bias - mean * factor}
        if not all(fits(array, dtype) for array in constants.values()):
            continue
        factor_value, offset_value = (
            add_initializer(graph, f"{node.name}_{role}", array.astype(dtype).reshape(channels))
            for role, array in constants.items()
        )
        like = (shape, output.dtype)
        scaled = add_node(node, "Mul", [source, factor_value], {}, f"{node.name}_mul", *like)
        shifted = add_node(node, "Add", [scaled, offset_value], {}, f"{node.name}_add", *like)
        replace_value(output, shifted)
        graph.remove(node, safe=True)
    return model
