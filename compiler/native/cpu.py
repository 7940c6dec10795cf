"""How the driver asks a CPU for each instruction-set feature: one line of its table per feature."""

from edgec.errors import TargetError
from edgec.targets.descriptor import Target

YMM = 0x06
"""XCR0 bits that the operating system must set before AVX registers may be used: SSE and AVX state."""
ZMM = 0xE6
"""XCR0 bits that must be set before AVX-512's registers may be used: opmask, upper halves and upper sixteen
registers besides."""

X86_64 = {
    "avx": (1, 0, "ECX", 28, YMM),
    "avx2": (7, 0, "EBX", 5, YMM),
    "avx512bw": (7, 0, "EBX", 30, ZMM),
    "avx512cd": (7, 0, "EBX", 28, ZMM),
    "avx512dq": (7, 0, "EBX", 17, ZMM),
    "avx512f": (7, 0, "EBX", 16, ZMM),
    "avx512vl": (7, 0, "EBX", 31, ZMM),
    "avx512vnni": (7, 0, "ECX", 11, ZMM),
    "avxvnni": (7, 1, "EAX", 4, YMM),
    "bmi": (7, 0, "EBX", 3, 0),
    "bmi2": (7, 0, "EBX", 8, 0),
    "cx16": (1, 0, "ECX", 13, 0),
    "f16c": (1, 0, "ECX", 29, YMM),
    "fma": (1, 0, "ECX", 12, YMM),
    "lzcnt": (0x80000001, 0, "ECX", 5, 0),
    "movbe": (1, 0, "ECX", 22, 0),
    "popcnt": (1, 0, "ECX", 23, 0),
    "sahf": (0x80000001, 0, "ECX", 0, 0),
    "sse3": (1, 0, "ECX", 0, 0),
    "sse4.1": (1, 0, "ECX", 19, 0),
    "sse4.2": (1, 0, "ECX", 20, 0),
    "ssse3": (1, 0, "ECX", 9, 0),
}
"""LLVM name -> CPUID leaf, subleaf, register, bit, XCR0 state (Intel SDM volume 2A, CPUID)."""

ARM64 = {
    "bf16": ("AT_HWCAP2", 14),
    "crc": ("AT_HWCAP", 7),
    "dotprod": ("AT_HWCAP", 20),
    "fullfp16": ("AT_HWCAP", 10),
    "i8mm": ("AT_HWCAP2", 13),
    "lse": ("AT_HWCAP", 8),
    "rcpc": ("AT_HWCAP", 15),
    "rdm": ("AT_HWCAP", 12),
}
"""LLVM name -> word of the auxiliary vector, bit (Linux, arch/arm64/include/uapi/asm/hwcap.h)."""


def table(target: Target) -> list[str]:
    """Return the C initializers of `target`'s features.

    None without an operating system to ask: an image is made for one core. Raises TargetError for a feature
    that can't be looked up.
    """
    looked_up = sorted(target.features) if target.platform.tells_features else []
    return [_row(target, feature) for feature in looked_up]


def _row(target: Target, feature: str) -> str:
    if target.arch == "x86-64" and feature in X86_64:
        leaf, subleaf, register, bit, state = X86_64[feature]
        index = ("EAX", "EBX", "ECX", "EDX").index(register)
        return f'{{ "{feature}", {leaf:#x}, {subleaf}, {index}, {bit}, {state:#x} }}'
    if target.arch == "arm64" and feature in ARM64:
        word, bit = ARM64[feature]
        return f'{{ "{feature}", {word}, {bit} }}'
    raise TargetError(
        f"target '{target.name}': feature '{feature}' can't be looked up on an {target.arch} CPU; "
        f"remove it from the descriptor"
    )
