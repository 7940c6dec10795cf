"""Classes of Thumb instructions, on what an assembler says they are."""

import pytest

from edgec.bench.measure.instructions import CLASSES, DUAL_MAC, LOAD, parse
from edgec.bench.measure.thumb import classify
from tests.bench.listing import listed

# As `llvm-mc-19 -triple=thumbv8.1m.main -mattr=+mve.fp,+fp64,+dsp,+lob -show-encoding` assembles them.
ASSEMBLED = """
# helium_mac
eef00f02 vmlav.s8 r0, q0, q1
eef00f22 vmlava.s8 r0, q0, q1
fefe2f2c vmlava.u8 r2, q7, q6
eef01f22 vmladavax.s8 r0, q0, q1
fef00e23 vmlsdava.s8 r0, q0, q1
eef00e22 vmlava.s16 r0, q0, q1
eef70e22 vmlava.s32 r0, q3, q1
fef0ce22 vmlava.u16 r12, q0, q1
ee800e02 vmlalv.s16 r0, r1, q0, q1
ee850e2a vmlalva.s32 r0, r1, q2, q5
ee800f02 vrmlalvh.s32 r0, r1, q0, q1
ee030e40 vmla.i8 q0, q1, r0
ee136e40 vmla.i16 q3, q1, r0
ee231e40 vmlas.i32 q0, q1, r0
ef020954 vmul.i8 q0, q1, q2
ef220954 vmul.i32 q0, q1, q2
ee131e63 vmul.i16 q0, q1, r3
ee130e05 vmulh.s16 q0, q1, q2
ee231e05 vrmulh.s32 q0, q1, q2
ef220b44 vqdmulh.s32 q0, q1, q2
fe230e62 vqrdmulh.s32 q0, q1, r2
ee220e62 vqdmlah.s32 q0, q1, r2
ee030e04 vmullb.s8 q0, q1, q2
ee131e04 vmullt.s16 q0, q1, q2
fe030e04 vmullb.u8 q0, q1, q2
# dual_mac
fb213002 smlad r0, r1, r2, r3
fb21f002 smuad r0, r1, r2
fb213012 smladx r0, r1, r2, r3
fb413002 smlsd r0, r1, r2, r3
fbc201c3 smlald r0, r1, r2, r3
fbd201c3 smlsld r0, r1, r2, r3
# integer_mac
fb113002 smlabb r0, r1, r2, r3
fb11f002 smulbb r0, r1, r2
fb013002 mla r0, r1, r2, r3
fb013012 mls r0, r1, r2, r3
fb01f802 mul r8, r1, r2
4348 muls r0, r1, r0
fb820103 smull r0, r1, r2, r3
fbc20103 smlal r0, r1, r2, r3
fba20103 umull r0, r1, r2, r3
fbe20103 umlal r0, r1, r2, r3
fb51f002 smmul r0, r1, r2
# float_mac
ee000a81 vmla.f32 s0, s1, s2
eea00a81 vfma.f32 s0, s1, s2
eea00ac1 vfms.f32 s0, s1, s2
ee100ac1 vnmla.f32 s0, s1, s2
ee900ac1 vfnma.f32 s0, s1, s2
eea10b02 vfma.f64 d0, d1, d2
ef020c54 vfma.f32 q0, q1, q2
ef220c54 vfms.f32 q0, q1, q2
ee330e42 vfma.f32 q0, q1, r2
ef120c54 vfma.f16 q0, q1, q2
# load
4b01 ldr r3, [pc, #4]
5888 ldr r0, [r1, r2]
5688 ldrsb r0, [r1, r2]
5c88 ldrb r0, [r1, r2]
6848 ldr r0, [r1, #4]
7848 ldrb r0, [r1, #1]
8848 ldrh r0, [r1, #2]
9801 ldr r0, [sp, #4]
bd10 pop {r4, pc}
c906 ldm r1, {r1, r2}
f8d10080 ldr.w r0, [r1, #128]
f9910001 ldrsb.w r0, [r1, #1]
f8110f01 ldrb r0, [r1, #1]!
e9d10100 ldrd r0, r1, [r1]
e8b10006 ldm.w r1!, {r1, r2}
ed900a00 vldr s0, [r0]
ecb00a04 vldmia r0!, {s0, s1, s2, s3}
ed901e00 vldrb.u8 q0, [r0]
ecb00f04 vldrb.s32 q0, [r0], #4
fc900f02 vldrb.u32 q0, [r0, q1]
fd921e01 vldrw.u32 q0, [q1, #4]
fc901f61 vld43.32 {q0, q1, q2, q3}, [r0]
# store
5088 str r0, [r1, r2]
5488 strb r0, [r1, r2]
6048 str r0, [r1, #4]
7048 strb r0, [r1, #1]
8048 strh r0, [r1, #2]
9001 str r0, [sp, #4]
b510 push {r4, lr}
f8c10080 str.w r0, [r1, #128]
e9c10100 strd r0, r1, [r1]
e92d4ff0 push.w {r4, r5, r6, r7, r8, r9, r10, r11, lr}
ed800a00 vstr s0, [r0]
ed2d8b08 vpush {d8, d9, d10, d11}
ed801e00 vstrb.8 q0, [r0]
ec800f02 vstrb.32 q0, [r0, q1]
fc801e00 vst20.8 {q0, q1}, [r0]
# branch
4770 bx lr
4798 blx r3
b118 cbz r0, #6
d0fe beq #-4
e7fe b #-4
f000f800 bl #0
f0008000 beq.w #0
f7ffbffe b.w #-4
f040e001 dls lr, r0
f00fc001 le lr, #-4
e8d0f001 tbb [r0, r1]
# vector
ef220844 vadd.i32 q0, q1, q2
ee230f42 vadd.i32 q0, q1, r2
eef90f02 vaddv.s32 r0, q1
ff020d54 vmul.f32 q0, q1, q2
ee330e62 vmul.f32 q0, q1, r2
ffbb0642 vcvt.f32.s32 q0, q1
ee370e03 vqmovnb.s32 q0, q1
ec120f01 vmov q0[2], q0[0], r1, r2
fe710f4d vpst
f000e801 vctp.8 lr
# float
ee200a81 vmul.f32 s0, s1, s2
ee300a81 vadd.f32 s0, s1, s2
eeb80ae0 vcvt.f32.s32 s0, s1
ee000a10 vmov s0, r0
ec510b10 vmov r0, r1, d0
eef1fa10 vmrs APSR_nzcv, fpscr
# scalar
bf00 nop
1888 adds r0, r1, r2
b082 sub sp, #8
f3af8000 nop.w
f3bf8f5f dmb
fb91f0f2 sdiv r0, r1, r2
fbb1f0f2 udiv r0, r1, r2
fb71f002 usad8 r0, r1, r2
fa2ff081 sxtb16 r0, r1
ea4f10f0 ror.w r0, r0, #7
"""


@pytest.mark.parametrize(("encoding", "text", "name"), listed(ASSEMBLED), ids=lambda value: str(value))
def test_an_instruction_is_of_the_class_it_is_listed_under(encoding: int, text: str, name: str) -> None:
    assert name in CLASSES
    assert classify(encoding) == name, text


def test_regions_are_counted_by_the_cores_own_classes() -> None:
    (region,) = parse("block 0 fb213002 6848\ncount 0 0 5\nend 1\n", classify)
    assert {name: count for name, count in region.counts.items() if count} == {DUAL_MAC: 5, LOAD: 5}
    assert region.mac_instructions == 5
