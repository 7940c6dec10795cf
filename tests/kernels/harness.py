"""Runs kernels on a machine that has their instructions: this one, or an emulator."""

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgec.compiler.native import toolchain
from edgec.kernels.codegen import native
from edgec.kernels.kernel import Kernel, KernelCode
from edgec.targets import loader
from edgec.targets.descriptor import Board, Emulator, Target
from edgec.targets.detect import MACHINES
from tests.kernels import boards

_DRIVER = Path(__file__).parent / "driver.c"


@dataclass(frozen=True, eq=False)
class Call:
    """One run of a kernel on inputs; the constants come from its code."""

    code: KernelCode
    inputs: tuple[NDArray[np.generic], ...]
    expected: NDArray[np.generic]
    """What the output must be; the kernel sees its size alone."""
    boundaries: tuple[int, ...]
    """Tile ranges: [b0, b1), [b1, b2), ..."""
    at_end: bool = True
    """Buffers end where a page begins that can't be touched; otherwise they begin where one ends."""
    inplace: int | None = None
    """Input whose buffer the output takes over."""
    positions: NDArray[np.intp] | None = None
    """Where in the output's buffer each element of it belongs; None: one after another."""
    elements: int = 0
    """Of the output's buffer, where there are positions."""

    @property
    def output_bytes(self) -> int:
        """Size of the output's buffer."""
        return self.expected.nbytes if self.positions is None else self.elements * self.expected.itemsize

    def memory(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """What the output's buffer must hold with `values`: the driver's garbage between them."""
        if self.positions is None:
            return values
        garbage = np.arange(self.output_bytes) * 197 + 91
        memory = garbage.astype(np.uint8).view(self.expected.dtype)
        memory[self.positions] = values.reshape(-1)
        return memory

    def written(self) -> bytes:
        """The call in the driver's format (driver.c)."""
        readable = [np.ascontiguousarray(a).tobytes() for a in (*self.inputs, *self.code.constants)]
        buffers = [(len(data), -1, data) for data in readable]
        buffers.append((self.output_bytes, -1 if self.inplace is None else self.inplace, b""))
        buffers.append((self.code.scratch_bytes, -1, b""))
        head = [_number(self.code), len(buffers), len(self.boundaries) - 1, *self.boundaries]
        return _words(*head) + b"".join(
            _words(size, alias, bool(data), self.at_end) + data for size, alias, data in buffers
        )


def command(target: Target) -> list[str]:
    """What to put before a program so that it runs on `target`; skips the test where nothing here can."""
    if MACHINES.get(platform.machine()) == target.arch:
        missing = target.features - loader.load("host-int8").features
        if not missing:
            return []
        if target.emulator is None:
            pytest.skip(f"this CPU lacks {', '.join(sorted(missing))}")
    if not isinstance(target.emulator, Emulator):
        pytest.skip(f"no emulator for {target.device}")
    if not shutil.which(target.emulator.program) or not Path(target.emulator.sysroot).is_dir():
        pytest.skip(f"{target.emulator.program} or its sysroot {target.emulator.sysroot} is missing")
    return [target.emulator.program, "-L", target.emulator.sysroot, "-cpu", target.emulator.cpu]


class Machines:
    """Compiles kernels and runs them, in `folder`; objects are kept, as equal keys mean equal code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[tuple[str, str], Path] = {}

    def run(self, target: Target, calls: Sequence[Call]) -> list[bytes]:
        """Return the output of each call; fails the test when a kernel touches memory that isn't its own."""
        data, output = self.folder / "input.bin", self.folder / "output.bin"
        data.write_bytes(_words(len(calls)) + b"".join(call.written() for call in calls))
        if isinstance(target.emulator, Board):
            kernels = {_number(call.code): self._object(target, call.code) for call in calls}
            callees = {self._callee(target, *one) for call in calls for one in call.code.callees}
            boards.run(target, target.emulator, kernels, sorted(callees), self.folder)
        else:
            self._run_program(target, calls, data, output)
        result = output.read_bytes()
        ends = np.cumsum([call.output_bytes for call in calls])
        assert len(result) == ends[-1]
        return [result[end - call.output_bytes : end] for call, end in zip(calls, ends, strict=True)]

    def _run_program(self, target: Target, calls: Sequence[Call], data: Path, output: Path) -> None:
        prefix = command(target)
        driver, library = self._driver(target), self.folder / "kernels.so"
        objects = {self._object(target, call.code) for call in calls}
        _check([sys.executable, "-m", "ziglang", "ld.lld", "-shared", "-o", library, *sorted(objects)])
        _check([*prefix, driver, library, data, output])

    def _object(self, target: Target, code: KernelCode) -> Path:
        return self._compiled(target, code, f"kernel_{_number(code)}")

    def _callee(self, target: Target, kernel: Kernel, code: KernelCode) -> Path:
        return self._compiled(target, code, kernel.symbol(code))

    def _compiled(self, target: Target, code: KernelCode, symbol: str) -> Path:
        if (target.name, symbol) not in self.objects:
            path = self.folder / f"{target.name}-{symbol}.o"
            callees = [kernel.symbol(callee) for kernel, callee in code.callees]
            path.write_bytes(native.compile_object(code.make(), symbol, target, callees))
            self.objects[target.name, symbol] = path
        return self.objects[target.name, symbol]

    def _driver(self, target: Target) -> Path:
        path = self.folder / f"driver-{target.c_target}"
        if not path.exists():
            shutil.copy(_DRIVER, self.folder)
            toolchain.compile_c(target, [_DRIVER.name], "driver.o", self.folder)
            toolchain.link_program(target, ["driver.o", "-ldl"], path.name, self.folder)
        return path


def _number(code: KernelCode) -> int:
    """What the driver calls the kernel by."""
    return int(hashlib.sha256(code.key.encode()).hexdigest()[:15], 16)


def _words(*values: int) -> bytes:
    return np.array(values, np.int64).tobytes()


def _check(arguments: Sequence[str | Path]) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr.strip()}"
