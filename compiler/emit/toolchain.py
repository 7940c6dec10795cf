"""The C compiler, linker and archiver: clang and lld from the `ziglang` package, for every target."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from edgec.errors import LimitError, ToolchainError
from edgec.targets.descriptor import Board, Target

C_FLAGS = (
    "-std=gnu11",
    "-g0",  # no paths of the build in the object
    "-fvisibility=hidden",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-Wall",
    "-Wextra",
)
HOSTED_FLAGS = ("-O2", "-fPIC")
FIRMWARE_FLAGS = (
    "-Os",
    "-ffreestanding",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fshort-enums",  # as arm-none-eabi-gcc has them, whose linker warns of a difference
)
ARCH_FLAGS: dict[str, tuple[str, ...]] = {
    "x86-64": (),
    "arm64": ("-mno-outline-atomics",),  # else objects need a helper of compiler-rt or libgcc
    "arm-m": (),
    "riscv32": (),
}
LINK_FLAGS = (
    "-O2",  # else zig adds the run-time library of its sanitizers, and half a minute of building that
    "-s",
    "-Wl,--build-id=none",
    "-lm",
    "-pthread",
)


def compile_c(target: Target, sources: Sequence[str], output: str, folder: Path) -> None:
    """Compile C and assembler files into one relocatable object, for the architecture's baseline.

    Without an operating system, for the very core. Names are relative to `folder`, so that no path gets into
    the bytes. Raises ToolchainError.
    """
    flags = (*C_FLAGS, *(HOSTED_FLAGS if target.hosted else FIRMWARE_FLAGS), *ARCH_FLAGS[target.arch])
    zig(folder, "cc", *_machine(target), *flags, "-c", *sources, "-o", output)


def link_image(target: Target, objects: Sequence[str], script: str, output: str, folder: Path) -> None:
    """Link `objects` into an image for a board, as the linker's `script` says.

    Raises LimitError where it doesn't fit the board, ToolchainError for all else.
    """
    flags = ("-nostdlib", "-static", "-Wl,--gc-sections", "-Wl,--build-id=none", "-T", script)
    try:
        zig(folder, "cc", *_machine(target), *flags, *objects, "-o", output)
    except ToolchainError as error:
        if not isinstance(target.emulator, Board) or not re.search(r"will not fit|doesn't fit", str(error)):
            raise
        board = target.emulator
        raise LimitError(
            f"the image doesn't fit {board.machine}, a stand-in with {board.flash[1] >> 10} KiB of flash and "
            f"{board.ram[1] >> 10} KiB of RAM: take a smaller model, or name another board in a descriptor"
        ) from error


def _machine(target: Target) -> tuple[str, ...]:
    if target.hosted:
        return ("-target", target.c_target)
    core = "+".join([target.cpu, *sorted(target.features)])
    return ("-target", target.c_target, f"-mcpu={re.sub('[-.]', '_', core)}")  # zig's spelling


def link_shared(target: Target, objects: Sequence[str], output: str, folder: Path) -> None:
    """Link `objects` into the shared library `output`. Raises ToolchainError."""
    soname = f"-Wl,-soname,{Path(output).name}"
    zig(folder, "cc", "-target", target.c_target, "-shared", soname, *objects, *LINK_FLAGS, "-o", output)


def link_program(target: Target, objects: Sequence[str], output: str, folder: Path) -> None:
    """Link `objects` into the program `output`, dynamically against the C library. Raises ToolchainError."""
    zig(folder, "cc", "-target", target.c_target, *objects, *LINK_FLAGS, "-o", output)


def archive(objects: Sequence[str], output: str, folder: Path) -> None:
    """Put `objects` into the static library `output`, with no dates or owners. Raises ToolchainError."""
    zig(folder, "ar", "rcsD", output, *objects)


def zig(folder: Path, *arguments: str) -> None:
    """Run zig in `folder`. Raises ToolchainError with the first error that it printed.

    Its local cache stays in `folder`, for it can't see that a file of `.incbin` changed.
    """
    environment = dict(os.environ)
    environment["ZIG_GLOBAL_CACHE_DIR"] = str(Path(platformdirs.user_cache_dir("edgec")) / "zig")
    environment["ZIG_LOCAL_CACHE_DIR"] = str(folder / ".zig-cache")
    result = subprocess.run(
        [str(_executable()), *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if result.returncode != 0:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if "error:" in line), lines[0] if lines else "no message")
        raise ToolchainError(f"zig {arguments[0]} failed with exit code {result.returncode}: {reason}")


def _executable() -> Path:
    """Return the compiler inside the package: `python -m ziglang` would start a second Python first."""
    package = importlib.util.find_spec("ziglang")
    if package is None or not package.submodule_search_locations:
        raise ToolchainError("the C compiler is missing: install it with 'pip install ziglang==0.17.1'")
    folder = Path(package.submodule_search_locations[0])
    return folder / ("zig.exe" if os.name == "nt" else "zig")
