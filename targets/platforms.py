"""What a bundle's code runs under: an operating system, or none at all.

These are the facts that every folder may ask for. How bundles for a platform are made is one file of
compiler/emit/platforms, by the platform's name.
"""

from dataclasses import dataclass

from edgec.targets.architectures import Arch


@dataclass(frozen=True)
class Platform:
    """One system, as targets, kernels and the C around them meet it."""

    name: str
    mark: str
    """What tells its target triples from others': `-linux-`."""
    archs: frozenset[str]
    triples: str
    """What its LLVM triples match, a regular expression."""
    c_targets: str
    """What its targets match as the C compiler writes them, a regular expression."""
    must: str
    """The two in words, for who wrote another: `it must ...`."""
    alignment: int
    """Bytes that the arena, every array in it and every constant are aligned to."""
    max_threads: int
    """The most threads that one inference may use."""
    c_flags: tuple[str, ...]
    """How the C compiler is asked to compile for it."""
    loads_programs: bool
    """Whether a program is a file that it loads; if not, an image is all that runs on the device."""
    has_c_library: bool
    """Whether kernels may call mathematical functions; if not, memcpy and memset alone."""
    tells_features: bool
    """Whether the CPU's features can be looked up there; if not, code is compiled for the very core."""
    memory_is_scarce: bool
    """Whether the model is a guest in KiB of memory: its stack is counted, and inputs may share the arena."""


LINUX = Platform(
    name="linux",
    mark="-linux-",
    archs=frozenset({"x86-64", "arm64"}),
    triples=r"-linux-(gnu|musl)$",
    c_targets=r"-linux-(gnu(\.\d{1,4}){0,3}|musl)$",
    must="it must end with linux-gnu or linux-musl: edgec builds for Linux, or for no system at all",
    alignment=64,  # a cache line, which is the widest vector too
    max_threads=32,
    c_flags=("-O2", "-fPIC"),
    loads_programs=True,
    has_c_library=True,
    tells_features=True,
    memory_is_scarce=False,
)
BAREMETAL = Platform(
    name="baremetal",
    mark="-none-",
    archs=frozenset({"x86-64", "arm64", "arm-m", "riscv32"}),
    triples=r"-none-(eabi|eabihf|elf)$",
    c_targets=r"-freestanding-\w+$",
    must="it must name no system",
    alignment=8,  # what `ldrd` and a 64-bit bus want, and no byte of RAM more
    max_threads=1,
    c_flags=(
        "-Os",
        "-ffreestanding",
        "-ffunction-sections",
        "-fdata-sections",
        "-fno-unwind-tables",
        "-fshort-enums",  # as arm-none-eabi-gcc has them, whose linker warns of a difference
    ),
    loads_programs=False,
    has_c_library=False,
    tells_features=False,
    memory_is_scarce=True,
)
PLATFORMS = (LINUX, BAREMETAL)
"""All of them; a triple that none marks is judged by the first of its architecture."""


def of(triple: str, arch: Arch) -> Platform:
    """Return the platform that a triple means, else the first for the architecture, else Linux."""
    marked = (platform for platform in PLATFORMS if platform.mark in triple and arch in platform.archs)
    return next(marked, None) or next((each for each in PLATFORMS if arch in each.archs), LINUX)
