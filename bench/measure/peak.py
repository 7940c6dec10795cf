"""What this machine can do at most: products per instruction set, and reading memory."""

import ctypes
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.compiler.native import toolchain
from edgec.targets.descriptor import Target

FLOAT = "fp32"
"""What stands for the float instructions among the instruction sets."""
TRIAL_SECONDS = 0.002
TRIALS = 15
"""Short trials, many of them: the best one is undisturbed even on a busy machine."""


@dataclass(frozen=True)
class Peak:
    """What one thread of this machine can do at most."""

    gmacs: dict[str, float]
    """Instruction set, or `fp32`, -> 10**9 multiply-accumulates per second."""
    memory_gbytes: float
    """Read per second, in 10**9 bytes."""

    def set_of(self, kernel: str) -> str | None:
        """Return the instruction set that a kernel is named after, None where that is none with a peak."""
        name = FLOAT if kernel.startswith(("float_", "island")) else kernel.rpartition("_")[2]
        return name if name in self.gmacs else None


def measure_peak(target: Target) -> Peak:
    """Measure this machine with the instructions that `target` has, which must be this machine's.

    Raises ToolchainError where the benchmarks can't be linked.
    """
    from edgec.kernels.codegen.native import compile_object
    from edgec.kernels.peak import probes

    found = list(probes(target))
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        folder = Path(name)
        for index, probe in enumerate(found):
            (folder / f"{index}.o").write_bytes(compile_object(probe.make(), f"probe_{index}", target))
        toolchain.link_shared(target, [f"{index}.o" for index in range(len(found))], "probes.so", folder)
        library = ctypes.CDLL(str(folder / "probes.so"))
    best: dict[str, float] = {}
    for index, probe in enumerate(found):
        arrays = [*probe.inputs, np.zeros(probe.output_bytes, np.uint8)]
        rate = probe.work / _seconds(library[f"probe_{index}"], [array.ctypes.data for array in arrays]) / 1e9
        best[probe.name] = max(rate, best.get(probe.name, 0.0))
    return Peak({name: rate for name, rate in best.items() if name != "memory"}, best["memory"])


def _seconds(function: Callable[..., object], pointers: Sequence[int]) -> float:
    """Return what the work takes once, in the best trial, in seconds of CPU time."""
    arguments = [*map(ctypes.c_void_p, pointers), None]

    def taken(times: int) -> float:
        before = time.thread_time()
        function(*arguments, 0, times)
        return time.thread_time() - before

    times = 1
    while (needed := taken(times)) < TRIAL_SECONDS:
        times = max(2 * times, int(times * TRIAL_SECONDS / max(needed, 1e-6)))
    return min(taken(times) for _ in range(TRIALS)) / times
