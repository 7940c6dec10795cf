"""Values that are known at compile time: initializers, what DequantizeLinear makes of them, and Constant.

A Constant is left where a constant is an output of the model.
"""

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.graph import attribute, constant


def is_known(value: onnx_ir.Value) -> bool:
    """Whether a value is an initializer, one behind DequantizeLinear, or a Constant's."""
    node = value.producer()
    if node is None:
        return constant(value) is not None
    if _is_constant(node):
        return True
    inputs = [part for part in node.inputs if part is not None]
    return node.op_type == "DequantizeLinear" and all(constant(part) is not None for part in inputs)


def known(value: onnx_ir.Value | None) -> Array | None:
    """Return the array of a known value, dequantized as ONNX defines it; None for any other value."""
    if value is None or not is_known(value):
        return None
    node = value.producer()
    if node is not None and _is_constant(node):
        tensor = onnx_ir.convenience.get_const_tensor(value)
        return None if tensor is None else tensor.numpy()
    return constant(value) if node is None else _dequantized(node)


def _is_constant(node: onnx_ir.Node) -> bool:
    return node.op_type == "Constant" and not node.domain


def _dequantized(node: onnx_ir.Node) -> Array:
    """(integers - zero point) * scale in float32, per tensor, per channel or per block along `axis`."""
    integers, scale, zero_point = (constant(value) for value in (*node.inputs, None)[:3])
    assert integers is not None, "is_known() saw it"
    assert scale is not None, "is_known() saw it"

    def spread(parameters: Array) -> NDArray[np.float32]:
        wide = parameters.astype(np.float32)
        if wide.size == 1:
            return wide.reshape(())
        axis = attribute(node, "axis", 1) % integers.ndim
        if wide.ndim == 1:
            return wide.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
        block = -(-integers.shape[axis] // wide.shape[axis])
        blocks = np.repeat(wide, block, axis=axis)
        return np.take(blocks, range(integers.shape[axis]), axis=axis)

    centred = integers.astype(np.float32) - (0 if zero_point is None else spread(zero_point))
    return np.asarray(centred * spread(scale), scale.dtype)
