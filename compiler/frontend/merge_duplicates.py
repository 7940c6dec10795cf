"""Compute once what a model writes down several times."""

import onnx_ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, DeduplicateInitializersPass

_SMALL_ELEMENTS = 1024
"""Larger constants are weights: comparing them takes longer than it saves."""


def merge_duplicates(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with nodes that do the same to the same values merged.

    y = QuantizeLinear(x); z = QuantizeLinear(x); Add(y, z) --> y = QuantizeLinear(x); Add(y, y)

    Some tools quantize a value once for each of its readers; an integer layer has one quantized result.
    """
    model = model.clone()
    DeduplicateInitializersPass(size_limit=_SMALL_ELEMENTS)(model)
    CommonSubexpressionEliminationPass()(model)
    return model
