"""What a device is, as types. A descriptor is data (one TOML file); `loader.py` reads it into these."""

from dataclasses import dataclass, replace


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
class Target:
    """One device at one precision, named `<device>-<precision>`."""

    device: str
    precision: str
    """`int8` or `fp32`."""
    arch: str
    """`x86-64` or `arm64`: the architecture that the runtime's C files ask for."""
    triple: str
    """LLVM target triple of the kernels: `aarch64-linux-gnu`."""
    cpu: str
    """LLVM CPU name, for instruction scheduling only; instructions come from `features`."""
    features: frozenset[str]
    """Instruction-set features beyond the architecture's baseline, spelt as LLVM spells them."""
    vector_bits: int
    vector_registers: int
    l1d_bytes: int
    l2_bytes: int
    cores: int
    c_target: str
    """Target of the C compiler: `aarch64-linux-gnu.2.28` (the suffix is the oldest glibc supported)."""
    emulator: Emulator | None
    variants: tuple["Target", ...] = ()
    """Devices with more features, best first: a bundle carries kernels for each and chooses at start-up."""

    @property
    def name(self) -> str:
        """`<device>-<precision>`, as the user spells it."""
        return f"{self.device}-{self.precision}"

    @property
    def levels(self) -> tuple["Target", ...]:
        """Every level of features that a bundle has code for, best first; the last is this device's own."""
        return (*self.variants, replace(self, variants=()))
