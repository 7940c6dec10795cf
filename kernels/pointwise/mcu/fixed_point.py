"""Sums and products in fixed point, for cores without an FPU: element by element, by integers alone."""

import math
from dataclasses import replace
from functools import partial

from edgec.kernels import tir
from edgec.kernels.isa import fixed
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Binary, Demands, laid
from edgec.kernels.pointwise import elementwise
from edgec.kernels.pointwise.elementwise import PARAMETERS
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def binary(operation: Binary, target: Target, demands: Demands = FREE) -> KernelCode:
    """Code of an addition or multiplication of int8 tensors, requantized in fixed point."""
    code = elementwise.binary(operation, target, demands)
    own = laid(operation.shape, demands.runs)
    shape, strides = tir.merge_dimensions(operation.shape, (*operation.strides, own))
    make = partial(_binary, operation.kind, shape, strides)
    return replace(code, key=f"fixed {code.key}", make=make, tiles=math.prod(shape[:-1]))


def _binary(kind: str, shape: list[int], strides: list[list[int]]) -> object:
    def body(a: Buffer, b: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        parameters = tir.registers(p, PARAMETERS)
        with T.serial(begin, end) as index:
            at = tir.unravel(index, shape[:-1])
            starts = [sum((i * s for i, s in zip(at, steps, strict=False)), T.int32(0)) for steps in strides]
            with T.serial(0, shape[-1]) as i:
                one, two, to = (start + i * steps[-1] for start, steps in zip(starts, strides, strict=True))
                tir.store(y, to, fixed.combine(kind, a[one], b[two], parameters, 1))

    one, two, result = (
        ("int8", 1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))) for steps in strides
    )
    parameters = [one, two, ("int32", PARAMETERS), result]
    return tir.kernel(parameters, "uint8", body, noalias=False)
