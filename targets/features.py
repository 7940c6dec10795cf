"""The instruction-set features edgec knows, and what the Linux kernel calls them.

A descriptor may name these and no others. Under Linux each can be looked up on the device before the bundle's
first instruction that needs it, so that a wrong CPU is an error message and never an illegal instruction. An
image for a microcontroller is made for one core: what that lacks, its linker or its first fault would say.
"""

FEATURES: dict[str, dict[str, str]] = {
    "x86-64": {
        "avx": "avx",
        "avx2": "avx2",
        "avx512bw": "avx512bw",
        "avx512cd": "avx512cd",
        "avx512dq": "avx512dq",
        "avx512f": "avx512f",
        "avx512vl": "avx512vl",
        "avx512vnni": "avx512_vnni",
        "avxvnni": "avx_vnni",
        "bmi": "bmi1",
        "bmi2": "bmi2",
        "cx16": "cx16",
        "f16c": "f16c",
        "fma": "fma",
        "lzcnt": "abm",
        "movbe": "movbe",
        "popcnt": "popcnt",
        "sahf": "lahf_lm",
        "sse3": "pni",
        "sse4.1": "sse4_1",
        "sse4.2": "sse4_2",
        "ssse3": "ssse3",
    },
    "arm64": {
        "bf16": "bf16",
        "crc": "crc32",
        "dotprod": "asimddp",
        "fullfp16": "asimdhp",
        "i8mm": "i8mm",
        "lse": "atomics",
        "rcpc": "lrcpc",
        "rdm": "asimdrdm",
    },
    "arm-m": {
        "dsp": "",
        "fp-armv8d16": "",
        "fp-armv8d16sp": "",
        "mve": "",
        "mve.fp": "",
        "thumb2": "",
        "vfp4d16sp": "",
    },
    "riscv32": {
        "a": "",
        "c": "",
        "m": "",
    },
}
"""Per architecture: LLVM's name of a feature beyond the baseline -> its flag in /proc/cpuinfo, or ""."""

INT8 = ("avx2", "avxvnni", "avx512vnni", "dotprod", "i8mm", "dsp", "mve")
"""Those that bring instructions for int8 products, better ones later: what tells devices apart."""
