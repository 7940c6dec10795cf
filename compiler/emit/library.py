"""Compile the driver and link a bundle's libraries and bench program."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from edgec.compiler.emit import platforms
from edgec.compiler.emit.driver import Driver
from edgec.compiler.emit.platforms.emission import Parts, Sizes
from edgec.compiler.native import toolchain
from edgec.kernels.codegen import software
from edgec.targets.descriptor import Target


def build(folder: Path, identifier: str, target: Target, c: Driver, kernels: Sequence[bytes]) -> Sizes:
    """Make lib/ and bin/ in `folder` from the driver's C and the kernels' objects; return their sizes.

    What besides the static library is the platform's to say. Raises ToolchainError.
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
    platform = platforms.of(target)
    bench = platform.bench_units(identifier, c.sources)
    parts = Parts(work, [*units], [*bench], kernel_files, c.sources)
    archive = f"../lib/lib{identifier}.a"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = (units | bench).items()
        _all(pool, (partial(toolchain.compile_c, target, s, o, work) for o, s in compiled))
        archived = partial(toolchain.archive, parts.library, archive, work)
        _all(pool, [archived, *platform.links(target, identifier, parts)])
    sizes = platform.sizes(target, identifier, parts)
    shutil.rmtree(work)
    return sizes


def _all(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], None]]) -> None:
    try:
        for started in [pool.submit(job) for job in jobs]:
            started.result()
    except BaseException:  # one failed, or a signal came: nobody wants the others
        pool.shutdown(wait=False, cancel_futures=True)
        toolchain.stop()
        raise
