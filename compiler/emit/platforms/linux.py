"""Linux: a shared library beside the static one, a thread pool, and a bench program that the system loads."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from edgec.compiler.emit.platforms.emission import Jobs, Parts, Sizes
from edgec.compiler.emit.runtime import runtime
from edgec.compiler.native import toolchain
from edgec.kernels.codegen import elf
from edgec.targets.descriptor import Target

PACKAGES = {"CMakeLists.txt": "CMakeLists.txt.jinja", "cmake/{name}-config.cmake": "config.cmake.jinja"}
"""Path in the bundle -> template of kernels/runtime/packages: what every platform's bundles have."""
_WORDS = 286
"""uint64 of the driver's state without the caller's pointers: a thread pool, with glibc's mutex and
condition. Those for 64-bit Arm are one word larger than for x86-64."""


class Linux:
    """How bundles for Linux are made: with a thread pool, a shared library and a bench program."""

    bench = "bench.c.jinja"

    def sources(self, _target: Target, _identifier: str, _arrays_bytes: int) -> dict[str, str]:
        """Return the thread pool."""
        return {"pool.h": runtime("pool.h")}

    def packages(self, _target: Target) -> Mapping[str, str]:
        """Return CMake's alone."""
        return PACKAGES

    def facts(self, _target: Target) -> Mapping[str, object]:
        """Return none."""
        return {}

    def context_words(self, pointers: int) -> int:
        """Return those of the pool, too."""
        return _WORDS + pointers

    def bench_units(self, identifier: str, _sources: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the program's own file."""
        return {f"{identifier}_bench.o": [f"{identifier}_bench.c"]}

    def links(self, target: Target, identifier: str, parts: Parts) -> Jobs:
        """Return what makes the program and the shared library."""
        program, shared = f"../bin/{identifier}-bench", f"../lib/lib{identifier}.so"
        return [
            partial(toolchain.link_program, target, parts.program, program, parts.folder),
            partial(toolchain.link_shared, target, parts.library, shared, parts.folder),
        ]

    def sizes(self, _target: Target, identifier: str, parts: Parts) -> Sizes:
        """Return the code's; the stack is the system's to give."""
        return Sizes(sum(map(elf.loaded_bytes, parts.read([f"{identifier}.o", *parts.kernels]))), None)

    def finish(self, _target: Target, _identifier: str, _folder: Path) -> None:
        """Do nothing: all is there."""
