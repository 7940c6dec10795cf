"""What a device computes, with nothing left of ONNX or Relax: one value type per operation.

Every operation carries the shapes it works on, so that a reshape is none at all. `kernels/reference` gives
each its meaning in numpy; `kernels/table.py` lists the kernels that compute it. How it is to be computed is
apart, in `Demands`.
"""

from edgec.kernels.operations.conv import Chain, Conv2d, FloatConv2d, convolved
from edgec.kernels.operations.demands import FREE, Demands
from edgec.kernels.operations.island import Island
from edgec.kernels.operations.movement import Concat, Pad, Rearrange
from edgec.kernels.operations.network import ARGUMENTS, INEXACT, Network, Operation, Operator
from edgec.kernels.operations.pointwise import Binary, BinaryKind, Dequantize, FloatBinary, Lookup, Quantize
from edgec.kernels.operations.product import LONGEST, STEP, Attention, Matrices, Product
from edgec.kernels.operations.recurrent import Recurrent, RecurrentKind
from edgec.kernels.operations.reduction import (
    LONGEST_NORMALIZED,
    PARTIAL_SUMS,
    AveragePool,
    FloatAveragePool,
    FloatMean,
    FloatNormalize,
    MaxPool,
    Mean,
    Normalize,
    NormKind,
    Softmax,
)
from edgec.kernels.operations.resizing import WEIGHT_BITS, Interpolate
from edgec.kernels.operations.tensors import (
    Place,
    Quantization,
    Runs,
    Tensor,
    code_range,
    laid,
    pitch,
    span,
)

__all__ = [
    "ARGUMENTS",
    "FREE",
    "INEXACT",
    "LONGEST",
    "LONGEST_NORMALIZED",
    "PARTIAL_SUMS",
    "STEP",
    "WEIGHT_BITS",
    "Attention",
    "AveragePool",
    "Binary",
    "BinaryKind",
    "Chain",
    "Concat",
    "Conv2d",
    "Demands",
    "Dequantize",
    "FloatAveragePool",
    "FloatBinary",
    "FloatConv2d",
    "FloatMean",
    "FloatNormalize",
    "Interpolate",
    "Island",
    "Lookup",
    "Matrices",
    "MaxPool",
    "Mean",
    "Network",
    "NormKind",
    "Normalize",
    "Operation",
    "Operator",
    "Pad",
    "Place",
    "Product",
    "Quantization",
    "Quantize",
    "Rearrange",
    "Recurrent",
    "RecurrentKind",
    "Runs",
    "Softmax",
    "Tensor",
    "code_range",
    "convolved",
    "laid",
    "pitch",
    "span",
]
