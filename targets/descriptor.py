"""What a device is, as types. A descriptor is data (one TOML file); `loader.py` reads it into these."""

from dataclasses import dataclass, replace
from typing import Literal

from edgec.targets import platforms
from edgec.targets.architectures import ARCHITECTURES, Arch, Architecture
from edgec.targets.platforms import Platform

Precision = Literal["int8", "fp32"]
Requantization = Literal["float32", "fixed-point"]
"""How int32 sums become int8: by IEEE 754, or in integers on a core without an FPU."""


@dataclass(frozen=True)
class Emulator:
    """The program that stands in for a device: exact instruction counts, never milliseconds."""

    program: str
    """Executable, looked up on PATH: `qemu-aarch64`."""
    cpu: str
    """What the program calls the CPU: `cortex-a76`. It refuses instructions that this CPU lacks."""
    sysroot: str
    """Folder with the device's C library, for dynamically linked programs."""


@dataclass(frozen=True)
class Board:
    """A whole machine that stands in for a microcontroller: the image is all that runs on it."""

    program: str
    """Executable, looked up on PATH: `qemu-system-arm`."""
    cpu: str
    """Core of the board, as the program's option `-cpu` takes it: `cortex-m4`."""
    machine: str
    """What the program calls the board: `mps2-an386`."""
    flash: tuple[int, int]
    """Address and bytes of the memory that code and constants are linked to; the vector table comes first."""
    ram: tuple[int, int]
    """Address and bytes of the memory for everything that is written."""


@dataclass(frozen=True)
class Target:
    """One device at one precision, named `<device>-<precision>`."""

    device: str
    precision: Precision
    arch: Arch
    triple: str
    """LLVM target triple of the kernels: `aarch64-linux-gnu`."""
    cpu: str
    """LLVM CPU name, for instruction scheduling only; instructions come from `features`."""
    features: frozenset[str]
    """Instruction-set features beyond the architecture's baseline, spelt as LLVM spells them."""
    vector_bits: int
    vector_registers: int
    l1d_bytes: int
    """0 where there is no cache to count on."""
    l2_bytes: int
    """0 where there is none."""
    cores: int
    c_target: str
    """Target of the C compiler: `aarch64-linux-gnu.2.28` (the suffix is the oldest glibc supported)."""
    emulator: Emulator | Board | None
    variants: tuple["Target", ...] = ()
    """Devices with more features, best first: a bundle carries kernels for each and chooses at start-up."""
    requantization: Requantization = "float32"
    flash_bytes: int | None = None
    """What a build may take of the device's flash; None for no limit."""
    ram_bytes: int | None = None
    """What a build may take of the device's RAM; None for no limit."""

    @property
    def name(self) -> str:
        """`<device>-<precision>`, as the user spells it."""
        return f"{self.device}-{self.precision}"

    @property
    def architecture(self) -> Architecture:
        """What its CPU is a kind of."""
        return ARCHITECTURES[self.arch]

    @property
    def platform(self) -> Platform:
        """What its code runs under."""
        return platforms.of(self.triple, self.arch)

    @property
    def alignment(self) -> int:
        """Bytes that the arena, every array in it and every constant are aligned to."""
        return self.platform.alignment

    @property
    def max_threads(self) -> int:
        """The most threads that one inference may use."""
        return self.platform.max_threads

    @property
    def levels(self) -> tuple["Target", ...]:
        """Every level of features that a bundle has code for, best first; the last is this device's own."""
        return (*self.variants, replace(self, variants=()))
