"""Classes of Thumb instructions, by encoding: what `instructions.py` says of A64, for M-profile cores.

An encoding of 32 bits has its first halfword on top, as the Architecture Reference Manuals of Armv7-M and
Armv8-M print it (DDI 0403, DDI 0553): it is never below 0xe8000000, and one of 16 bits never above 0xe7ff.
"""

from functools import cache

from edgec.bench.measure.instructions import (
    BRANCH,
    DUAL_MAC,
    FLOAT,
    FLOAT_MAC,
    HELIUM_MAC,
    INTEGER_MAC,
    LOAD,
    SCALAR,
    STORE,
    VECTOR,
)

_NARROW: tuple[tuple[int, int, str], ...] = (
    (0xFFC0, 0x4340, INTEGER_MAC),  # mul
    (0xFF00, 0x4700, BRANCH),  # bx, blx
    (0xF800, 0x4800, LOAD),  # ldr, literal
    (0xFE00, 0x5600, LOAD),  # ldrsb, register
    (0xF800, 0x5000, STORE),  # str, strh, strb, register
    (0xF800, 0x5800, LOAD),  # ldr, ldrh, ldrb, ldrsh, register
    (0xE800, 0x6000, STORE),  # str, strb, immediate
    (0xE800, 0x6800, LOAD),  # ldr, ldrb, immediate
    (0xE800, 0x8000, STORE),  # strh, immediate; str, relative to sp
    (0xF800, 0x8800, LOAD),  # ldrh, immediate
    (0xF800, 0x9800, LOAD),  # ldr, relative to sp
    (0xFE00, 0xB400, STORE),  # push
    (0xFE00, 0xBC00, LOAD),  # pop
    (0xF500, 0xB100, BRANCH),  # cbz, cbnz
    (0xF800, 0xC000, STORE),  # stm
    (0xF800, 0xC800, LOAD),  # ldm
    (0xF000, 0xD000, BRANCH),  # b, conditional
    (0xF800, 0xE000, BRANCH),  # b
)

_WIDE: tuple[tuple[int, int, str], ...] = (
    # Multiplies: 1111 1011 op1 ...
    (0xFFF000F0, 0xFB9000F0, SCALAR),  # sdiv
    (0xFFF000F0, 0xFBB000F0, SCALAR),  # udiv
    (0xFFF00000, 0xFB700000, SCALAR),  # usad8, usada8
    (0xFFF000C0, 0xFB200000, DUAL_MAC),  # smlad, smuad
    (0xFFF000C0, 0xFB400000, DUAL_MAC),  # smlsd, smusd
    (0xFFF000E0, 0xFBC000C0, DUAL_MAC),  # smlald
    (0xFFF000E0, 0xFBD000C0, DUAL_MAC),  # smlsld
    (0xFF000000, 0xFB000000, INTEGER_MAC),  # mul, mla, mls, smlabb, smlawb, smmla, smull, smlal, umull, ...
    # Branches, and what lies between them
    (0xFFC0F801, 0xF000E801, VECTOR),  # vctp
    (0xFB80D000, 0xF3808000, SCALAR),  # msr, mrs, hints, barriers
    (0xF8008000, 0xF0008000, BRANCH),  # b, bl, low-overhead loops (dls, wls, le)
    (0xFFF0FFE0, 0xE8D0F000, BRANCH),  # tbb, tbh
    # Loads and stores of the core
    (0xFE70F000, 0xF810F000, SCALAR),  # pld
    (0xFE100000, 0xF8100000, LOAD),  # ldr, ldrb, ldrh, ldrsb, ldrsh
    (0xFF100000, 0xF8000000, STORE),  # str, strb, strh
    (0xFE100000, 0xE8100000, LOAD),  # ldm, ldrd, ldrex
    (0xFE100000, 0xE8000000, STORE),  # stm, strd, strex
    # Floating point: coprocessors 9 to 11
    (0xFFA00E00, 0xEC000E00, VECTOR),  # vmov of two lanes
    (0xFFE00E00, 0xEC400A00, FLOAT),  # vmov of two registers
    (0xFE100C00, 0xEC100800, LOAD),  # vldr, vldm
    (0xFE100C00, 0xEC000800, STORE),  # vstr, vstm
    (0xFFB00C10, 0xEE000800, FLOAT_MAC),  # vmla, vmls
    (0xFFB00C10, 0xEE100800, FLOAT_MAC),  # vnmla, vnmls
    (0xFFB00C10, 0xEE900800, FLOAT_MAC),  # vfnma, vfnms
    (0xFFB00C10, 0xEEA00800, FLOAT_MAC),  # vfma, vfms
    (0xEF000C00, 0xEE000800, FLOAT),
    # Helium
    (0xEE100E00, 0xEC100E00, LOAD),  # vldrb, vldrh, vldrw, vld2, vld4
    (0xEE100E00, 0xEC000E00, STORE),  # vstrb, vstrh, vstrw, vst2, vst4
    (0xEF830F51, 0xEE810F00, VECTOR),  # vaddv, vaddlv
    (0xEFF30F50, 0xEEE20F00, VECTOR),  # vmaxv
    (0xEF800E50, 0xEE800E00, HELIUM_MAC),  # vmladav, vmlaldav, vmlsdav, vrmlaldavh
    (0xEFB10F70, 0xEE310E40, FLOAT_MAC),  # vfma, vfmas, by a scalar
    (0xEFB11F70, 0xEE310E60, VECTOR),  # vmul of floats, by a scalar
    (0xEF800F50, 0xEE000E40, HELIUM_MAC),  # vmla, vmlas, vqdmlah, vmul, vqdmulh, by a scalar
    (0xEFB10F50, 0xEE310E00, VECTOR),  # vmovn, vqmovn, vqmovun
    (0xEF810F50, 0xEE010E00, HELIUM_MAC),  # vmull, vmulh, vrmulh
    (0xFF811F51, 0xEF000950, HELIUM_MAC),  # vmul
    (0xEF811F51, 0xEF000B40, HELIUM_MAC),  # vqdmulh, vqrdmulh
    (0xFF811F51, 0xEF000C50, FLOAT_MAC),  # vfma, vfms
    (0xEE000000, 0xEE000000, VECTOR),
)


@cache
def classify(encoding: int) -> str:
    """Return the class of one Thumb instruction."""
    table = _NARROW if encoding < 0x10000 else _WIDE
    return next((name for mask, value, name in table if encoding & mask == value), SCALAR)
