from collections.abc import Iterator

import pytest

from edgec.bench.measure.instructions import CLASSES, MAC_CLASSES, classify, parse, total

# Encodings as `llvm-mc-19 -triple=aarch64 -mattr=+v8.6a,+fullfp16 -show-encoding` assembles them.
ASSEMBLED = """
# dot
4e829420 sdot v0.4s, v1.16b, v2.16b
2e859483 udot v3.2s, v4.8b, v5.8b
4fafebdf sdot v31.4s, v30.16b, v15.4b[3]
2fbfe020 udot v0.2s, v1.8b, v31.4b[1]
4e829c20 usdot v0.4s, v1.16b, v2.16b
4f82f820 usdot v0.4s, v1.16b, v2.4b[2]
4f3ff820 sudot v0.4s, v1.16b, v31.4b[3]
# mmla
4e82a420 smmla v0.4s, v1.16b, v2.16b
6e82a43f ummla v31.4s, v1.16b, v2.16b
4e82afe0 usmmla v0.4s, v31.16b, v2.16b
# integer_mac
0e22c020 smull v0.8h, v1.8b, v2.8b
4e3fc020 smull2 v0.8h, v1.16b, v31.16b
2e62c020 umull v0.4s, v1.4h, v2.4h
0e628020 smlal v0.4s, v1.4h, v2.4h
4e62803f smlal2 v31.4s, v1.8h, v2.8h
2e228020 umlal v0.8h, v1.8b, v2.8b
0e62a020 smlsl v0.4s, v1.4h, v2.4h
4e629420 mla v0.8h, v1.8h, v2.8h
6ea29420 mls v0.4s, v1.4s, v2.4s
4e229c20 mul v0.16b, v1.16b, v2.16b
4ea29c20 mul v0.4s, v1.4s, v2.4s
0f7f2820 smlal v0.4s, v1.4h, v15.h[7]
4f722020 smlal2 v0.4s, v1.8h, v2.h[3]
6fa22820 umlal2 v0.2d, v1.4s, v2.s[3]
0f426020 smlsl v0.4s, v1.4h, v2.h[0]
0f52a820 smull v0.4s, v1.4h, v2.h[5]
6f820820 mla v0.4s, v1.4s, v2.s[2]
6f624020 mls v0.8h, v1.8h, v2.h[2]
4f728820 mul v0.8h, v1.8h, v2.h[7]
0e629020 sqdmlal v0.4s, v1.4h, v2.4h
0f52b020 sqdmull v0.4s, v1.4h, v2.h[1]
# float_mac
4e22cc20 fmla v0.4s, v1.4s, v2.4s
4ee2cc20 fmls v0.2d, v1.2d, v2.2d
4fbf1820 fmla v0.4s, v1.4s, v31.s[3]
4fa25020 fmls v0.4s, v1.4s, v2.s[1]
4e420c20 fmla v0.8h, v1.8h, v2.8h
4ec20c20 fmls v0.8h, v1.8h, v2.8h
4f021820 fmla v0.8h, v1.8h, v2.h[4]
5fbe1063 fmla s3, s3, v30.s[1]
5fde5b6c fmls d12, d27, v30.d[1]
1f020c20 fmadd s0, s1, s2, s3
1f628c20 fnmsub d0, d1, d2, d3
# load
f9400020 ldr x0, [x1]
b8404c20 ldr w0, [x1, #4]!
3dc00420 ldr q0, [x1, #16]
3ce27820 ldr q0, [x1, x2, lsl #4]
3cc20420 ldr q0, [x1], #32
3cdfd020 ldur q0, [x1, #-3]
fd400020 ldr d0, [x1]
3d400420 ldr b0, [x1, #1]
39400020 ldrb w0, [x1]
38a26820 ldrsb x0, [x1, x2]
b9800420 ldrsw x0, [x1, #4]
79400020 ldrh w0, [x1]
ad400440 ldp q0, q1, [x2]
a8c107e0 ldp x0, x1, [sp], #16
69400440 ldpsw x0, x1, [x2]
ac400440 ldnp q0, q1, [x2]
4c407020 ld1 {v0.16b}, [x1]
4cdf2020 ld1 {v0.16b, v1.16b, v2.16b, v3.16b}, [x1], #64
4c408420 ld2 {v0.8h, v1.8h}, [x1]
4d40c820 ld1r {v0.4s}, [x1]
4de2e020 ld4r {v0.16b, v1.16b, v2.16b, v3.16b}, [x1], x2
4ddf8020 ld1 {v0.s}[2], [x1], #4
58000040 ldr x0, #8
9c000080 ldr q0, #16
c85f7c20 ldxr x0, [x1]
88dffc20 ldar w0, [x1]
f8200041 ldadd x0, x1, [x2]
b8e08041 swpal w0, w1, [x2]
# store
f9000020 str x0, [x1]
b8227820 str w0, [x1, x2, lsl #2]
3d800420 str q0, [x1, #16]
3ca26820 str q0, [x1, x2]
3c9f0020 stur q0, [x1, #-16]
3c810420 str q0, [x1], #16
bd000420 str s0, [x1, #4]
3d000020 str b0, [x1]
38001c20 strb w0, [x1, #1]!
79000020 strh w0, [x1]
ac810440 stp q0, q1, [x2], #32
a9bf7bfd stp x29, x30, [sp, #-16]!
ac000440 stnp q0, q1, [x2]
4c007020 st1 {v0.16b}, [x1]
4c9fa020 st1 {v0.16b, v1.16b}, [x1], #32
0c004020 st3 {v0.8b, v1.8b, v2.8b}, [x1]
0d9f5820 st1 {v0.h}[3], [x1], #2
c8007c41 stxr w0, x1, [x2]
889ffc20 stlr w0, [x1]
# branch
14000010 b #64
97fffff0 bl #-64
54000041 b.ne #8
54ffff0b b.lt #-32
b4000040 cbz x0, #8
35ffffc0 cbnz w0, #-8
36180040 tbz w0, #3, #8
b7400040 tbnz x0, #40, #8
d61f0000 br x0
d63f0020 blr x1
d65f03c0 ret
# vector
4ea28420 add v0.4s, v1.4s, v2.4s
0e614820 sqxtn v0.4h, v1.4s
4e614820 sqxtn2 v0.8h, v1.4s
4e21a820 fcvtns v0.4s, v1.4s
4e21d820 scvtf v0.4s, v1.4s
6e22dc20 fmul v0.4s, v1.4s, v2.4s
4fa29020 fmul v0.4s, v1.4s, v2.s[1]
4e22d420 fadd v0.4s, v1.4s, v2.4s
4e218820 frintn v0.4s, v1.4s
4e226420 smax v0.16b, v1.16b, v2.16b
0f08a420 sshll v0.8h, v1.8b, #0
4f00e4e0 movi v0.16b, #7
4e040c20 dup v0.4s, w1
4e140420 dup v0.4s, v1.s[2]
0e0c3c20 umov w0, v1.s[1]
5e1c04af mov s15, v5.s[3]
4e0c1c40 ins v0.s[1], w2
4e020020 tbl v0.16b, {v1.16b}, v2.16b
4e023820 zip1 v0.16b, v1.16b, v2.16b
6e021820 ext v0.16b, v1.16b, v2.16b, #3
4ea2bc20 addp v0.4s, v1.4s, v2.4s
4e602820 saddlp v0.4s, v1.8h
4e606820 sadalp v0.4s, v1.8h
4eb1b820 addv s0, v1.4s
6ea2b420 sqrdmulh v0.4s, v1.4s, v2.4s
4f82c020 sqdmulh v0.4s, v1.4s, v2.s[0]
4e621c20 bic v0.16b, v1.16b, v2.16b
4f03f600 fmov v0.4s, #1.0
6e22d420 faddp v0.4s, v1.4s, v2.4s
0e22e020 pmull v0.8h, v1.8b, v2.8b
# scalar
8b020020 add x0, x1, x2
9b020c20 madd x0, x1, x2, x3
1b027c20 mul w0, w1, w2
9b220c20 smaddl x0, w1, w2, x3
f1000400 subs x0, x0, #1
f100101f cmp x0, #4
9a821020 csel x0, x1, x2, ne
d3431c20 ubfx x0, x1, #3, #5
b0000000 adrp x0, #4096
d28000a0 mov x0, #5
f2a00020 movk x0, #1, lsl #16
d503201f nop
d5032e1f hint #112
d5033bbf dmb ish
d53bd040 mrs x0, tpidr_el0
1e222820 fadd s0, s1, s2
1e620820 fmul d0, d1, d2
1e200020 fcvtns w0, s1
1e270020 fmov s0, w1
1e2e1000 fmov s0, #1.0
f9802020 prfm pldl1keep, [x1, #64]
f8a26820 prfm pldl1keep, [x1, x2]
f89f8020 prfum pldl1keep, [x1, #-8]
d8000080 prfm pldl1keep, #16
d4000001 svc #0
"""


def assembled() -> Iterator[tuple[str, int, str]]:
    for line in ASSEMBLED.strip().splitlines():
        if line.startswith("# "):
            name = line[2:]
        else:
            encoding, _, text = line.partition(" ")
            yield name, int(encoding, 16), text


@pytest.mark.parametrize(("name", "encoding", "text"), list(assembled()))
def test_an_instruction_is_of_its_class(name: str, encoding: int, text: str) -> None:
    assert classify(encoding) == name, text


def test_every_class_is_tested() -> None:
    of_microcontrollers = {"helium_mac", "dual_mac", "float"}  # test_thumb.py
    assert {name for name, _, _ in assembled()} == CLASSES.keys() - of_microcontrollers
    assert CLASSES.keys() >= MAC_CLASSES


OUTPUT = """\
count 0 7 100
count 0 8 1
count 2 8 5
block 8 d503201f d65f03c0
block 7 4e829420 3dc00420 4e829420
end 3
"""  # nop and ret; sdot, ldr and sdot


def test_blocks_are_weighed_by_their_executions() -> None:
    first, second, third = parse(OUTPUT)
    assert (first.instructions, first.mac_instructions) == (302, 200)
    assert (first.counts["dot"], first.counts["load"], first.counts["branch"]) == (200, 100, 1)
    assert second.instructions == 0
    assert third.instructions == 10
    assert total((first, second, third)).counts == {
        name: first.counts[name] + third.counts[name] for name in CLASSES
    }


def test_an_output_that_was_cut_off_is_noticed() -> None:
    with pytest.raises(ValueError, match="cut off"):
        parse(OUTPUT.removesuffix("end 3\n"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "end\n",
        "end many\n",
        "end -1\n",
        "end 99999999999\n",
        "count 0 1 5\nend 1\n",  # of a block that there isn't
        "block 1 d503201f\ncount 9 1 5\nend 1\n",
        "block 1 d503201f\ncount -1 1 5\nend 1\n",
        "block 1 nop\nend 1\n",
        "block\nend 1\n",
        "block 1 d503201f\ncount 0 1 many\nend 1\n",
        "block 1 d503201f\ncount 0 1 -5\nend 1\n",
        f"block 1 d503201f\ncount 0 1 {'9' * 5000}\nend 1\n",
    ],
)
def test_what_no_counter_says_is_noticed(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
