"""Operators in order over named tensors: what the reference evaluates and kernels implement."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.operations.conv import Chain, Conv2d, FloatConv2d
from edgec.kernels.operations.demands import FREE, Demands
from edgec.kernels.operations.island import Island
from edgec.kernels.operations.movement import Concat, Pad, Rearrange
from edgec.kernels.operations.pointwise import Binary, Dequantize, FloatBinary, Lookup, Quantize
from edgec.kernels.operations.product import Attention, Product
from edgec.kernels.operations.recurrent import Recurrent
from edgec.kernels.operations.reduction import (
    AveragePool,
    FloatAveragePool,
    FloatMean,
    FloatNormalize,
    MaxPool,
    Mean,
    Normalize,
    Softmax,
)
from edgec.kernels.operations.resizing import Interpolate
from edgec.kernels.operations.tensors import Tensor

Operation = (
    Conv2d | Chain | FloatConv2d | Product | Binary | FloatBinary | Lookup | Quantize | Dequantize | Rearrange
    | Concat | Pad | MaxPool | AveragePool | FloatAveragePool | Mean | FloatMean | Normalize | FloatNormalize
    | Softmax | Attention | Recurrent | Interpolate | Island
)  # fmt: skip


ARGUMENTS = frozenset(
    {
        "bias", "column_places", "column_weights", "curves", "epsilon", "factors", "high",
        "input_zero_point", "inverse_scale", "low", "mask_steps", "multiplier", "output_zero_point",
        "residual", "row_places", "row_weights", "scale", "score_multiplier", "state_multiplier",
        "state_zero_point", "table", "tables", "value", "weights", "zero_point",
        "zero_points",
    }
)  # fmt: skip
"""Fields that compiled functions take as arguments; every other field may be part of their code."""


INEXACT = (FloatConv2d, Island)
"""Operations whose result is stated within a tolerance: the order and rounding of their sums is free."""


@dataclass(frozen=True, eq=False)
class Operator:
    """One layer: an operation on named tensors, and what is demanded of its code."""

    name: str
    """The model's own name for it, made unique."""
    operation: Operation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """One, but for an island."""
    demands: Demands = FREE

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs that a kernel is given."""
        return tuple(name for i, name in enumerate(self.inputs) if i not in self.demands.placed)

    @property
    def computes(self) -> bool:
        """Whether there is anything to do: not where all that is concatenated lies there already."""
        return not self.demands.placed or bool(self.reads)


@dataclass(frozen=True, eq=False)
class Network:
    """Operators in execution order over tensors; what `reference.evaluate` computes and kernels implement."""

    operators: tuple[Operator, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, NDArray[np.generic]]
    """Tensors whose value is known (a constant operand of an addition, say)."""
    floats: tuple[tuple[str, str, str], ...] = ()
    """What of a quantized model is computed in float: each node's name, operator, and why."""
