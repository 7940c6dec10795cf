"""Softmax over int8 rows: exponentials from a table, an integer sum, one division a row."""

from functools import partial

import numpy as np

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, Softmax
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# One 128-bit register of int8, several of int32.
_LANES = 16


def softmax(operation: Softmax, target: Target, demands: Demands = FREE) -> KernelCode:
    """Three passes over a row: maximum, sum, quotients; with vectors the second keeps the exponentials."""
    inverse = np.array([operation.inverse_scale], np.float32).view(np.int32)[0]
    lanes = tir.lanes_on(target, _LANES)
    kept = lanes > 1 and demands.allow(4 * operation.length)
    return KernelCode(
        key=f"softmax {operation.outer} {operation.length} {lanes} {kept}",
        make=partial(_softmax, operation.outer, operation.length, lanes, kept),
        constants=(operation.table, np.array([inverse, operation.output_zero_point], np.int32)),
        tiles=operation.outer,
        scratch_bytes=4 * operation.length * kept,
        inplace=(0,),
    )


def _softmax(outer: int, length: int, lanes: int, kept: bool) -> object:
    def body(x: Buffer, table: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        given = tir.registers(p, 2)
        largest = T.alloc_buffer((lanes,), "int8", scope="global")
        sums = T.alloc_buffer((lanes,), "int32", scope="global")
        state = T.alloc_buffer((2,), "int32", scope="global")  # the row's maximum, then the factor's bits
        with T.serial(begin, end) as row:
            start = row * length

            def exponential(at: Expr, width: int) -> Expr:
                wide = tir.cast(tir.load(x, start + at, width), "int32", width)
                return table[tir.broadcast(state[0], width) - wide]

            def compare(at: Expr, width: int) -> None:
                value = T.max(tir.load(largest, 0, width), tir.load(x, start + at, width))
                tir.store(largest, 0, value, width)

            def add(at: Expr, width: int) -> None:
                value = exponential(at, width)
                if kept:
                    tir.store(scratch, at, value, width)
                tir.store(sums, 0, tir.load(sums, 0, width) + value, width)

            def divide(at: Expr, width: int) -> None:
                value = tir.load(scratch, at, width) if kept else exponential(at, width)
                factor = tir.broadcast(T.reinterpret("float32", state[1]), width)
                bounds = T.int32(-128), T.int32(127), given[1]
                tir.store(y, start + at, generic.requantize([value], [factor], bounds, width), width)

            tir.store(largest, 0, tir.constant(-128, "int8", lanes), lanes)
            tir.vectors(length, lanes, compare)
            tir.store(state, 0, T.cast(_over_lanes("smax", largest, "int8", lanes), "int32"))
            tir.store(sums, 0, tir.constant(0, "int32", lanes), lanes)
            tir.vectors(length, lanes, add)
            total = T.cast(_over_lanes("add", sums, "int32", lanes), "float32")
            factor = T.reinterpret("float32", given[0]) / total
            tir.store(state, 1, T.reinterpret("int32", factor))
            tir.vectors(length, lanes, divide)

    parameters = [("int8", outer * length), ("int32", 256), ("int32", 2), ("int8", outer * length)]
    return tir.kernel(parameters, "int32", body, noalias=False)


def _over_lanes(operator: str, buffer: Buffer, dtype: str, lanes: int) -> Expr:
    """Combine a vector's lanes."""
    if lanes == 1:
        return buffer[0]
    return tir.intrinsic(dtype, f"llvm.vector.reduce.{operator}", tir.load(buffer, 0, lanes))
