"""What is asked of a platform when a bundle for it is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgec.targets.descriptor import Target

Jobs = list[Callable[[], None]]
"""Calls of the toolchain that don't wait for each other."""


@dataclass(frozen=True)
class Sizes:
    """What a library takes, in bytes."""

    code: int
    """Kernels and driver with their own constants: no weights, self-test or bench program."""
    stack: int | None
    """Stack that one inference takes at most; None where memory isn't scarce."""


@dataclass(frozen=True)
class Parts:
    """The compiled files that a bundle's library and bench program are linked from."""

    folder: Path
    """Where they lie, two folders below the bundle's: names are relative to it."""
    driver: Sequence[str]
    """Objects of the driver, the weights and the self-test."""
    bench: Sequence[str]
    """What the bench program has besides."""
    kernels: Sequence[str]
    sources: Mapping[str, str]
    """Texts beside them, by file name."""

    @property
    def library(self) -> list[str]:
        """The library's objects."""
        return [*self.driver, *self.kernels]

    @property
    def program(self) -> list[str]:
        """The bench program's objects."""
        return [*self.driver, *self.bench, *self.kernels]

    def read(self, files: Sequence[str]) -> list[bytes]:
        """Return the content of objects."""
        return [(self.folder / file).read_bytes() for file in files]


class Emission(Protocol):
    """How one platform's bundles are made; `compiler/emit/platforms` has a file with one for each."""

    @property
    def bench(self) -> str:
        """Template of the bench program, of kernels/runtime."""

    def sources(self, target: Target, identifier: str, arrays_bytes: int) -> dict[str, str]:
        """Return files to compile with, or to include, beside the driver's own, by name.

        `arrays_bytes` is what weights and golden inputs take.
        """

    def packages(self, target: Target) -> Mapping[str, str]:
        """Return how build systems take the library in: path in the bundle -> runtime/packages' template."""

    def facts(self, target: Target) -> Mapping[str, object]:
        """Return what its templates ask for besides what every platform's do."""

    def context_words(self, pointers: int) -> int:
        """Return how many uint64 hold the driver's state, and the caller's `pointers`."""

    def bench_units(self, identifier: str, sources: Mapping[str, str]) -> dict[str, list[str]]:
        """Return what to compile for the bench program alone: object -> its sources; nothing for none."""

    def links(self, target: Target, identifier: str, parts: Parts) -> Jobs:
        """Return what makes the bundle's libraries and programs, the archive aside."""

    def sizes(self, target: Target, identifier: str, parts: Parts) -> Sizes:
        """Return what the library takes; raises ToolchainError where it needs what the platform lacks."""

    def finish(self, target: Target, identifier: str, folder: Path) -> None:
        """Put more files into the bundle in `folder`, made of those that are there."""
