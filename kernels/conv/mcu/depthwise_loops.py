"""Loops of `depthwise_any.py`: a row of outputs of a depthwise convolution of any window.

Each takes the first row of the window's and the pitch from it to the next, so that size, stride and dilation
are arguments, as far as they aren't offsets in the loads themselves.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.isa import dsp, mve, thumb
from edgec.kernels.isa.assembly import Assembly

MOST_PAIRS = 32
"""The most pairs of taps in a row of the window, whose products are written out: 600 bytes of code."""

MOST_TAPS = 16
"""The same for Helium, of eight channels' taps."""

MOST_PIXELS = 512
"""The most pixels of a row that those taps and the second output's reach over: an addition's constant is
below 4096 bytes."""
MOST_GROUPS = 128
"""The most groups of up to two products that Helium's sums hold: the lower bytes that they leave out make an
int16."""
_MOST_BIAS = 1 << 21
"""That those sums may begin with: with the most products, 2**22, it is within 24 bits."""

MOVE = Assembly(
    "edgec_move", 0, "ppi",
    """
    1: ldm $1!, {r2, r3}
    subs $2, $2, #1
    stm $0!, {r2, r3}
    bne 1b
    """,
    ("r2", "r3"),
)  # fmt: skip
"""$2 times two words from $1 to $0, which lies before it."""

MVE_MOVE = Assembly(
    "edgec_move", 0, "ppi",
    """
    lsl $2, $2, #3
    wlstp.8 lr, $2, 2f
    1: vldrb.u8 q0, [$1], #16
    vstrb.8 q0, [$0], #16
    letp lr, 1b
    2:
    """,
    ("lr", "q0"),
)  # fmt: skip
"""The same by Helium, where $0 lies sixteen bytes before $1, or more."""

MVE_GATHER = Assembly(
    "edgec_gather", 0, "pilil",
    """
    vldrb.u16 q1, [$4]
    dls lr, $3
    1: vldrb.u16 q0, [$0, q1]
    add $0, $0, $1
    vstrb.16 q0, [$2], #8
    le lr, 1b
    """,
    ("lr", "q0", "q1"),
)  # fmt: skip
"""Eight bytes of $3 pixels at $0, each $1 bytes from the one before, to $2; their offsets are bytes at $4."""

COPY_CHANNEL = Assembly(
    "edgec_copy_channel", 0, "pipii",
    """
    1: ldrb r2, [$0]
    add $0, $0, $1
    subs $4, $4, #1
    strb r2, [$2]
    add $2, $2, $3
    bne 1b
    """,
    ("r2",),
)  # fmt: skip
"""$4 bytes, $1 apart from $0 on, to $2, $3 apart there."""

WIDEN_CHANNEL = Assembly(
    "edgec_widen_channel", 0, "pipi",
    """
    1: ldrsb r2, [$0]
    add $0, $0, $1
    subs $3, $3, #1
    strh r2, [$2], #2
    bne 1b
    """,
    ("r2",),
)  # fmt: skip
"""$3 bytes, $1 apart from $0 on, to int16 next to each other at $2."""


@cache
def dsp_row(pairs: int, saturating: bool) -> Assembly:
    """Return the loops over one channel's outputs, two at a time, with `pairs` words of taps in a row.

    $0 is the channel's first int16 row, $1 the pitch; $2 the constants: bias, multiplier, words of weights;
    $3 the output, $4 the bytes to the next one, $5 how many there are, $6 rows of the window, $7 bytes from
    one output's window to the next's, $8 the zero point, or parameters (low, high, zero point) where int8's
    own bounds aren't the results'.
    """
    held = ("s8", "s9")
    beginning = "" if saturating else dsp.bounds("$8", "r2", "r3", held)
    ending = "" if saturating else dsp.clipped("$4", "$5", "r2", "r3", held)
    lines = []
    for pair in range(0, pairs - 1, 2):
        at = 4 * pair
        lines += ["ldrd $8, r6, [$2], #8", f"ldrd r3, r4, [r2, #{at}]", "smlad $4, $8, r3, $4"]
        lines += [
            "smlad $4, r6, r4, $4",
            f"ldr r3, [r5, #{at}]",
            f"ldr r4, [r5, #{at + 4}]",
        ]  # at no whole word
        lines += ["smlad $5, $8, r3, $5", "smlad $5, r6, r4, $5"]
    if pairs % 2:
        at = 4 * (pairs - 1)
        lines += ["ldr $8, [$2], #4", f"ldr r3, [r2, #{at}]", f"ldr r4, [r5, #{at}]"]
        lines += ["smlad $4, $8, r3, $4", "smlad $5, $8, r4, $5"]
    products = "\n".join(lines)
    return Assembly(
        f"edgec_depthwise_any_{pairs}_{saturating:d}", 0, "pippiiii" + ("i" if saturating else "p"),
        f"""
        {beginning}
        vmov s10, s11, $2, $6
        vmov s12, s13, $4, $5
        vmov s14, $8
        1: vmov $2, $6, s10, s11
        mov r2, $0
        add r5, $0, $7
        ldr $4, [$2], #4
        vldmia $2!, {{s2}}
        mov $5, $4
        2: {products}
        add r2, r2, $1
        subs $6, $6, #1
        add r5, r5, $1
        bne 2b
        {dsp.rounded("$4", "$5", "s2")}
        vmov $8, s14
        qadd $4, $4, $8
        qadd $5, $5, $8
        vmov $6, $8, s12, s13
        ssat $4, #8, $4
        ssat $5, #8, $5
        {ending}
        strb $4, [$3]
        cmp $8, #1
        it hi
        strbhi $5, [$3, $6]
        add $3, $3, $6, lsl #1
        add $0, $0, $7, lsl #1
        subs $8, $8, #2
        vmov s13, $8
        bhi 1b
        """,
        ("r2", "r3", "r4", "r5", "r6", "s0", "s1", "s2", *(f"s{i}" for i in range(8, 15))),
    )  # fmt: skip


@cache
def thumb_row(columns: int, dilation: int, stride: int, ending: thumb.Ending) -> Assembly:
    """Return the loops over one channel's outputs, two at a time, of windows with `columns` taps in a row.

    Taps are `dilation` pixels apart, windows `stride`. $0 is the channel in the first row, four bytes a
    pixel, $1 the pitch; $2 the constants: rows, bias, `thumb.scales`, weights; $3 the output, $4 the bytes
    to the next one, $5 how many there are, $6 the zero point, of a clipped layer the parameters (low, high,
    zero point).
    """
    held: dict[str, int] = {}  # register: pixel of the row that it holds
    lines = []

    def loaded(pixel: int, other: int) -> str:
        """Write the loading of a pixel, unless a register holds it; the `other` one stays where it is."""
        for register, content in held.items():
            if content == pixel:
                return register
        free = next(register for register in ("r0", "r1") if held.get(register) != other)
        held[free] = pixel
        lines.append(f"ldrsb {free}, [$0, #{4 * pixel}]")
        return free

    for column in range(columns):
        one, two = column * dilation, column * dilation + stride
        lines.append("ldrsb r6, [r4], #1")
        lines.append(f"mla r3, {loaded(one, two)}, r6, r3")
        lines.append(f"mla r5, {loaded(two, one)}, r6, r5")
    products = "\n".join(lines)

    zero_point = "r2" if ending.clipped else "$6"

    def rounded(register: str) -> str:
        shifted = thumb.shifted(register, "r1", "r4", ending)
        return shifted + thumb.rounded(register, "r0", "r1", "r4", zero_point)

    return Assembly(
        f"edgec_depthwise_any_{columns}_{dilation}_{stride}_{ending.clipped:d}_{ending.wide:d}", 0,
        "pippii" + ("p" if ending.clipped else "i"),
        f"""
        1: ldr r2, [$2]
        ldr r3, [$2, #4]
        add r4, $2, #16
        mov r5, r3
        2: {products}
        subs r2, r2, #1
        add $0, $0, $1
        bne 2b
        ldr r2, [$2]
        ldrd r0, r1, [$2, #8]
        mls $0, r2, $1, $0
        {"ldr r2, [$6, #8]" * ending.clipped}
        {rounded("r3")}
        {rounded("r5")}
        {"ldrd r0, r1, [$6]" * ending.clipped}
        {thumb.bounded("r3", "r0", "r1", ending)}
        {thumb.bounded("r5", "r0", "r1", ending)}
        strb r3, [$3]
        cmp $5, #1
        it hi
        strbhi r5, [$3, $4]
        add $0, $0, #{8 * stride}
        add $3, $3, $4, lsl #1
        subs $5, $5, #2
        bhi 1b
        """,
        ("r0", "r1", "r2", "r3", "r4", "r5", "r6"),
    )  # fmt: skip


def _mve_products(columns: int, dilation: int, stride: int) -> str:
    """Write the products of a row of the window at r2 with weights at r4, for two outputs of eight channels.

    int16 holds two products. Such a pair goes to two sums of int16: to q(2i) of output i modulo 2**16, and
    without its lower byte to q(2i + 1), by a product with $8, which is 128, whose upper half is taken. What
    is left to do for one pair goes between the loads of the next one.
    """
    base = 0
    lines: list[str] = []
    waiting: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        if waiting:
            lines.append(waiting.pop(0))

    def load(vector: str, pixel: int) -> None:
        nonlocal base
        if not 0 <= 8 * pixel - base < 128:  # what the instruction holds
            lines.append(f"{'add' if 8 * pixel > base else 'sub'} r2, r2, #{abs(8 * pixel - base)}")
            base = 8 * pixel
        write(f"vldrb.s16 {vector}, [r2, #{8 * pixel - base}]")

    for column in range(0, columns, 2):
        pixel, next_pixel = column * dilation, (column + 1) * dilation
        write("vldrb.s16 q7, [r4], #8")
        load("q4", pixel)
        write("vmul.i16 q4, q4, q7")
        load("q6", pixel + stride)
        write("vmul.i16 q5, q6, q7")
        if column + 1 < columns:
            write("vldrb.s16 q7, [r4], #8")
            if next_pixel != pixel + stride:
                load("q6", next_pixel)
            write("vmul.i16 q6, q6, q7")
            write("vadd.i16 q4, q4, q6")
            load("q6", next_pixel + stride)
            write("vmul.i16 q6, q6, q7")
            waiting.append("vadd.i16 q5, q5, q6")
        write("vadd.i16 q0, q0, q4")
        write("vqdmlah.s16 q1, q4, $8")
        waiting += ["vadd.i16 q2, q2, q5", "vqdmlah.s16 q3, q5, $8"]
    lines += waiting
    return "\n".join([*lines, f"sub r2, r2, #{base}"] if base else lines)


def _mve_sums(output: int) -> str:
    """Write how both int16 of an output become int32: q(2i) of even channels, and q(2i + 1) of odd ones.

    The sum is 256 h + r, of which h is at hand, and its lower half, l. The bytes that h leaves out make r
    less than 129 * 256, so that h less the upper byte of l is 256 times the upper half, less 0 to 128: what
    it rounds to is that half.
    """
    low, high, spare = f"q{2 * output}", f"q{2 * output + 1}", "q4"
    return f"""
    vshr.u16 {spare}, {low}, #8
    vsub.i16 {spare}, {high}, {spare}
    vrshr.s16 {spare}, {spare}, #8
    vmov {high}, {spare}
    vsri.32 {high}, {low}, #16
    vsli.32 {low}, {spare}, #16
    """


@cache
def mve_row(columns: int, dilation: int, stride: int, saturating: bool, ragged: bool) -> Assembly:
    """Return the loops over outputs of eight channels, two at a time, of windows with so many taps in a row.

    Taps are `dilation` pixels apart, windows `stride`. $0 is the window's first row, eight bytes a pixel, $1
    the pitch; $2 the constants, see `mve_constants`; $3 the output, $4 the bytes to the next one, $5 how many
    there are, $6 rows of the window, $7 parameters; if a block is ragged, $8 of its channels are stored.
    """
    store = "vpst\nvstrbt.16" if ragged else "vstrb.16"
    bounds = "" if saturating else "vdup.16 q6, r3\nvdup.16 q7, r9"
    return Assembly(
        f"edgec_depthwise_any_{columns}_{dilation}_{stride}_{saturating:d}_{ragged:d}", 0, "pipliiipi",
        f"""
        ldrd r3, r9, [$7]
        ldr $7, [$7, #8]
        {"vctp.16 $8" * ragged}
        mov $8, #128
        1: mov r4, $2
        vldrw.u32 q0, [r4], #16
        mov r2, $0
        vldrw.u32 q1, [r4], #16
        vmov q2, q0
        dls lr, $6
        vmov q3, q1
        2: {_mve_products(columns, dilation, stride)}
        add r2, r2, $1
        le lr, 2b
        {_mve_sums(0)}
        ldr r2, [r4, #32]
        {_mve_sums(1)}
        cbz r2, 3f
        vldrw.u32 q4, [r4, #36]
        vldrw.u32 q5, [r4, #52]
        vadd.i32 q0, q0, q4
        vadd.i32 q1, q1, q5
        vadd.i32 q2, q2, q4
        vadd.i32 q3, q3, q5
        3: {bounds}
        {mve.depthwise_results(2, "r4", "$7", saturating, [f"add $0, $0, #{16 * stride}"])}
        {store} q4, [$3]
        subs $5, $5, #1
        beq 4f
        add $3, $3, $4
        {store} q5, [$3]
        subs $5, $5, #1
        add $3, $3, $4
        bne 1b
        4:
        """,
        ("r2", "r3", "r4", "r9", "lr", *(f"q{i}" for i in range(8))),
    )  # fmt: skip


def mve_constants(
    weights: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32]
) -> NDArray[np.int32]:
    """Return the constants of blocks of eight channels.

    Both int16 that the sums begin with, weights tap by tap, multipliers of even channels and of odd ones;
    whether biases follow that those don't hold, and these, if any block has such. `weights` is [blocks, 8,
    taps], the others [blocks, 8].
    """
    blocks = len(weights)
    large = np.abs(bias.astype(np.int64)) > _MOST_BIAS
    small = np.where(large, 0, bias)
    halves = [small.astype("<i2"), (small >> 8).astype("<i2")]
    taps = np.ascontiguousarray(weights.swapaxes(1, 2)).reshape(blocks, -1)
    scales, beyond = multiplier.view(np.int32), np.where(large, bias, np.int32(0))
    has_large = large.any(axis=1, keepdims=True).astype(np.int32)
    parts = [*(part.view("<i4") for part in (*halves, taps)), scales[:, 0::2], scales[:, 1::2], has_large]
    parts += [beyond[:, 0::2], beyond[:, 1::2]] if large.any() else []
    return np.concatenate(parts, axis=1)
