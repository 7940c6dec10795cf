"""No operating system: a library for firmware, and an image for the board that stands in for the device."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from edgec.compiler.emit.footprint import measure
from edgec.compiler.emit.platforms.board import SCRIPT, STARTUP, board_sources
from edgec.compiler.emit.platforms.emission import Jobs, Parts, Sizes
from edgec.compiler.emit.platforms.linux import PACKAGES
from edgec.compiler.native import toolchain
from edgec.errors import ToolchainError
from edgec.kernels.codegen import elf
from edgec.targets.descriptor import Target

FIRMWARE_PACKAGES = {
    "arduino/library.properties": "library.properties.jinja",
    "example/main.c": "main.c.jinja",
    "example/serial.c": "serial.c.jinja",
    "zephyr/CMakeLists.txt": "zephyr_CMakeLists.txt.jinja",
    "zephyr/module.yml": "zephyr_module.yml.jinja",
}
"""Path in the bundle -> template of kernels/runtime/packages."""
CORTEX_M_PACKAGES = {"edgec.{name}.pdsc": "package.pdsc.jinja"}
"""Path in the bundle -> template, for Arm's cores alone, which CMSIS is for."""
_WORDS = 6
"""uint32 of the driver's state without the caller's pointers."""


class Baremetal:
    """How bundles for microcontrollers are made: with packages for firmware, and an image to measure."""

    bench = "bench_image.c.jinja"

    def sources(self, target: Target, identifier: str, arrays_bytes: int) -> dict[str, str]:
        """Return what an image needs to start, where a board stands in for the device."""
        return board_sources(target, identifier, arrays_bytes)

    def packages(self, target: Target) -> Mapping[str, str]:
        """Return those of firmware's build systems besides."""
        return PACKAGES | FIRMWARE_PACKAGES | (CORTEX_M_PACKAGES if target.arch == "arm-m" else {})

    def facts(self, target: Target) -> Mapping[str, object]:
        """Return the user's compiler, and what the library fits."""
        return {"gcc": _gcc(target), "pack": _pack(target)}

    def context_words(self, pointers: int) -> int:
        """Return fewer: there is no pool, and a word has 32 bits."""
        return -(-(_WORDS + pointers) // 2)

    def bench_units(self, identifier: str, sources: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the image's, where there is a board for one."""
        if STARTUP not in sources:
            return {}
        return {f"{identifier}_bench.o": [f"{identifier}_bench.c"], "startup.o": [STARTUP]}

    def links(self, target: Target, identifier: str, parts: Parts) -> Jobs:
        """Return what makes the image."""
        _check_needs(f"lib{identifier}.a", parts.read(parts.library))
        image = f"../bin/{identifier}-bench"
        link = partial(toolchain.link_image, target, parts.program, SCRIPT, image, parts.folder)
        return [link] if parts.bench else []

    def sizes(self, target: Target, identifier: str, parts: Parts) -> Sizes:
        """Return what a linker keeps of the library, and the deepest stack."""
        footprint = measure(parts.read(parts.library), identifier, target.arch)
        return Sizes(footprint.code, footprint.stack)

    def finish(self, target: Target, identifier: str, folder: Path) -> None:
        """Copy header and library to where Arduino's builder looks for a core's precompiled libraries."""
        library = folder / "arduino" / "src" / target.cpu
        library.mkdir(parents=True)
        shutil.copy(folder / "include" / f"{identifier}.h", library.parent)
        shutil.copy(folder / "lib" / f"lib{identifier}.a", library)


def _check_needs(library: str, objects: Sequence[bytes]) -> None:
    """Raise ToolchainError where a library asks for more than a program without a C library has."""
    defined = set[str]().union(*map(elf.defined_symbols, objects))
    for symbol in sorted(set[str]().union(*map(elf.undefined_symbols, objects)) - defined - elf.FREESTANDING):
        raise ToolchainError(
            f"{library} needs '{symbol}', which firmware doesn't have: a bug of edgec, report it"
        )


def _gcc(target: Target) -> str:
    """Return the command of a gcc for the core, told what makes its calls fit the library's."""
    if target.arch == "riscv32":
        extensions = "".join(letter for letter in "mafdc" if letter in target.features)
        return f"riscv64-unknown-elf-gcc -march=rv32i{extensions} -mabi=ilp32"
    hard = target.c_target.endswith("hf")
    return f"arm-none-eabi-gcc -mthumb -mcpu={target.cpu} -mfloat-abi={'hard' if hard else 'soft'}"


def _pack(target: Target) -> Mapping[str, object]:
    """Return what a CMSIS-Pack's condition says of the devices that the library fits."""
    optional = {"dsp": ("Ddsp", "DSP"), "mve.fp": ("Dmve", "FP_MVE")} if "thumbv8" in target.triple else {}
    return {
        "core": f"Cortex-{target.cpu.removeprefix('cortex-').upper().replace('PLUS', '+')}",
        "fpus": ("SP_FPU", "DP_FPU") if target.c_target.endswith("hf") else (),
        "required": [value for feature, value in optional.items() if feature in target.features],
    }
