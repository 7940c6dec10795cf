"""The integer semantics in numpy: what every kernel on every target must equal, bit for bit.

This folder is docs/semantics.md as code, and is kept plain enough to be read as such. int8 tensors are
flat or shaped arrays; every function returns an array in the physical layout of its operation. The
arithmetic after an integer sum is float32 IEEE 754, one rounding per operation, nothing contracted; or, for
cores without an FPU (`requantization="fixed-point"`), integers of 32 and 64 bits.
"""

from edgec.kernels.reference.conv import chain, conv2d, float_conv2d
from edgec.kernels.reference.movement import concat, interpolate, pad, rearrange
from edgec.kernels.reference.network import REQUANTIZING, SEMANTICS, Evaluator, compute, evaluate, run_onnx
from edgec.kernels.reference.pointwise import binary, dequantize, float_binary, lookup, quantize
from edgec.kernels.reference.product import attention, product
from edgec.kernels.reference.recurrent import recurrent
from edgec.kernels.reference.reduction import (
    average_pool,
    float_average_pool,
    float_mean,
    float_normalize,
    max_pool,
    mean,
    normalize,
    softmax,
)
from edgec.kernels.reference.rounding import FIXED, FLOAT, clamp, fixed_point, requantize, rounded_shift

__all__ = [
    "FIXED",
    "FLOAT",
    "REQUANTIZING",
    "SEMANTICS",
    "Evaluator",
    "attention",
    "average_pool",
    "binary",
    "chain",
    "clamp",
    "compute",
    "concat",
    "conv2d",
    "dequantize",
    "evaluate",
    "fixed_point",
    "float_average_pool",
    "float_binary",
    "float_conv2d",
    "float_mean",
    "float_normalize",
    "interpolate",
    "lookup",
    "max_pool",
    "mean",
    "normalize",
    "pad",
    "product",
    "quantize",
    "rearrange",
    "recurrent",
    "requantize",
    "rounded_shift",
    "run_onnx",
    "softmax",
]
