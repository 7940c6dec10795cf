"""Softmax over int8 rows: exponentials from a table, an integer sum, one division a row."""

from functools import partial

import numpy as np

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Demands, Softmax
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def softmax(operation: Softmax, target: Target, demands: Demands = FREE) -> KernelCode:
    """Three passes over a row: maximum, sum, quotients."""
    del target, demands
    inverse = np.array([operation.inverse_scale], np.float32).view(np.int32)[0]
    return KernelCode(
        key=f"softmax {operation.outer} {operation.length}",
        make=partial(_softmax, operation.outer, operation.length),
        constants=(operation.table, np.array([inverse, operation.output_zero_point], np.int32)),
        tiles=operation.outer,
        inplace=(0,),
    )


def _softmax(outer: int, length: int) -> object:
    def body(x: Buffer, table: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        state = T.alloc_buffer((2,), "int32", scope="global")  # the row's maximum, then its sum
        with T.serial(begin, end) as row:
            tir.store(state, 0, T.int32(-128))
            with T.serial(0, length) as i:
                tir.store(state, 0, T.max(state[0], T.cast(x[row * length + i], "int32")))
            tir.store(state, 1, T.int32(0))
            with T.serial(0, length) as i:
                tir.store(state, 1, state[1] + table[state[0] - T.cast(x[row * length + i], "int32")])
            with T.serial(0, length) as i:
                factor = T.reinterpret("float32", p[0]) / T.cast(state[1], "float32")
                exponential = table[state[0] - T.cast(x[row * length + i], "int32")]
                bounds = T.int32(-128), T.int32(127), p[1]
                tir.store(y, row * length + i, generic.requantize([exponential], [factor], bounds, 1))

    parameters = [("int8", outer * length), ("int32", 256), ("int32", 2), ("int8", outer * length)]
    return tir.kernel(parameters, "uint8", body, noalias=False)
