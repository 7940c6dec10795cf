"""Linear interpolation between rows and columns, vectors of channels at a time."""

from functools import partial

import numpy as np

from edgec.kernels import tir
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, WEIGHT_BITS, Demands, Interpolate
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

_LANES = 16


def interpolate(operation: Interpolate, target: Target, demands: Demands = FREE) -> KernelCode:
    """Go row by row of the result."""
    del demands
    lanes = tir.lanes_on(target, _LANES)
    weights = operation.row_weights, operation.column_weights
    rows, columns = (places.reshape(-1) for places in (operation.row_places, operation.column_places))
    return KernelCode(
        key=f"interpolate {operation.dtype} {operation.input_shape} {operation.output_shape} {lanes}",
        make=partial(_rows, operation, lanes),
        constants=(rows, weights[0], columns, weights[1]),
        tiles=operation.input_shape[0] * len(operation.row_places),
    )


def _rows(operation: Interpolate, lanes: int) -> object:
    _, height, width, channels = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    dtype = operation.dtype
    weighed = "float32" if dtype == "float32" else "int32"

    def between(one: Expr, two: Expr, weight: Expr, count: int) -> Expr:
        whole = tir.constant(1 if dtype == "float32" else 1 << WEIGHT_BITS, weighed, count)
        return one * (whole - weight) + two * weight

    def body(
        x: Buffer, row_places: Buffer, row_weights: Buffer, column_places: Buffer, column_weights: Buffer,
        y: Buffer, scratch: Buffer, begin: Expr, end: Expr,
    ) -> None:  # fmt: skip
        del scratch
        with T.serial(begin, end) as index, T.serial(0, columns) as column:
            row, first = index % rows, index // rows * height

            def vector(at: Expr, count: int) -> None:
                def pixel(which: int, beside: int) -> Expr:
                    place = (first + row_places[row * 2 + which]) * width + column_places[column * 2 + beside]
                    return tir.cast(tir.load(x, place * channels + at, count), weighed, count)

                across = tir.broadcast(column_weights[column], count)
                upper, lower = (between(pixel(w, 0), pixel(w, 1), across, count) for w in (0, 1))
                value = between(upper, lower, tir.broadcast(row_weights[row], count), count)
                if dtype != "float32":
                    half = tir.constant(1 << (2 * WEIGHT_BITS - 1), "int32", count)
                    shift = tir.constant(2 * WEIGHT_BITS, "int32", count)
                    value = tir.cast((value + half) >> shift, dtype, count)
                tir.store(y, (index * columns + column) * channels + at, value, count)

            tir.vectors(channels, lanes, vector)

    sizes = [int(np.prod(shape)) for shape in (operation.input_shape, operation.output_shape)]
    buffers = [
        (dtype, sizes[0]), ("int32", 2 * rows), (weighed, rows), ("int32", 2 * columns), (weighed, columns),
        (dtype, sizes[1]),
    ]  # fmt: skip
    return tir.kernel(buffers, "uint8", body)
