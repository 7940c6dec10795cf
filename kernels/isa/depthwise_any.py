"""Loops of `compact_depthwise_any`: a row of outputs of a depthwise convolution of any window.

Each takes the first row of the window's and the pitch from it to the next, so that size, stride and dilation
are arguments, as far as they aren't offsets in the loads themselves.
"""

from functools import cache

from edgec.kernels.isa.assembly import Assembly

MOST_PAIRS = 32
"""Of taps in a row of the window, as its products are written out: 600 bytes of code."""

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
def dsp_row(pairs: int) -> Assembly:
    """Return the loops over one channel's outputs, two at a time, with `pairs` words of taps in a row.

    $0 is the channel's first int16 row, $1 the pitch; $2 the constants: bias, multiplier, words of weights;
    $3 the output, $4 the bytes to the next one, $5 how many there are, $6 rows of the window, $7 bytes from
    one output's window to the next's, $8 the zero point.
    """
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
        f"edgec_depthwise_any_{pairs}", 0, "pippiiiii",
        f"""
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
        vmov s0, s1, $4, $5
        vcvt.f32.s32 s0, s0
        vcvt.f32.s32 s1, s1
        vmul.f32 s0, s0, s2
        vmul.f32 s1, s1, s2
        vcvtr.s32.f32 s0, s0
        vcvtr.s32.f32 s1, s1
        vmov $4, $5, s0, s1
        vmov $8, s14
        qadd $4, $4, $8
        qadd $5, $5, $8
        vmov $6, $8, s12, s13
        ssat $4, #8, $4
        ssat $5, #8, $5
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
        ("r2", "r3", "r4", "r5", "r6", "s0", "s1", "s2", *(f"s{i}" for i in range(10, 15))),
    )  # fmt: skip


@cache
def thumb_row(columns: int, dilation: int, stride: int) -> Assembly:
    """Return the loops over one channel's outputs, two at a time, of windows with `columns` taps in a row.

    Taps are `dilation` pixels apart, windows `stride`. $0 is the channel in the first row, four bytes a
    pixel, $1 the pitch; $2 the constants: rows, bias, `thumb.scales`, weights; $3 the output, $4 the bytes
    to the next one, $5 how many there are, $6 the zero point.
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

    def rounded(register: str) -> str:
        return f"""
        smull r4, {register}, {register}, r0
        asr {register}, {register}, r1
        add {register}, {register}, #1
        add {register}, $6, {register}, asr #1
        ssat {register}, #8, {register}
        """

    return Assembly(
        f"edgec_depthwise_any_{columns}_{dilation}_{stride}", 0, "pippiii",
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
        {rounded("r3")}
        {rounded("r5")}
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


MVE_ROW = Assembly(
    "edgec_depthwise_any", 0, "pppliiipi",
    """
    ldr lr, [$7]
    vdup.16 q6, lr
    ldr lr, [$7, #4]
    vdup.16 q7, lr
    ldr $7, [$7, #8]
    1: mov r4, $2
    mov r8, $1
    ldr lr, [r8], #4
    vldrw.u32 q0, [r4], #16
    vldrw.u32 q1, [r4], #16
    dls lr, lr
    2: ldrd r2, r3, [r8], #8
    add r2, r2, $0
    add r3, r3, $0
    vldrb.s16 q2, [r2]
    vldrb.s16 q3, [r4], #8
    vmul.i16 q2, q2, q3
    vldrb.s16 q4, [r3]
    vldrb.s16 q5, [r4], #8
    vmul.i16 q4, q4, q5
    vadd.i16 q2, q2, q4
    vmovlb.s16 q3, q2
    vmovlt.s16 q2, q2
    vadd.i32 q0, q0, q3
    vadd.i32 q1, q1, q2
    le lr, 2b
    vldrw.u32 q2, [r4], #16
    vldrw.u32 q3, [r4], #16
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
    vmul.f32 q0, q0, q2
    vmul.f32 q1, q1, q3
    vcvtn.s32.f32 q0, q0
    vcvtn.s32.f32 q1, q1
    vqadd.s32 q0, q0, $7
    vqadd.s32 q1, q1, $7
    vqmovnb.s32 q2, q0
    vqmovnt.s32 q2, q1
    vmax.s16 q2, q2, q6
    vmin.s16 q2, q2, q7
    vctp.16 $8
    vpst
    vstrbt.16 q2, [$3]
    subs $6, $6, #1
    add $3, $3, $5
    add $0, $0, $4
    bne 1b
    """,
    ("r2", "r3", "r4", "r8", "lr", *(f"q{i}" for i in range(8))),
)  # fmt: skip
"""$6 adjacent outputs of eight channels: the window's first row at $0, $4 bytes from one output's to the
next's; $1 a table, of how many pairs of taps there are and the offset of each tap; constants $2: biases of
even channels and of odd ones, weights of a tap after those of another, multipliers like the biases; output
$3, $5 bytes to the next; parameters $7; $8 of the channels are stored."""
