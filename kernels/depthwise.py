"""Depthwise convolution: vectors of channels, taps two at a time, several pixels sharing the weights."""

from dataclasses import replace
from functools import partial

import numpy as np

from edgec.kernels import conv2d, stripe, tir
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operators import Conv2d
from edgec.kernels.stripe import Geometry
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

# Pixels that share one load of the weights; their accumulators must fit the registers.
_PIXELS = 4


def _geometry(operation: Conv2d, isa: InstructionSet, target: Target) -> Geometry:
    n, h, w, c = operation.input_shape
    _, rows, columns, _ = operation.output_shape
    kernel = (int(operation.weights.shape[1]), int(operation.weights.shape[2]))
    row_bytes = ((columns - 1) * operation.strides[1] + kernel[1]) * c
    tile_rows = max(1, min(rows, target.l1d_bytes // row_bytes // operation.strides[0]))
    tile_rows = -(-rows // -(-rows // tile_rows))  # tiles of equal height
    shape = Geometry(
        n, rows, columns, c, c, c, h, w, operation.strides, operation.pads[:2], kernel,
        operation.dilations, tile_rows, columns, (min(_PIXELS, columns), 1), "int8", 0,
    )  # fmt: skip
    as_it_stands = not any(operation.pads) and c % _block(isa) == 0
    return replace(shape, direct=as_it_stands)


def _block(isa: InstructionSet) -> int:
    """Channels of a block."""
    return sum(len(order) for order in isa.depthwise_order)


def code(isa: InstructionSet, operation: Conv2d, target: Target) -> KernelCode | None:
    """Code of a depthwise convolution with one output per channel; None for any other convolution."""
    channels = operation.input_shape[3]
    if operation.groups != channels or len(operation.weights) != channels or channels == 1:
        return None
    if not isa.accepts_depthwise(operation.weights):
        return None
    shape = _geometry(operation, isa, target)
    block = _block(isa)
    padded = -(-channels // block) * block
    taps = operation.weights.reshape(channels, -1).T
    weights = np.zeros((len(taps) + len(taps) % 2, padded), taps.dtype)
    weights[: len(taps), :channels] = taps
    order = np.concatenate([np.array(o) for o in isa.depthwise_order])

    def ordered(values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> np.ndarray:  # type: ignore[type-arg]
        whole = np.zeros(padded, values.dtype)
        whole[:channels] = values
        return whole.reshape(-1, block)[:, order].reshape(-1)

    packed = [isa.pack_depthwise(weights[:, i : i + block]).reshape(-1) for i in range(0, padded, block)]
    parameters = [operation.low, operation.high, operation.output_zero_point, operation.input_zero_point]
    return KernelCode(
        key=f"depthwise {isa.name} {isa.weights} {shape}",
        make=partial(_function, isa, shape, weights.size),
        constants=(
            np.concatenate(packed),
            ordered(conv2d.folded_bias(operation, 0)),
            ordered(operation.multiplier),
            np.array(parameters, np.int32),
        ),
        tiles=shape.tiles,
        scratch_bytes=shape.stripe_bytes,
    )


def _function(isa: InstructionSet, shape: Geometry, weights: int) -> object:
    padded = -(-shape.channels // _block(isa)) * _block(isa)
    return tir.kernel(
        [
            ("int8", shape.images * shape.in_rows * shape.in_columns * shape.channels),
            (isa.weights, weights),
            ("int32", padded),
            ("float32", padded),
            ("int32", 4),
            ("int8", shape.images * shape.rows * shape.columns * shape.channels),
        ],
        "int8",
        partial(_body, isa, shape),
    )


def _body(
    isa: InstructionSet, shape: Geometry, x: Buffer, weights: Buffer, bias: Buffer, multiplier: Buffer,
    parameters: Buffer, y: Buffer, scratch: Buffer, begin: Expr, end: Expr,
) -> None:  # fmt: skip
    block = _block(isa)
    pixels = shape.register_tile[0]
    accumulators = [T.alloc_buffer((block,), "int32", scope="global") for _ in range(pixels)]
    whole, rest = divmod(shape.channels, block)

    with T.serial(begin, end) as index:
        image = index // shape.blocks[0]
        row0 = index % shape.blocks[0] * shape.tile_rows
        source, origin = scratch, T.int32(0)
        if shape.direct:
            source = x
            origin = (image * shape.in_rows + row0 * shape.strides[0]) * shape.pitch
        else:
            stripe.fill(shape, x, scratch, image, row0, T.int32(0), parameters[3])

        def row(r: Expr, image: Expr = image, row0: Expr = row0, source: Buffer = source, origin: Expr = origin) -> None:
            def channels(first: Expr, valid: int) -> None:
                def pixel_block(column: Expr, count: int) -> None:
                    start = origin + r * shape.strides[0] * shape.pitch + first
                    output = (image * shape.rows + row0 + r) * shape.columns + column
                    _pixels(
                        isa, shape, accumulators[:count], source, start, column, weights, bias, multiplier,
                        parameters, first, y, output, valid,
                    )  # fmt: skip

                full, tail = divmod(shape.columns, pixels)
                tir.serial(full, lambda p: pixel_block(p * pixels, pixels))
                if tail:
                    pixel_block(full * pixels, tail)

            if whole:
                tir.serial(whole, lambda c: channels(c * block, block))
            if rest:
                channels(whole * block, rest)

        if shape.rows % shape.tile_rows:
            with T.serial(0, T.min(shape.tile_rows, shape.rows - row0)) as r:
                row(r)
        else:
            tir.serial(shape.tile_rows, row)


def _pixels(
    isa: InstructionSet, shape: Geometry, accumulators: list[Buffer], source: Buffer, start: Expr,
    column: Expr, weights: Buffer, bias: Buffer, multiplier: Buffer, parameters: Buffer, first: Expr,
    y: Buffer, output: Expr, valid: int,
) -> None:  # fmt: skip
    """Adjacent output pixels of one block of channels."""
    lanes, block = isa.lanes, _block(isa)
    parts = range(0, block, lanes)
    kernel_rows, kernel_columns = shape.kernel
    taps = [
        row * shape.dilations[0] * shape.pitch + tap * shape.dilations[1] * shape.channels
        for row in range(kernel_rows)
        for tap in range(kernel_columns)
    ]
    for accumulator in accumulators:
        for part in parts:
            tir.store(accumulator, part, tir.load(bias, first + part, lanes), lanes)
    packed_taps = len(taps) + len(taps) % 2
    for tap in range(0, len(taps), 2):
        # The last pair of an odd number of taps reads one tap twice, the second time against zero weights.
        pair = taps[tap], taps[min(tap + 1, len(taps) - 1)]
        for i, accumulator in enumerate(accumulators):
            pixel = start + (column + i) * (shape.strides[1] * shape.channels)
            a = tir.load(source, pixel + pair[0], block), tir.load(source, pixel + pair[1], block)
            isa.depthwise(
                [(accumulator, part) for part in parts], a, weights, first * packed_taps + tap * block
            )
    scales = [tir.load(multiplier, first + part, lanes) for part in parts]
    order = [channel for part in isa.depthwise_order for channel in part]
    inverse = [order.index(channel) for channel in range(block)]
    bounds = [parameters[i] for i in range(3)]
    for i, accumulator in enumerate(accumulators):
        value = isa.requantize([tir.load(accumulator, part, lanes) for part in parts], scales, bounds)
        if inverse != list(range(block)):
            value = tir.shuffle(value, inverse)
        tir.store_first(y, (output + i) * shape.channels + first, value, block, valid)
