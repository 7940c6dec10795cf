"""Helium (MVE) of Cortex-M55 and M85: sixteen int8 products at a time, added up into one register.

`vmladava` sums in an even-numbered register. Rows of two pixels go against pairs of channels; the sums of
four channels then make a vector for the requantization. What a block of four channels needs lies in one
stream, so that one pointer is enough: two biases and the weights of channels 0 and 2, the same of 1 and 3,
and four multipliers, unless all channels have the same.
"""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.isa.assembly import Assembly

LANES = 16
"""Products of one instruction."""
WIDTH = 4
"""Channels of a block."""

_VECTORS = tuple(f"q{i}" for i in range(8))


def _requantized(
    sums: tuple[str, ...], outputs: tuple[str, ...], remaining: str, parameters: str, uniform: bool
) -> str:
    """Multiply, round, add the zero point, clamp to q6 and q7, store bytes.

    A `uniform` multiplier is the fourth parameter; others follow in the stream.
    """
    lines, multiplier = ["vldrw.u32 q0, [$0], #16", f"ldr r0, [{parameters}, #8]"], "q0"
    if uniform:
        lines, multiplier = [f"ldrd r0, r2, [{parameters}, #8]"], "r2"
    for operation in (
        "vcvt.f32.s32 {0}, {0}", f"vmul.f32 {{0}}, {{0}}, {multiplier}", "vcvtn.s32.f32 {0}, {0}",
        "vqadd.s32 {0}, {0}, r0", "vmax.s32 {0}, {0}, q6", "vmin.s32 {0}, {0}, q7",
    ):  # fmt: skip
        lines += [operation.format(q) for q in sums]
    lines += [f"vctp.32 {remaining}", "vpst" + "t" * (len(sums) - 1)]
    lines += [f"vstrbt.32 {q}, [{to}], #4" for q, to in zip(sums, outputs, strict=True)]
    return "\n".join([*lines, f"subs {remaining}, {remaining}, #4", "bgt 1b"])


_BOUNDS = """
    ldr r0, [{0}]
    ldr r2, [{0}, #4]
    vdup.32 q6, r0
    vdup.32 q7, r2
"""
"""What results are clamped to."""


def _pass(label: int, lanes: tuple[int, int]) -> str:
    return f"""
    ldrd r0, r2, [$0], #8
    mov r3, $1
    lsr lr, $2, #4
    add r5, $1, $2
    mov r4, r0
    mov r6, r2
    dls lr, lr
    {label}: vldrb.u8 q0, [r3], #16
    vldmia $0!, {{d4, d5, d6, d7}}
    vmladava.s8 r0, q0, q2
    vldrb.u8 q1, [r5], #16
    vmladava.s8 r2, q0, q3
    vmladava.s8 r4, q1, q2
    vmladava.s8 r6, q1, q3
    le lr, {label}b
    vmov q4[{lanes[1]}], q4[{lanes[0]}], r0, r2
    vmov q5[{lanes[1]}], q5[{lanes[0]}], r4, r6
    """


def columns_2(uniform: bool) -> Assembly:
    """Return the loop over all channels ($5, at the end none) of two pixels.

    Stream $0, panel of the first $1, its length $2, after which that of the second follows, outputs $3 and
    $4, parameters $6: low, high, zero point, and a `uniform` multiplier.
    """
    return Assembly(
        "edgec_columns_2", 0, "ppillip",
        _BOUNDS.format("$6") + "1:" + _pass(2, (0, 2)) + _pass(3, (1, 3))
        + _requantized(("q4", "q5"), ("$3", "$4"), "$5", "$6", uniform),
        ("r0", "r2", "r3", "r4", "r5", "r6", "lr", *_VECTORS),
    )  # fmt: skip


def columns_1(uniform: bool) -> Assembly:
    """Return the same of one pixel.

    Its stream has all four biases first, then the weights of all four channels.
    """
    return Assembly(
        "edgec_columns_1", 0, "ppilip",
        _BOUNDS.format("$5") + """
        1: ldrd r0, r4, [$0], #8
        ldrd r2, r6, [$0], #8
        mov r3, $1
        lsr lr, $2, #4
        dls lr, lr
        2: vldrb.u8 q0, [r3], #16
        vldmia $0!, {d2, d3, d4, d5, d6, d7, d8, d9}
        vmladava.s8 r0, q0, q1
        vmladava.s8 r2, q0, q2
        vmladava.s8 r4, q0, q3
        vmladava.s8 r6, q0, q4
        le lr, 2b
        vmov q4[2], q4[0], r0, r4
        vmov q4[3], q4[1], r2, r6
        """ + _requantized(("q4",), ("$3",), "$4", "$5", uniform),
        ("r0", "r2", "r3", "r4", "r6", "lr", *_VECTORS),
    )  # fmt: skip


COLUMNS_2, COLUMNS_1 = (
    {uniform: columns(uniform) for uniform in (False, True)} for columns in (columns_2, columns_1)
)

COPY = Assembly(
    "edgec_copy", 0, "ppiiii",
    """
    1: mov r2, $0
    mov r3, $1
    wlstp.8 lr, $2, 3f
    2: vldrb.u8 q0, [r2], #16
    vstrb.8 q0, [r3], #16
    letp lr, 2b
    3: subs $3, $3, #1
    add $0, $0, $4
    add $1, $1, $5
    bgt 1b
    """,
    ("r2", "r3", "lr", "q0"),
)  # fmt: skip
"""$3 rows of $2 bytes at $0 to $1; rows begin $4 bytes apart there, and $5 here."""

FILL = Assembly(
    "edgec_fill", 0, "pii",
    """
    vdup.8 q0, $1
    wlstp.8 lr, $2, 2f
    1: vstrb.8 q0, [$0], #16
    letp lr, 1b
    2:
    """,
    ("lr", "q0"),
)  # fmt: skip
"""The byte $1, $2 times, to $0."""


def stream(
    weights: NDArray[np.generic],
    bias: NDArray[np.int32],
    multiplier: NDArray[np.float32],
    pixels: int,
    uniform: bool,
) -> NDArray[np.int32]:
    """Bring [outputs, length] weights, biases and multipliers to the loops' order of reading.

    A `uniform` multiplier isn't in it, but a parameter.
    """
    blocks = -(-len(weights) // WIDTH)
    padded = np.zeros((blocks * WIDTH, weights.shape[1]), np.int8)
    padded[: len(weights)] = weights
    biases, multipliers = np.zeros((2, blocks * WIDTH), np.int32)
    biases[: len(weights)], multipliers[: len(weights)] = bias, multiplier.view(np.int32)
    parts = []
    passes = ((0, 2), (1, 3)) if pixels == 2 else ((0, 2, 1, 3),)
    for block in range(0, blocks * WIDTH, WIDTH):
        for channels in passes:
            chosen = [block + channel for channel in channels]
            ordered = sorted(chosen) if pixels == 1 else chosen
            vectors = padded[ordered].reshape(len(channels), -1, LANES).swapaxes(0, 1)
            parts += [biases[chosen], np.ascontiguousarray(vectors).reshape(-1).view("<i4")]
        parts += [] if uniform else [multipliers[block : block + WIDTH]]
    return np.concatenate(parts)


DEPTHWISE_CHANNELS = 8


def _depthwise_products() -> str:
    """Pairs of products in int16, which holds them, then in int32: even channels in q0, odd ones in q1."""
    lines = []
    taps = [(row, column) for row in range(3) for column in range(3)]
    for first in range(0, 9, 2):
        pair = taps[first : first + 2]
        for (row, column), a, w in zip(pair, ("q2", "q4"), ("q3", "q5"), strict=False):
            lines += [f"vldrb.s16 {a}, [${row}, #{8 * column}]", f"vldrb.s16 {w}, [$3], #8"]
            lines += [f"vmul.i16 {a}, {a}, {w}"]
        lines += ["vadd.i16 q2, q2, q4"] * (len(pair) - 1)
        lines += ["vmovlb.s16 q3, q2", "vmovlt.s16 q2, q2", "vadd.i32 q0, q0, q3", "vadd.i32 q1, q1, q2"]
    return "\n".join(lines)


def depthwise_results(
    outputs: int, constants: str, zero_point: str, saturating: bool = False, meanwhile: Sequence[str] = ()
) -> str:
    """Write the requantization of sums of eight channels, of one output or two, to int16 in q(2 outputs + i).

    Those of output i are in q(2i), even channels, and q(2i + 1). Their multipliers come from the constants;
    q6 and q7 are the bounds, if those aren't int8's own. What is to be done `meanwhile`, but for the
    multipliers' loading, takes no time of its own.
    """
    multipliers = [f"q{2 * outputs + i}" for i in range(2)]
    loads = [f"vldrw.u32 {multiplier}, [{constants}], #16" for multiplier in multipliers]
    lines = []
    for operation in ("vcvt.f32.s32 {0}, {0}", "vmul.f32 {0}, {0}, {1}", "vcvtn.s32.f32 {0}, {0}"):
        lines += [operation.format(f"q{i}", multipliers[i % 2]) for i in range(2 * outputs)]
    results = [f"q{2 * outputs + i}" for i in range(outputs)]
    for half, parity in (("b", 0), ("t", 1)):
        lines += [f"vqmovn{half}.s32 {q}, q{2 * i + parity}" for i, q in enumerate(results)]
    lines += [f"vqadd.s16 {q}, {q}, {zero_point}" for q in results]
    if saturating:
        lines += [f"vqmovnb.s16 {q}, {q}" for q in results]
    else:
        lines += [f"vmax.s16 {q}, {q}, q6" for q in results] + [f"vmin.s16 {q}, {q}, q7" for q in results]
    woven = [line for pair in zip_longest(lines, meanwhile) for line in pair if line]
    return "\n".join([*loads, *woven])


_ADVANCE = ("sub $3, $3, #136", "add $0, $0, $5", "add $1, $1, $5", "add $2, $2, $5")
"""Goes on to the next output: constants from their start, rows."""

DEPTHWISE = Assembly(
    "edgec_depthwise", 0, "llllliiip",
    f"""
    ldr lr, [$8]
    vdup.16 q6, lr
    ldr lr, [$8, #4]
    vdup.16 q7, lr
    ldr $8, [$8, #8]
    dls lr, $7
    1: vldrw.u32 q0, [$3], #16
    vldrw.u32 q1, [$3], #16
    {_depthwise_products()}
    {depthwise_results(1, "$3", "$8", meanwhile=_ADVANCE)}
    vstrb.16 q2, [$4]
    add $4, $4, $6
    le lr, 1b
    """,
    ("lr", *_VECTORS),
)  # fmt: skip
"""$7 adjacent outputs of eight channels of a 3x3 depthwise convolution: rows of the input at $0, $1, $2,
eight bytes a pixel and $5 from one output's to the next's; constants $3 (`depthwise_constants`); output $4,
$6 bytes to the next; parameters $8."""

PIXELS = Assembly(
    "edgec_pixels", 0, "lili",
    """
    dls lr, $3
    1: vldrb.u16 q0, [$0]
    add $0, $0, $1
    vstrb.16 q0, [$2], #8
    le lr, 1b
    """,
    ("lr", "q0"),
)  # fmt: skip
"""Eight bytes of $3 pixels, each $1 bytes from the one before, next to each other."""


def depthwise_constants(
    weights: NDArray[np.generic], bias: NDArray[np.int32], multiplier: NDArray[np.float32]
) -> NDArray[np.int32]:
    """Return by eight channels: biases of even and of odd ones, weights [9, 8], multipliers.

    `weights` is [channels, 9].
    """
    parts = []
    for start in range(0, len(weights), DEPTHWISE_CHANNELS):
        channels = slice(start, start + DEPTHWISE_CHANNELS)
        ordered = [(v[channels][0::2], v[channels][1::2]) for v in (bias, multiplier.view(np.int32))]
        taps = np.ascontiguousarray(weights[channels].T).reshape(-1).view("<i4")
        parts += [*ordered[0], taps, *ordered[1]]
    return np.concatenate(parts).astype(np.int32)
