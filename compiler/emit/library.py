"""Compile the driver and link a bundle's libraries and bench program."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgec.compiler.emit.board import SCRIPT, STARTUP
from edgec.compiler.emit.driver import Driver
from edgec.compiler.emit.footprint import measure
from edgec.compiler.native import toolchain
from edgec.errors import ToolchainError
from edgec.kernels.codegen import elf, software
from edgec.targets.descriptor import Target


@dataclass(frozen=True)
class Sizes:
    """What a library takes, in bytes."""

    code: int
    """Kernels and driver with their own constants: no weights, self-test or bench program."""
    stack: int | None
    """Bytes of stack that one inference takes at most; None under an operating system."""


def build(folder: Path, identifier: str, target: Target, c: Driver, kernels: Sequence[bytes]) -> Sizes:
    """Make lib/ and bin/ in `folder` from the driver's C and the kernels' objects; return their sizes.

    Without an operating system there is no shared library, and the bench program is an image for the board
    that stands in for the device, if one does. Raises ToolchainError.
    """
    work = Path(tempfile.mkdtemp(prefix="work-", dir=folder))
    for file, text in (c.sources | c.assembly).items():
        (work / file).write_text(text, encoding="utf-8", newline="\n")
    for file, data in c.blobs.items():
        (work / file).write_bytes(data)
    kernel_files = [f"{identifier}_kernel_{index}.o" for index in range(len(kernels))]
    for file, data in zip(kernel_files, kernels, strict=True):
        (work / file).write_bytes(data)
    for made in ("lib", "bin"):
        (folder / made).mkdir()

    units = {
        f"{identifier}.o": [f"{identifier}.c"],
        f"{identifier}_weights.o": [f"{identifier}_weights.S"],
        f"{identifier}_selftest.o": [f"{identifier}_selftest.c", f"{identifier}_golden.S"],
    }
    if software.SOURCE in c.sources:
        units[f"{identifier}_arithmetic.o"] = [software.SOURCE]
    library = [*units, *kernel_files]
    board = STARTUP in c.sources
    if target.hosted or board:
        units[f"{identifier}_bench.o"] = [f"{identifier}_bench.c"]
    if board:
        units["startup.o"] = [STARTUP]
    program = [*units, *kernel_files]
    archive = f"../lib/lib{identifier}.a"
    image = f"../bin/{identifier}-bench"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        _all(pool, (partial(toolchain.compile_c, target, s, o, work) for o, s in units.items()))
        jobs = [partial(toolchain.archive, library, archive, work)]
        if target.hosted:
            shared = f"../lib/lib{identifier}.so"
            jobs.append(partial(toolchain.link_program, target, program, image, work))
            jobs.append(partial(toolchain.link_shared, target, library, shared, work))
        else:
            _check_needs(f"lib{identifier}.a", [(work / file).read_bytes() for file in library])
        if board:
            jobs.append(partial(toolchain.link_image, target, program, SCRIPT, image, work))
        _all(pool, jobs)
    objects = [(work / file).read_bytes() for file in library]
    driver = (work / f"{identifier}.o").read_bytes()
    shutil.rmtree(work)
    if target.hosted:
        return Sizes(sum(map(elf.loaded_bytes, [driver, *kernels])), None)
    footprint = measure(objects, identifier, target.arch)
    return Sizes(footprint.code, footprint.stack)


def _all(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], None]]) -> None:
    try:
        for started in [pool.submit(job) for job in jobs]:
            started.result()
    except BaseException:  # one failed, or a signal came: nobody wants the others
        pool.shutdown(wait=False, cancel_futures=True)
        toolchain.stop()
        raise


def _check_needs(library: str, objects: Sequence[bytes]) -> None:
    """Raise ToolchainError where a library asks for more than a program without a C library has."""
    defined = set[str]().union(*map(elf.defined_symbols, objects))
    for symbol in sorted(set[str]().union(*map(elf.undefined_symbols, objects)) - defined - elf.FREESTANDING):
        raise ToolchainError(
            f"{library} needs '{symbol}', which firmware doesn't have: a bug of edgec, report it"
        )
