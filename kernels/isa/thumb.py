"""Armv7-M without DSP instructions and FPU (Cortex-M3): byte by byte, results in fixed point.

A multiplier m = mantissa / 2**shift (`reference.fixed_point`) is held as mantissa * 2**7, so that the upper
word of its product with a sum is all that rounding needs: floor(high / 2**(shift - 25) + 1/2). From m = 1/4
on that would be a shift to the left, which the sum takes before: sums that matter there are small.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import reference, tir
from edgec.kernels.isa.assembly import Assembly
from edgec.kernels.isa.base import Output
from edgec.kernels.operations import Conv2d
from edgec.kernels.tir import Expr, T

_LEAST_SHIFT, _MOST_SHIFT = 26, 56
_MOST_LEFT = 12
"""What a sum is shifted to the left by: then 1 becomes 2**9 or more, out of int8 by any zero point."""
_SUM_BITS = 19
"""Bits that sums are saturated to before they are shifted: times a quarter, such a sum is far beyond int8."""


@dataclass(frozen=True)
class Ending:
    """What a layer's results need beyond what the usual ones do."""

    clipped: bool
    """Bounds that aren't int8's own."""
    wide: bool
    """Shifts of sums to the left, as a multiplier is a quarter or more."""


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


def shifted(total: str, shift: str, temporary: str, ending: Ending) -> str:
    """Write the shift to the left of a sum, saturated where it isn't by nothing; `shift` is of `scales`."""
    if not ending.wide:
        return ""
    return f"""
    lsrs {temporary}, {shift}, #8
    it ne
    ssatne {total}, #{_SUM_BITS}, {total}
    lsl {total}, {total}, {temporary}
    """


def rounded(total: str, scale: str, shift: str, low_word: str, zero_point: str) -> str:
    """Write the requantization of a sum, but for bounds; a register's lowest byte is what it shifts by."""
    return f"""
    smull {low_word}, {total}, {total}, {scale}
    asr {total}, {total}, {shift}
    add {total}, {total}, #1
    add {total}, {zero_point}, {total}, asr #1
    """


def bounded(value: str, low: str, high: str, ending: Ending) -> str:
    """Write the clamping to int8, or to two registers."""
    if not ending.clipped:
        return f"ssat {value}, #8, {value}"
    return f"""
    cmp {value}, {low}
    it lt
    movlt {value}, {low}
    cmp {value}, {high}
    it gt
    movgt {value}, {high}
    """


@cache
def depthwise(ending: Ending) -> Assembly:
    """Return the loop over adjacent outputs, $7 of them, of one channel of a 3x3 depthwise convolution.

    Rows of the input are at $0, $1, $2, four bytes a pixel and $5 from one output's to the next's; output
    $3, $6 bytes to the next; constants $4; zero point $8, of a clipped layer the parameters (low, high, zero
    point).
    """
    return Assembly(
        f"edgec_depthwise_{ending.clipped:d}_{ending.wide:d}", 0,
        "pppppiii" + ("p" if ending.clipped else "i"),
        f"""
        {"ldrd r5, r6, [$8]" * ending.clipped}
        {"ldr $8, [$8, #8]" * ending.clipped}
        1: ldr r2, [$4, #12]
        {_taps()}
        ldr r4, [$4, #20]
        add $0, $0, $5
        {shifted("r2", "r4", "r3", ending)}
        ldr r3, [$4, #16]
        add $1, $1, $5
        add $2, $2, $5
        {rounded("r2", "r3", "r4", "r3", "$8")}
        {bounded("r2", "r5", "r6", ending)}
        subs $7, $7, #1
        strb r2, [$3]
        add $3, $3, $6
        bne 1b
        """,
        ("r2", "r3", "r4", *("r5", "r6") * ending.clipped),
    )  # fmt: skip


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
    """Return [channels, 2]: what a sum is multiplied by, and shifts, one of which is 0.

    The lower byte is the upper word's shift to the right, less one; above it is the sum's to the left.
    """
    mantissa, shift = reference.fixed_point(multiplier)
    mantissa[shift > _MOST_SHIFT] = 0  # no product comes near a half
    down = np.minimum(shift, _MOST_SHIFT) - _LEAST_SHIFT
    shifts = np.where(down < 0, np.minimum(-down, _MOST_LEFT) << 8, down)
    return np.stack([mantissa << 7, shifts], axis=-1).astype(np.int32)


def wide(multiplier: NDArray[np.float32]) -> bool:
    """Whether sums are shifted to the left: not where all multipliers are below a quarter."""
    _, shift = reference.fixed_point(multiplier)
    return bool((shift < _LEAST_SHIFT).any())


def ending(operation: Conv2d) -> Ending:
    """Return what the results of a layer need."""
    return Ending(not operation.saturating, wide(operation.multiplier))


def requantize(accumulator: Expr, multiplier: Expr, shift: Expr, zero_point: Expr, wide: bool) -> Expr:
    """Return an int32 that is still to be clamped; multiplier and shift are of `scales`."""
    if wide:
        left, most = shift >> 8, 1 << _SUM_BITS - 1
        saturated = T.max(T.min(accumulator, T.int32(most - 1)), T.int32(-most))
        accumulator, shift = T.Select(left > 0, saturated, accumulator) << left, shift & 0xFF
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
