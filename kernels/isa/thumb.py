"""Armv7-M without DSP instructions and FPU (Cortex-M3): byte by byte, results in fixed point.

A multiplier m = mantissa / 2**shift (`reference.fixed_point`) is held as mantissa * 2**7, so that the upper
word of its product with a sum is all that rounding needs: floor(high / 2**(shift - 25) + 1/2).
"""

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import reference, tir
from edgec.kernels.isa.assembly import Assembly
from edgec.kernels.isa.base import Output
from edgec.kernels.tir import Expr, T

_LEAST_SHIFT, _MOST_SHIFT = 26, 56

_PRODUCTS = """
    ldrsb r2, [$4], #1
    ldrsb r3, [$5], #1
    ldrsb r4, [$6], #1
    ldrsb r5, [$6], #1
    mla $0, r2, r4, $0
    mla $1, r2, r5, $1
    mla $2, r3, r4, $2
    mla $3, r3, r5, $3
"""

DOT_2X2 = Assembly(
    "edgec_dot_2x2", 4, "pppi",
    f"""
    1: subs $7, $7, #1
    {_PRODUCTS * 4}
    bne 1b
    """,
    ("r2", "r3", "r4", "r5"),
)  # fmt: skip
"""Two pixels ($4, $5) by two channels ($6): [pixel * 2 + channel] += four products each, $7 times."""

_DENSE_PRODUCTS = """
    ldrsb r2, [$4], #1
    ldrsb r3, [$5], #1
    ldrsb r4, [$5], #1
    mla $0, r2, r3, $0
    mla $1, r2, r4, $1
    ldrsb r3, [$5], #1
    ldrsb r4, [$5], #1
    mla $2, r2, r3, $2
    mla $3, r2, r4, $3
"""

DOT_1X4 = Assembly(
    "edgec_dot_1x4", 4, "ppi",
    f"""
    1: subs $6, $6, #1
    {_DENSE_PRODUCTS * 4}
    bne 1b
    """,
    ("r2", "r3", "r4"),
)  # fmt: skip
"""One pixel ($4) by four channels ($5)."""


def _taps() -> str:
    taps = [(row, column) for row in range(3) for column in range(3)]
    lines = [
        f"ldrsb r3, [${row}, #{4 * column}]\nldrsb r4, [$4, #{number}]\nmla r2, r3, r4, r2"
        for number, (row, column) in enumerate(taps)
    ]
    return "\n".join(lines)


DEPTHWISE = Assembly(
    "edgec_depthwise", 0, "pppppiiii",
    f"""
    1: ldr r2, [$4, #12]
    {_taps()}
    ldr r3, [$4, #16]
    add $0, $0, $5
    ldr r4, [$4, #20]
    smull r3, r2, r2, r3
    add $1, $1, $5
    asr r2, r2, r4
    add r2, r2, #1
    add $2, $2, $5
    add r2, $8, r2, asr #1
    subs $7, $7, #1
    ssat r2, #8, r2
    strb r2, [$3]
    add $3, $3, $6
    bne 1b
    """,
    ("r2", "r3", "r4"),
)  # fmt: skip
"""$7 adjacent outputs of one channel of a 3x3 depthwise convolution: rows of the input at $0, $1, $2, four
bytes a pixel and $5 from one output's to the next's; output $3, $6 bytes to the next; constants $4; zero
point $8."""

PIXELS = Assembly(
    "edgec_pixels", 0, "pipi",
    """
    1: ldr r2, [$0]
    subs $3, $3, #1
    add $0, $0, $1
    str r2, [$2], #4
    bne 1b
    """,
    ("r2",),
)  # fmt: skip
"""Four bytes of $3 pixels, each $1 bytes from the one before, next to each other."""


def scales(multiplier: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return [channels, 2]: what a sum is multiplied by, and the upper word's shift less one."""
    mantissa, shift = reference.fixed_point(multiplier)
    mantissa[shift > _MOST_SHIFT] = 0  # no product comes near a half
    return np.stack([mantissa << 7, np.minimum(shift, _MOST_SHIFT) - _LEAST_SHIFT], axis=-1).astype(np.int32)


def holds(multiplier: NDArray[np.float32]) -> bool:
    """Whether `scales` can hold the multipliers: all below a quarter."""
    _, shift = reference.fixed_point(multiplier)
    return bool((shift >= _LEAST_SHIFT).all())


def requantize(accumulator: Expr, multiplier: Expr, shift: Expr, zero_point: Expr) -> Expr:
    """Return an int32 that is still to be clamped; multiplier and shift are of `scales`."""
    product = T.cast(accumulator, "int64") * T.cast(multiplier, "int64")
    high = T.cast(product >> T.int64(32), "int32")
    return ((high >> shift) + 1 >> 1) + zero_point


def clamped(value: Expr, output: Output) -> Expr:
    """Return an int32 within the output's bounds."""
    if tir.known(output.low) == -128 and tir.known(output.high) == 127:
        return tir.intrinsic("int32", "llvm.arm.ssat", value, T.int32(8))
    return T.max(T.min(value, output.high), output.low)


def depthwise_constants(
    weights: NDArray[np.generic], bias: NDArray[np.int32], multiplier: NDArray[np.float32]
) -> NDArray[np.int32]:
    """Return six words a channel: nine weights in three of them, the bias, and `scales`.

    `weights` is [channels, 9].
    """
    padded = np.zeros((len(weights), 12), np.int8)
    padded[:, :9] = weights
    return np.concatenate([padded.view("<i4"), bias[:, None], scales(multiplier)], axis=1).astype(np.int32)
