"""Pooling, means and softmax in fixed point, for cores without an FPU: by integers alone."""

from dataclasses import replace
from functools import partial

from edgec.kernels import tir
from edgec.kernels.isa import fixed
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, AveragePool, Demands, Mean, Runs, Softmax, pitch
from edgec.kernels.reduction import pooling, softmax
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target


def mean(operation: Mean, target: Target, demands: Demands = FREE) -> KernelCode:
    """Code of a mean, requantized in fixed point."""
    code = pooling.mean(operation, target, demands)
    make = partial(_mean, operation.outer, operation.reduced, operation.inner)
    return replace(code, key=f"fixed {code.key}", make=make)


def _mean(outer: int, reduced: int, inner: int) -> object:
    def body(x: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        total = T.alloc_buffer((1,), "int32", scope="global")
        with T.serial(begin, end) as index, T.serial(0, inner) as channel:
            tir.store(total, 0, p[3] * T.int32(-reduced))
            with T.serial(0, reduced) as r:
                value = T.cast(x[(index * reduced + r) * inner + channel], "int32")
                tir.store(total, 0, total[0] + value)
            scale = T.reinterpret("float32", p[4])
            result = fixed.requantize([total[0]], [scale], [p[i] for i in range(3)], 1)
            tir.store(y, index * inner + channel, result)

    sizes = [("int8", outer * reduced * inner), ("int32", 5), ("int8", outer * inner)]
    return tir.kernel(sizes, "uint8", body)


def average_pool(operation: AveragePool, target: Target, demands: Demands = FREE) -> KernelCode:
    """Code of an average pooling, requantized in fixed point."""
    code = pooling.average_pool(operation, target, demands)
    return replace(code, key=f"fixed {code.key}", make=partial(_average_pool, operation, demands.runs))


def _average_pool(operation: AveragePool, runs: Runs | None) -> object:
    _, height, width, channels = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    apart = pitch(runs, channels)

    def body(
        x: Buffer, multiplier: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr
    ) -> None:
        del scratch
        total = T.alloc_buffer((1,), "int32", scope="global")
        bounds = [p[i] for i in range(3)]
        with T.serial(begin, end) as index, T.serial(0, columns) as column, T.serial(0, channels) as channel:
            row = index % rows
            tir.store(total, 0, T.int32(0))
            with T.serial(0, operation.kernel[0]) as r, T.serial(0, operation.kernel[1]) as c:
                from_row = row * operation.strides[0] + r - operation.pads[0]
                from_column = column * operation.strides[1] + c - operation.pads[1]
                inside = T.And(
                    T.And(from_row >= 0, from_row < height), T.And(from_column >= 0, from_column < width)
                )
                with T.If(inside), T.Then():
                    pixel = (index // rows * height + from_row) * width + from_column
                    value = T.cast(x[pixel * channels + channel], "int32") - p[3]
                    tir.store(total, 0, total[0] + value)
            result = fixed.requantize([total[0]], [multiplier[row * columns + column]], bounds, 1)
            tir.store(y, (index * columns + column) * apart + channel, result)

    return tir.kernel(pooling.average_pool_buffers(operation, runs), "uint8", body)


def softmax_row(operation: Softmax, target: Target, demands: Demands = FREE) -> KernelCode:
    """Code of a softmax, whose division is one of 32-bit integers."""
    code = softmax.softmax(operation, target, demands)
    make = partial(_softmax, operation.outer, operation.length)
    return replace(code, key=f"fixed {code.key}", make=make)


def _softmax(outer: int, length: int) -> object:
    def body(x: Buffer, table: Buffer, p: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        del scratch
        state = T.alloc_buffer((4,), "int32", scope="global")  # maximum, sum, factor, shift
        with T.serial(begin, end) as row:

            def exponential(i: Expr) -> Expr:
                return table[state[0] - T.cast(x[row * length + i], "int32")]

            tir.store(state, 0, T.int32(-128))
            with T.serial(0, length) as i:
                tir.store(state, 0, T.max(state[0], T.cast(x[row * length + i], "int32")))
            tir.store(state, 1, T.int32(0))
            with T.serial(0, length) as i:
                tir.store(state, 1, state[1] + exponential(i))
            free = tir.intrinsic("int32", "llvm.ctlz.i32", state[1], T.bool(True)) - 1
            upper = T.reinterpret("uint32", (state[1] << free) >> 15)
            reciprocal = T.cast(T.truncdiv(T.uint32(1 << 31), upper), "int64")
            mantissa, shift = fixed.fixed_point(p[0], 1)
            factor = T.cast(mantissa, "int64") * reciprocal >> T.int64(10)
            tir.store(state, 2, T.cast(factor, "int32"))
            tir.store(state, 3, shift + 36 - free)
            with T.serial(0, length) as i:
                product = T.cast(exponential(i), "int64") * T.cast(state[2], "int64")
                bounds = T.int32(-128), T.int32(127), p[1]
                value = fixed.shift_and_clamp(product, state[3], bounds, 1)
                tir.store(y, row * length + i, T.cast(value, "int8"))

    parameters = [("int8", outer * length), ("int32", 256), ("int32", 2), ("int8", outer * length)]
    return tir.kernel(parameters, "uint8", body, noalias=False)
