"""DSP instructions of Cortex-M4, M7 and M33: products of int16 pairs, exact."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import tir
from edgec.kernels.isa.assembly import Assembly
from edgec.kernels.isa.base import Output
from edgec.kernels.tir import Expr, T

# `smlad` multiplies pairs of int16 and adds both products. Widening bytes to such pairs takes two
# instructions for four of them, unless one takes the word as it is. Let r = 256 u + v be a halfword of it,
# of two int8 weights, and a, b two activations:
#
#     r * a + v * (256 b + 127 - a) = 256 (u a + v b) + 127 v
#
# v for both halfwords is `sxtb16`; the activations' halfwords a and 256 b + 127 - a, whose least is -32768
# and whose greatest 32767, are `sxtb16` of their own word and that word with some bits flipped. So four
# weights take one instruction besides their products, and sums come out 256 times as large: exact where the
# real ones are within 24 bits. The 127 v go into the bias, the 256 into the multipliers.

SCALE = 256
_FLIPPED = "#0x007f007f"


def _dot_2x2(label: int, sums: Sequence[str], panel: str, stream: str, count: str) -> str:
    """Write the loop over eight products of an accumulator, `sums`: [pixel * 2 + channel]."""
    lines = []
    for _ in range(2):
        lines += [f"ldm {panel}!, {{r2, r3, r4, r5}}", f"ldrd r6, r7, [{stream}], #8"]
        for activations in (("r2", "r3"), ("r4", "r5")):
            lines += [
                f"smlad {sums[pixel * 2 + channel]}, {w}, {a}, {sums[pixel * 2 + channel]}"
                for pixel, a in enumerate(activations)
                for channel, w in enumerate(("r6", "r7"))
            ]
            lines += ["sxtb16 r6, r6", "sxtb16 r7, r7"] * (activations[0] == "r2")
    return "\n".join(
        [f"{label}: {lines[0]}", *lines[1:-4], f"subs {count}, {count}, #1", *lines[-4:], f"bne {label}b"]
    )


def _dot_1x4(label: int, sums: Sequence[str], panel: str, stream: str, count: str) -> str:
    """Write the same loop for one pixel and four channels."""
    weights = ("r2", "r3", "r4", "r5")
    lines = []
    for _ in range(2):
        lines += [f"ldm {stream}!, {{r2, r3, r4, r5}}", f"ldrd r6, r7, [{panel}], #8"]
        lines += [f"smlad {total}, {w}, r6, {total}" for total, w in zip(sums, weights, strict=True)]
        lines += [f"sxtb16 {w}, {w}" for w in weights]
        lines += [f"smlad {total}, {w}, r7, {total}" for total, w in zip(sums, weights, strict=True)]
    return "\n".join(
        [f"{label}: {lines[0]}", *lines[1:-4], f"subs {count}, {count}, #1", *lines[-4:], f"bne {label}b"]
    )


def _rounded_sums(sums: Sequence[str], multipliers: Sequence[str]) -> str:
    """Write the requantization of four sums into r4 to r7; the zero point is in s14, and r3 gets s15.

    The sums take turns with the multipliers.
    """
    lines = [f"vmov s0, s1, {sums[0]}, {sums[1]}", f"vmov s2, s3, {sums[2]}, {sums[3]}"]
    lines += [f"vcvt.f32.s32 s{i}, s{i}" for i in range(4)]
    lines += [f"vmul.f32 s{i}, s{i}, {multipliers[i % len(multipliers)]}" for i in range(4)]
    lines += [f"vcvtr.s32.f32 s{i}, s{i}" for i in range(4)]
    lines += ["vmov r4, r5, s0, s1", "vmov r6, r7, s2, s3", "vmov r2, r3, s14, s15"]
    lines += [f"qadd r{i}, r{i}, r2" for i in range(4, 8)]
    return "\n".join([*lines, *(f"ssat r{i}, #8, r{i}" for i in range(4, 8))])


_TEMPORARY = ("r2", "r3", "r4", "r5", "r6", "r7")

DOT_2X2 = Assembly(
    "edgec_dot_2x2", 4, "ppi", _dot_2x2(1, ("$0", "$1", "$2", "$3"), "$4", "$5", "$6"), _TEMPORARY
)
"""Two pixels by two channels: [pixel * 2 + channel] += panel ($4) times weights ($5), eight products each,
$6 times."""

DOT_1X4 = Assembly(
    "edgec_dot_1x4", 4, "ppi", _dot_1x4(1, ("$0", "$1", "$2", "$3"), "$4", "$5", "$6"), _TEMPORARY
)
"""One pixel by four channels."""


def columns_2(uniform: bool) -> Assembly:
    """Return the loop over all channels of two pixels, in pairs.

    $0 is the stream (`stream`, with one multiplier where it is `uniform`), $1 the panel of $2 times eight
    elements, $3 the output and $4 the bytes from there to the second pixel's, $5 the channels, $6 the zero
    point. Nothing is clamped but by int8's own range.
    """
    multipliers = ("s4",) if uniform else ("s4", "s5")
    load = f"vldmia $0!, {{{', '.join(multipliers)}}}"
    return Assembly(
        "edgec_columns_2", 0, "ppipiii",
        f"""
        vmov s12, s13, $1, $2
        vmov s14, s15, $6, $4
        add $5, $3, $5
        vmov s11, $5
        {load if uniform else ""}
        1: ldrd $4, $5, [$0], #8
        vmov $1, $2, s12, s13
        mov $6, $4
        mov r8, $5
        {_dot_2x2(2, ("$4", "$5", "$6", "r8"), "$1", "$0", "$2")}
        {"" if uniform else load}
        {_rounded_sums(("$4", "$5", "$6", "r8"), multipliers)}
        vmov r2, s11
        strb r6, [$3, r3]
        strb r4, [$3], #1
        strb r7, [$3, r3]
        strb r5, [$3], #1
        cmp $3, r2
        bne 1b
        """,
        (*_TEMPORARY, "r8", "s0", "s1", "s2", "s3", "s4", "s5", "s11", "s12", "s13", "s14", "s15"),
    )  # fmt: skip


def columns_1(uniform: bool) -> Assembly:
    """Return the loop over all channels of one pixel, in fours.

    Stream, panel and length as in `columns_2`, output $3, $4 channels, zero point $5.
    """
    multipliers = ("s4",) if uniform else ("s4", "s5", "s6", "s7")
    load = f"vldmia $0!, {{{', '.join(multipliers)}}}"
    return Assembly(
        "edgec_columns_1", 0, "ppipii",
        f"""
        vmov s12, s13, $1, $2
        vmov s14, $5
        add $4, $3, $4
        vmov s15, $4
        {load if uniform else ""}
        1: ldrd $4, $5, [$0], #8
        ldrd r8, r9, [$0], #8
        vmov $1, $2, s12, s13
        {_dot_1x4(2, ("$4", "$5", "r8", "r9"), "$1", "$0", "$2")}
        {"" if uniform else load}
        {_rounded_sums(("$4", "$5", "r8", "r9"), multipliers)}
        strb r4, [$3], #1
        strb r5, [$3], #1
        strb r6, [$3], #1
        strb r7, [$3], #1
        cmp $3, r3
        bne 1b
        """,
        (*_TEMPORARY, "r8", "r9", *(f"s{i}" for i in range(8)), "s12", "s13", "s14", "s15"),
    )  # fmt: skip


COLUMNS_2, COLUMNS_1 = (
    {uniform: columns(uniform) for uniform in (False, True)} for columns in (columns_2, columns_1)
)

WIDEN_PAIR = Assembly(
    "edgec_widen_pair", 0, "pppiii",
    f"""
    1: mov r8, $3
    2: ldr r2, [$0], #4
    ldr r3, [$1], #4
    sxtb16 r4, r2
    sxtb16 r5, r3
    eor r6, r2, {_FLIPPED}
    eor r7, r3, {_FLIPPED}
    subs r8, r8, #1
    stm $2!, {{r4, r5, r6, r7}}
    bne 2b
    subs $4, $4, #1
    add $0, $0, $5
    add $1, $1, $5
    bne 1b
    """,
    ("r2", "r3", "r4", "r5", "r6", "r7", "r8"),
)  # fmt: skip
"""$4 rows of $3 words of two pixels at $0 and $1, $5 bytes between rows, to the panel at $2: a of both
pixels, then 256 b + 127 - a of both."""

WIDEN_ONE = Assembly(
    "edgec_widen_one", 0, "ppiiii",
    f"""
    1: mov r4, $2
    2: ldr r2, [$0], #4
    subs r4, r4, #1
    sxtb16 r3, r2
    eor r2, r2, {_FLIPPED}
    str r2, [$1, #8]
    str r3, [$1], #16
    bne 2b
    subs $3, $3, #1
    add $0, $0, $4
    add $1, $1, $5
    bne 1b
    """,
    ("r2", "r3", "r4"),
)  # fmt: skip
"""$3 rows of $2 words of one pixel at $0, $4 bytes between rows, to its places in the panel at $1, where
$5 bytes lie between rows."""

FILL_ONE = Assembly(
    "edgec_fill_one", 0, "pii",
    f"""
    sxtb16 r2, $1
    eor r3, $1, {_FLIPPED}
    1: str r3, [$0, #8]
    subs $2, $2, #1
    str r2, [$0], #16
    bne 1b
    """,
    ("r2", "r3"),
)  # fmt: skip
"""The word $1, $2 times, to one pixel's places in the panel at $0."""

WIDEN_DENSE = Assembly(
    "edgec_widen_dense", 0, "ppi",
    f"""
    1: ldr r2, [$0], #4
    subs $2, $2, #1
    sxtb16 r3, r2
    eor r2, r2, {_FLIPPED}
    strd r3, r2, [$1], #8
    bne 1b
    """,
    ("r2", "r3"),
)  # fmt: skip
"""$2 words at $0 to a panel of one pixel at $1."""

COPY = Assembly(
    "edgec_copy", 0, "ppiiii",
    """
    1: mov r3, $2
    2: ldrb r2, [$0], #1
    subs r3, r3, #1
    strb r2, [$1], #1
    bne 2b
    subs $3, $3, #1
    add $0, $0, $4
    add $1, $1, $5
    bne 1b
    """,
    ("r2", "r3"),
)  # fmt: skip
"""$3 rows of $2 bytes at $0, $4 between rows, to $1, where $5 lie between rows."""

MOVE = Assembly(
    "edgec_move", 0, "ppi",
    """
    1: ldr r2, [$0], #4
    subs $2, $2, #1
    str r2, [$1], #4
    bne 1b
    """,
    ("r2",),
)  # fmt: skip
"""$2 words at $0 to $1, which may lie less than that before them."""


def pack_pairs(weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """[..., 4] int8 to words of the halfwords 256 w[0] + w[1] and 256 w[2] + w[3].

    No weight may be -128: 256 * -128 - 1 leaves int16.
    """
    wide = weights.astype(np.int32)
    halves = SCALE * wide[..., 0::2] + wide[..., 1::2]
    return np.ascontiguousarray(halves.astype("<i2")).view("<i4")[..., 0]


def stream(
    weights: NDArray[np.int8],
    bias: NDArray[np.int64],
    multiplier: NDArray[np.float32],
    width: int,
    uniform: bool,
) -> NDArray[np.int32]:
    """Return, for every `width` channels, biases, weights and multipliers, in the loops' order.

    If all channels have a `uniform` multiplier, it comes once and first. Bias and multiplier are those of the
    sums without `SCALE`.
    """
    blocks = -(-len(weights) // width)
    padded = np.zeros((blocks * width, weights.shape[1]), np.int8)
    padded[: len(weights)] = weights
    biases, multipliers = np.zeros(blocks * width, np.int64), np.zeros(blocks * width, np.float32)
    biases[: len(weights)] = bias * SCALE
    biases -= (SCALE // 2 - 1) * padded[:, 1::2].sum(axis=1, dtype=np.int64)
    multipliers[: len(weights)] = multiplier / np.float32(SCALE)
    words = pack_pairs(padded.reshape(blocks, width, -1, 4)).swapaxes(1, 2).reshape(blocks, -1)
    scales = multipliers.view(np.int32)
    parts = biases.astype(np.int32).reshape(blocks, width), words, scales.reshape(blocks, width)
    if uniform:
        return np.append(scales[0], np.concatenate(parts[:2], axis=1))
    return np.concatenate(parts, axis=1)


def requantize(accumulator: Expr, multiplier: Expr, output: Output, saturating: bool) -> Expr:
    """Return clamp(rne(float32(accumulator) * multiplier) + zero_point, low, high) as int32, by an FPU.

    `vcvtr` rounds to nearest even, as the FPU does when it starts, and saturates; so does `qadd`.
    """
    return _rounded(T.cast(accumulator, "float32") * multiplier, *output.bounds, saturating)


def added(value: Expr, other: Expr, parameters: Sequence[Expr], saturating: bool) -> Expr:
    """Return the sum of two quantized int32, as `operators.Binary` adds.

    `parameters` are those of `generic.combine`.
    """
    terms = [
        T.cast(integer - parameters[which], "float32") * T.reinterpret("float32", parameters[2 + which])
        for which, integer in enumerate((value, other))
    ]
    low, high, zero_point = parameters[4:7]
    return _rounded(terms[0] + terms[1], low, high, zero_point, saturating)


def _rounded(value: Expr, low: Expr, high: Expr, zero_point: Expr, saturating: bool) -> Expr:
    result = saturated(value, zero_point, 8)
    return result if saturating else T.max(T.min(result, high), low)


def saturated(value: Expr, zero_point: Expr, bits: int) -> Expr:
    """Return rne(value) + zero_point, clamped to so many bits, as int32."""
    result: Expr = T.reinterpret("int32", tir.intrinsic("float32", "llvm.arm.vcvtr.f32", value))
    if tir.known(zero_point) != 0:
        result = tir.intrinsic("int32", "llvm.arm.qadd", result, zero_point)
    return tir.intrinsic("int32", "llvm.arm.ssat", result, T.int32(bits))


def rounded(one: str, two: str, multiplier: str) -> str:
    """Write the rounding of two sums of a channel, by s0 and s1, to int32."""
    return f"""
    vmov s0, s1, {one}, {two}
    vcvt.f32.s32 s0, s0
    vcvt.f32.s32 s1, s1
    vmul.f32 s0, s0, {multiplier}
    vmul.f32 s1, s1, {multiplier}
    vcvtr.s32.f32 s0, s0
    vcvtr.s32.f32 s1, s1
    vmov {one}, {two}, s0, s1
    """


def bounds(parameters: str, low: str, high: str, held: tuple[str, str]) -> str:
    """Write what `clipped` needs into two float registers, by two others, and the zero point into its own.

    The latter has the address of the parameters: low, high, zero point.
    """
    return f"""
    ldrd {low}, {high}, [{parameters}]
    ldr {parameters}, [{parameters}, #8]
    pkhbt {low}, {low}, {low}, lsl #16
    pkhbt {high}, {high}, {high}, lsl #16
    vmov {held[0]}, {held[1]}, {low}, {high}
    """


def clipped(one: str, two: str, low: str, high: str, held: tuple[str, str]) -> str:
    """Write the clamping of two int8 to `bounds`, both at once, as halfwords."""
    return f"""
    vmov {low}, {high}, {held[0]}, {held[1]}
    pkhbt {one}, {one}, {two}, lsl #16
    ssub16 {two}, {one}, {low}
    sel {one}, {one}, {low}
    ssub16 {two}, {high}, {one}
    sel {one}, {one}, {high}
    asr {two}, {one}, #16
    """


@cache
def depthwise_rows(stride: int, saturating: bool) -> Assembly:
    """Return the loops over a row of outputs of some channels of a 3x3 depthwise convolution, two at a time.

    $0, $1, $2 are the first channel's int16 rows of the input; $3 the output, $5 the bytes to the next
    pixel; $4 the channels' constants as `depthwise_constants` packs them; $7 the zero point, or parameters
    (low, high, zero point) where int8's own bounds aren't the results'. $6 holds how many outputs there are
    and, above 16 bits, the bytes from a channel's rows to the next's; there are four channels. An odd last
    output is one of two that go to the same place.
    """
    held = ("s16", "s17")
    beginning = "" if saturating else bounds("$7", "r0", "r1", held)
    saturated, end = "ssat $7, #8, $7\nssat $4, #8, $4", "vmov $5, s11"
    if saturating:
        ending = f"{end}\n{saturated}"  # what an M7 does at once
    else:
        ending = f"{saturated}\n{clipped('$4', '$7', '$5', '$6', held)}\nvmov $6, s13\n{end}"
    advance = 4 * stride
    lasts = {
        1: """
            smlatb {two}, $5, {front}, {two}
            smlabt {one}, $6, {back}, {one}
            smlad {two}, $6, {back}, {two}
        """,
        2: """
            smlad {two}, $6, {front}, {two}
            smlabt {one}, $6, {back}, {one}
            ldr $5, [{row}]
            smlabt {two}, $5, {back}, {two}
        """,
    }
    lines = []
    for row, (front, back) in enumerate((("r0", "r1"), ("r2", "r3"), ("r4", "r5"))):
        names = {"one": "$4", "two": "$7", "front": front, "back": back, "row": f"${row}"}
        lines += [
            f"ldrd $5, $6, [${row}], #{advance}",
            f"smlad $4, $5, {front}, $4",
            lasts[stride].format(**names),
        ]
    products = "\n".join(lines)
    return Assembly(
        f"edgec_depthwise_{stride}_{saturating:d}", 0, "pppppii" + ("i" if saturating else "p"),
        f"""
        {beginning}
        vmov s2, s3, $0, $1
        vmov s4, s5, $2, $3
        vmov s6, s7, $4, $6
        mov $4, #4
        vmov s14, s15, $4, $5
        vmov s12, $7
        2: vmov $4, $6, s6, s7
        ldm $4, {{r0, r1, r2, r3, r4, r5}}
        vldr s8, [$4, #24]
        vldr s9, [$4, #24]
        vldr s10, [$4, #28]
        uxth $6, $6
        lsr $6, $6, #1
        vmov.f32 s13, s15
        add $6, $0, $6, lsl #{advance.bit_length() - 1}
        vmov s11, $6
        cmp $0, $6
        beq 3f
        1: vmov $4, $7, s8, s9
        {products}
        {rounded("$4", "$7", "s10")}
        vmov $5, $6, s12, s13
        qadd $7, $7, $5
        qadd $4, $4, $5
        {ending}
        cmp $0, $5
        strb $7, [$3, $6]
        strb $4, [$3]
        add $3, $3, $6, lsl #1
        bne 1b
        3: vmov $5, s13
        vmov $6, s7
        cmp $5, #0
        beq 4f
        lsls $5, $6, #31
        beq 4f
        add $5, $0, #{advance}
        vmov s11, $5
        mov $5, #0
        vmov s13, $5
        b 1b
        4: lsr $6, $6, #16
        vmov $0, $1, s2, s3
        vmov $2, $3, s4, s5
        vmov $4, s6
        vmov $5, s14
        add $0, $0, $6
        add $1, $1, $6
        add $2, $2, $6
        add $3, $3, #1
        add $4, $4, #32
        vmov s2, s3, $0, $1
        vmov s4, s5, $2, $3
        subs $5, $5, #1
        vmov s6, $4
        vmov s14, $5
        bne 2b
        """,
        ("r0", "r1", "r2", "r3", "r4", "r5", *(f"s{i}" for i in range(16 if saturating else 18))),
    )  # fmt: skip


PLANES = Assembly(
    "edgec_planes", 0, "pippi",
    """
    add r6, $3, $3, lsl #1
    1: ldr r0, [$0]
    ldr r1, [$0, $1]
    add $0, $0, $1, lsl #1
    sxtb16 r2, r0
    sxtb16 r3, r1
    sxtb16 r0, r0, ror #8
    sxtb16 r1, r1, ror #8
    pkhtb r4, r3, r2, asr #16
    pkhtb r5, r1, r0, asr #16
    pkhbt r2, r2, r3, lsl #16
    pkhbt r0, r0, r1, lsl #16
    str r4, [$2, $3, lsl #1]
    str r5, [$2, r6]
    str r0, [$2, $3]
    subs $4, $4, #1
    str r2, [$2], #4
    bne 1b
    """,
    ("r0", "r1", "r2", "r3", "r4", "r5", "r6"),
)  # fmt: skip
"""$4 pairs of pixels of four channels at $0, each $1 bytes from the one before, to four int16 planes at $2,
$3 bytes apart."""

PLANES_PIXEL = Assembly(
    "edgec_planes_pixel", 0, "ppi",
    """
    ldr r0, [$0]
    add $0, $2, $2, lsl #1
    sxtb16 r2, r0
    sxtb16 r0, r0, ror #8
    strh r2, [$1]
    strh r0, [$1, $2]
    lsr r2, r2, #16
    lsr r0, r0, #16
    strh r2, [$1, $2, lsl #1]
    strh r0, [$1, $0]
    """,
    ("r0", "r2"),
)  # fmt: skip
"""One pixel at $0 to the planes at $1, $2 bytes apart."""

FILL_WORDS = Assembly(
    "edgec_fill_words", 0, "pii",
    """
    1: subs $2, $2, #1
    str $1, [$0], #4
    bne 1b
    """,
    (),
)  # fmt: skip
"""The word $1, $2 times, to $0."""


def depthwise_constants(
    weights: NDArray[np.generic], bias: NDArray[np.int32], multiplier: NDArray[np.float32]
) -> NDArray[np.int32]:
    """Return eight words a channel: pairs (0, 1) and (1, 2) of each row of weights, bias and multiplier.

    `weights` is [channels, 3, 3].
    """
    pairs = np.stack([weights[:, :, 0:2], weights[:, :, 1:3]], axis=2).astype("<i2")
    words = pairs.reshape(len(weights), -1).view("<i4")
    return np.concatenate([words, bias[:, None], multiplier.view(np.int32)[:, None]], axis=1).astype(np.int32)
