"""The C compiler, linker and archiver: clang and lld from the `ziglang` package, for every target."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgec import cache, processes
from edgec.compiler.native import c_cache
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
LINK_FLAGS = (
    "-O2",  # else zig adds the run-time library of its sanitizers, and half a minute of building that
    "-s",
    "-Wl,--build-id=none",
    "-lm",
    "-pthread",
)

_SECONDS = 30 * 60
"""How long one call may take: a minute on a small board with nothing cached; what takes so long hangs."""
_NO_SPACE = 1 << 16
"""Free bytes under which a failure is for want of them: the compiler's own message doesn't say so."""
_running: "set[subprocess.Popen[str]]" = set()


def compile_c(target: Target, sources: Sequence[str], output: str, folder: Path) -> None:
    """Compile C and assembler files into one relocatable object, for the architecture's baseline.

    Without an operating system, for the very core. Names are relative to `folder`, so that no path gets into
    the bytes. Raises ToolchainError.
    """
    flags = (*C_FLAGS, *target.platform.c_flags, *target.architecture.c_flags)
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
    if target.platform.tells_features:  # before the first instruction that the baseline lacks
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

    Its local cache stays in `folder`, for it can't see that a file of `.incbin` changed. It runs in a process
    group of its own: Ctrl-C in a terminal stops edgec, and edgec what it has begun (`stop`).
    """
    tool = "the archiver" if arguments[0] == "ar" else "the C compiler"
    shared = c_cache.folder(cache.folder() / "zig", _SECONDS)
    c_cache.use(shared)
    environment = dict(os.environ)
    environment["ZIG_GLOBAL_CACHE_DIR"] = str(shared)
    environment["ZIG_LOCAL_CACHE_DIR"] = str(folder / ".zig-cache")
    for variable in ("TMPDIR", "TMP", "TEMP"):  # the caller's folder may be missing, or full
        environment[variable] = str(folder)
    try:
        process = subprocess.Popen(
            [str(_executable()), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            process_group=0,
        )
    except OSError as error:
        raise ToolchainError(f"{tool} can't be started: {error.strerror or error}") from error
    _running.add(process)
    with process:
        try:
            _, said = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise ToolchainError(f"{tool} did not end within {_SECONDS // 60} minutes") from None
        finally:
            _running.discard(process)
            _kill(process)
    if process.returncode == 0:
        return
    for place in (folder, shared):
        if shutil.disk_usage(place).free < _NO_SPACE:
            raise ToolchainError(f"{tool} failed: no space left on the device of {place}")
    if process.returncode < 0:
        raise ToolchainError(f"{tool} died of signal {-process.returncode}")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = next((line for line in lines if "error:" in line), lines[0] if lines else "no message")
    reason = reason.removeprefix("zig: ").removeprefix("error: ")
    raise ToolchainError(f"{tool} failed with exit code {process.returncode}: {reason}")


def stop() -> None:
    """End what other threads run, for their results aren't wanted any more."""
    for process in tuple(_running):
        _kill(process)


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        processes.end(process)


def _executable() -> Path:
    """Return the compiler inside the package: `python -m ziglang` would start a second Python first."""
    package = importlib.util.find_spec("ziglang")
    if package is None or not package.submodule_search_locations:
        raise ToolchainError("the C compiler is missing: install it with 'pip install ziglang==0.17.1'")
    folder = Path(package.submodule_search_locations[0])
    return folder / ("zig.exe" if os.name == "nt" else "zig")
