"""Normalizations in fixed point, for cores without an FPU: a root and a reciprocal of 16 bits a group."""

from functools import partial

import numpy as np

from edgec.kernels import tir
from edgec.kernels.isa import fixed
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, Normalize
from edgec.kernels.reduction.normalize import kernel_of, parameters, shape_of, spread, terms
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

PARAMETERS = 7
"""int32 parameters: low, high, both zero points, epsilon's lower and upper word, the factors' shift."""


def normalize(operation: Normalize, target: Target, demands: Demands = FREE) -> KernelCode:
    """Return code of a normalization, a group at a time, element by element."""
    del target, demands
    multiplier, bias, shift = operation.fixed_affine
    epsilon = np.array([np.rint(min(operation.epsilon, 2.0**60))], np.float64).astype(np.int64)
    given = np.concatenate([parameters(operation)[:4], epsilon.view(np.int32), [shift]]).astype(np.int32)
    return KernelCode(
        key=f"fixed normalize {shape_of(operation)}",
        make=partial(_normalize, operation),
        constants=(multiplier, bias, given),
        tiles=operation.outer * operation.groups,
        inplace=(0,),
    )


def _normalize(operation: Normalize) -> object:
    rows, groups, length, channels = operation.rows, operation.groups, operation.length, operation.channels
    count = 1 if operation.kind == "magnitudes" else 2

    def body(
        x: Buffer, multiplier: Buffer, bias: Buffer, p: Buffer, y: Buffer, scratch: Buffer,
        begin: Expr, end: Expr,
    ) -> None:  # fmt: skip
        del scratch
        given = tir.registers(p, PARAMETERS)
        sums = T.alloc_buffer((2,), "int32", scope="global")  # the group's; then reciprocal and shift
        wide = T.alloc_buffer((1,), "int64", scope="global")
        offset = T.alloc_buffer((1,), "int32", scope="global")
        with T.serial(begin, end) as index:
            channel = index % groups * length
            start = index // groups * (rows * channels) + channel
            for which in range(count):
                tir.store(sums, which, T.int32(0))
            with T.serial(0, rows) as row, T.serial(0, length) as i:
                for which, term in enumerate(
                    terms(operation.kind, x[start + row * channels + i], given[3], 1)
                ):
                    tir.store(sums, which, sums[which] + term)
            value, factor, subtracted = spread(operation, [sums[which] for which in range(count)], given[3])
            epsilon = (T.cast(given[5], "int64") << T.int64(32)) | (
                T.cast(given[4], "int64") & T.int64(0xFFFFFFFF)
            )
            tir.store(wide, 0, T.max(value + epsilon, T.int64(1)))
            tir.store(offset, 0, subtracted)
            _store_reciprocal(sums, wide[0])
            with T.serial(0, rows) as row, T.serial(0, length) as i:
                at = start + row * channels + i
                element = T.cast(x[at], "int32") * factor - offset[0]
                product = T.cast(element, "int64") * T.cast(sums[0], "int64")
                unit = T.cast(T.cast(product >> T.cast(sums[1], "int64"), "int32"), "int64")
                scaled = unit * T.cast(multiplier[channel + i], "int64")
                total = scaled + (T.cast(bias[channel + i], "int64") << T.int64(16))
                result = fixed.shift_and_clamp(total, given[6] + 16, given[:3], 1)
                tir.store(y, at, T.cast(result, "int8"))

    size = operation.outer * rows * channels
    return kernel_of(size, channels, PARAMETERS, body, "int32")


def _store_reciprocal(found: Buffer, value: Expr) -> None:
    """Set found = (R, s), so that e * R >> s is e / sqrt(value) in units of 2**-16."""
    halved = (
        T.int32(33) - T.cast(tir.intrinsic("int64", "llvm.ctlz.i64", value, T.bool(True)), "int32")
    ) >> 1
    right, left = T.max(2 * halved, 0), T.max(-2 * halved, 0)
    root = T.alloc_buffer((1,), "uint32", scope="global")
    upper = T.alloc_buffer((1,), "uint32", scope="global")
    tir.store(found, 1, halved + 15)
    tir.store(upper, 0, T.cast((value >> T.cast(right, "int64")) << T.cast(left, "int64"), "uint32"))
    tir.store(root, 0, T.uint32(0))
    with T.serial(0, 16) as i:  # from the highest bit on, each that keeps the square below
        larger = root[0] | (T.uint32(0x8000) >> T.cast(i, "uint32"))
        tir.store(root, 0, T.Select(larger * larger <= upper[0], larger, root[0]))
    tir.store(found, 0, T.cast(T.truncdiv(T.uint32(1 << 31), root[0]), "int32"))
