"""Compile the driver and link a bundle's libraries and bench program."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgec.compiler.emit import toolchain
from edgec.compiler.emit.driver import Driver
from edgec.kernels import elf
from edgec.targets.descriptor import Target


def build(folder: Path, identifier: str, target: Target, c: Driver, kernels: Sequence[bytes]) -> int:
    """Make lib/ and bin/ in `folder` from the driver's C and the kernels' objects.

    Returns the bytes of code and the code's own constants: kernels and driver, without weights, self-test
    and bench program. Raises ToolchainError.
    """
    work = Path(tempfile.mkdtemp(prefix="work-", dir=folder))
    for file, text in (c.sources | c.assembly).items():
        (work / file).write_text(text, encoding="utf-8")
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
        f"{identifier}_bench.o": [f"{identifier}_bench.c"],
    }
    program = [*units, *kernel_files]
    library = [file for file in program if file != f"{identifier}_bench.o"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = [
            pool.submit(toolchain.compile_c, target, sources, o, work) for o, sources in units.items()
        ]
        for job in compiled:
            job.result()
        linked = [
            pool.submit(toolchain.link_program, target, program, f"../bin/{identifier}-bench", work),
            pool.submit(toolchain.link_shared, target, library, f"../lib/lib{identifier}.so", work),
            pool.submit(toolchain.archive, library, f"../lib/lib{identifier}.a", work),
        ]
        for job in linked:
            job.result()
    code_bytes = sum(map(elf.loaded_bytes, [(work / f"{identifier}.o").read_bytes(), *kernels]))
    shutil.rmtree(work)
    return code_bytes
