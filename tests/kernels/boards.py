"""Images of kernels for a microcontroller's board, run in the emulator."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from edgec.compiler.native import toolchain
from edgec.kernels.codegen import software
from edgec.targets.descriptor import Board, Target

_DRIVER = Path(__file__).parent / "board.c"
_ARITHMETIC = Path(software.__file__).parents[1] / "runtime" / software.SOURCE
_STACK_BYTES = 16384
# The driver's own code is for the least of these cores with division: the kernels' is what is tried.
_LEAST_CORES = {
    "arm-m": ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m3"),
    "riscv32": ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+a+c+m"),
}
_SECONDS = 300


def run(
    target: Target, board: Board, kernels: Mapping[int, Path], callees: Sequence[Path], folder: Path
) -> None:
    """Run the calls of `folder`/input.bin, of kernels by their numbers; their output is output.bin.

    `callees` are what kernels call. Fails the test when a kernel faults, or writes what isn't its own.
    """
    program = shutil.which(board.program)
    if program is None:
        pytest.skip(f"{board.program} is missing")
    image = _linked(target, board, kernels, callees, folder)
    command = [
        program, "-machine", board.machine, "-cpu", board.cpu, "-bios", "none",
        "-display", "none", "-monitor", "none", "-serial", "none",
        "-semihosting-config", "enable=on,target=native", "-kernel", image,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr.strip()}"


def _linked(
    target: Target, board: Board, kernels: Mapping[int, Path], callees: Sequence[Path], folder: Path
) -> Path:
    driver, core = folder / f"board-{target.arch}.o", _LEAST_CORES[target.arch]
    if not driver.exists():
        shutil.copy(_DRIVER, folder)
        flags = (
            "-std=gnu11",
            "-O2",
            "-g0",
            "-ffreestanding",
            "-fno-builtin",
            "-fno-unwind-tables",
            "-Wall",
            "-Wextra",
        )
        toolchain.zig(folder, "cc", *core, *flags, "-c", _DRIVER.name, "-o", driver.name)
    (folder / "rows.s").write_text(_rows(kernels))
    toolchain.zig(folder, "cc", *core, "-c", "rows.s", "-o", "rows.o")
    (folder / "board.ld").write_text(_script(board))
    objects = [driver.name, "rows.o", *(path.name for path in (*kernels.values(), *callees))]
    if software.functions(target):
        shutil.copy(_ARITHMETIC, folder)
        toolchain.compile_c(target, [_ARITHMETIC.name], "arithmetic.o", folder)
        objects.append("arithmetic.o")
    toolchain.zig(folder, "ld.lld", "-T", "board.ld", *objects, "-o", "image.elf")
    return folder / "image.elf"


def _rows(kernels: Mapping[int, Path]) -> str:
    """The driver's table, in assembler: it is made anew for every image."""
    rows = [f".quad {number}\n.word kernel_{number}, 0\n" for number in kernels]
    return f'.section .rodata, "a"\n.global kernels\n.balign 8\nkernels:\n{"".join(rows)}.quad 0, 0\n'


def _script(board: Board) -> str:
    """Vectors and code in flash; in RAM what the driver writes, then the stack, then memory for buffers."""
    (flash, flash_bytes), (ram, ram_bytes) = board.flash, board.ram
    return f"""
MEMORY {{
  flash (rx) : ORIGIN = {flash:#x}, LENGTH = {flash_bytes:#x}
  ram (rwx) : ORIGIN = {ram:#x}, LENGTH = {ram_bytes:#x}
}}
SECTIONS {{
  .text : {{ KEEP(*(.vectors)) *(.text*) *(.rodata*) }} > flash
  .bss (NOLOAD) : {{ *(.data*) *(.bss*) . = ALIGN(64); . += {_STACK_BYTES}; memory_begin = .; }} > ram
  memory_end = {ram + ram_bytes:#x};
  /DISCARD/ : {{ *(.ARM.*) }}
}}
"""
