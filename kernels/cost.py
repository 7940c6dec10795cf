"""The model of the machine: what work takes, by the rates that instruction sets have."""

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.isa import arm64, x86
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.isa.generic import Generic
from edgec.targets.descriptor import Target

INSTRUCTION_SETS: tuple[InstructionSet, ...] = (
    x86.AVX512VNNI, x86.AVX512, x86.AVXVNNI, x86.AVX2BYTES, x86.AVX2, x86.SSE2, arm64.I8MM, arm64.DOTPROD,
    arm64.NEON, Generic(),
)  # fmt: skip
"""Every int8 set that multiplies matrices, the fastest of an architecture first."""


def runnable(target: Target) -> list[InstructionSet]:
    """Return the sets that `target` has."""
    return [
        isa for isa in INSTRUCTION_SETS if isa.arch in (None, target.arch) and isa.features <= target.features
    ]


def direct_products(target: Target, weights: NDArray[np.generic] | None = None) -> float:
    """Return the multiply-accumulates per cycle of a convolution by these weights, or by any, as it stands.

    Without a transform, that is.
    """
    rates = (isa.products for isa in runnable(target) if weights is None or isa.accepts(weights))
    return max(rates, default=Generic.products)
