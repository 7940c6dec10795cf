"""What an architecture is: one row each, which all that depends on it asks.

A descriptor may name the features here and no others. Under Linux each can be looked up on the device before
the bundle's first instruction that needs it, so that a wrong CPU is an error message and never an illegal
instruction. An image for a microcontroller is made for one core: what that lacks, its linker or its first
fault would say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Arch = Literal["x86-64", "arm64", "arm-m", "riscv32"]
"""As targets' files spell it."""


@dataclass(frozen=True)
class Architecture:
    """One kind of CPU, as targets, kernels and the C around them meet it."""

    name: Arch
    prefix: str
    """How its LLVM triples begin, and its targets as the C compiler writes them."""
    machines: tuple[str, ...]
    """What `platform.machine()` says of it, where edgec itself runs on it."""
    baseline_cpu: str
    """LLVM's name of the plainest: no instruction beyond the baseline."""
    c_flags: tuple[str, ...]
    """How the C compiler is asked to compile for it."""
    cpu_header: str | None
    """The file of kernels/runtime that looks features up; None where there is no system to ask."""
    features: Mapping[str, str]
    """LLVM's name of a feature beyond the baseline -> its flag in /proc/cpuinfo, or ""."""


X86_64 = Architecture(
    name="x86-64",
    prefix="x86_64-",
    machines=("x86_64", "AMD64"),
    baseline_cpu="x86-64",
    c_flags=(),
    cpu_header="cpu_x86_64.h",
    features={
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
)
ARM64 = Architecture(
    name="arm64",
    prefix="aarch64-",
    machines=("aarch64", "arm64", "ARM64"),
    baseline_cpu="generic",
    c_flags=("-mno-outline-atomics",),  # else objects need a helper of compiler-rt or libgcc
    cpu_header="cpu_arm64.h",
    features={
        "bf16": "bf16",
        "crc": "crc32",
        "dotprod": "asimddp",
        "fullfp16": "asimdhp",
        "i8mm": "i8mm",
        "lse": "atomics",
        "rcpc": "lrcpc",
        "rdm": "asimdrdm",
    },
)
ARM_M = Architecture(
    name="arm-m",
    prefix="thumb",
    machines=(),
    baseline_cpu="generic",
    c_flags=(),
    cpu_header=None,
    features={
        "dsp": "",
        "fp-armv8d16": "",
        "fp-armv8d16sp": "",
        "mve": "",
        "mve.fp": "",
        "thumb2": "",
        "vfp4d16sp": "",
    },
)
RISCV32 = Architecture(
    name="riscv32",
    prefix="riscv32",
    machines=(),
    baseline_cpu="generic-rv32",
    c_flags=(),
    cpu_header=None,
    features={
        "a": "",
        "c": "",
        "m": "",
    },
)
ARCHITECTURES: Mapping[str, Architecture] = {each.name: each for each in (X86_64, ARM64, ARM_M, RISCV32)}
"""All of them, by name."""

INT8 = ("avx2", "avxvnni", "avx512vnni", "dotprod", "i8mm", "dsp", "mve")
"""Those that bring instructions for int8 products, better ones later: what tells devices apart."""
