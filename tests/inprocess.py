"""Compile many models into one library and run them in this process: no C driver, no zig for each of them.

A test that wants thousands of models computed can't wait for thousands of bundles. What a bundle's driver
does, calling the kernels in order over the planned arena, is done here in Python.
"""

import ctypes
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgec.compiler import pipeline
from edgec.compiler.compress.calibration import Calibration
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.emit.driver import pieces
from edgec.compiler.lower.graph.check import check
from edgec.compiler.lower.network.int8_io import quantized_as
from edgec.compiler.lower.network.levels import levels
from edgec.compiler.lower.network.plan import plan
from edgec.compiler.model import Model, is_qdq
from edgec.compiler.native.objects import compile_objects
from edgec.compiler.program import Plan, Program
from edgec.compiler.records.records import Records
from edgec.kernels.operations import Network
from edgec.kernels.reference import isolation
from edgec.kernels.reference.isolation import Died
from edgec.targets.descriptor import Target

Array = NDArray[Any]
Item = TypeVar("Item")
Made = TypeVar("Made")

_ALIGNMENT = 64
_GUARD = np.frombuffer(np.random.default_rng(0).bytes(256), np.uint8)
"""Lies before and behind every buffer; a kernel that writes there doesn't leave it as it is."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """A planned program and its objects: all that running it takes."""

    program: Program
    """Without its functions, so that it can be sent to another process."""
    plan: Plan
    objects: dict[str, bytes]
    """By symbol."""
    network: Network
    """What the reference evaluates."""


def compiled(model: Model, target: Target, samples: Calibration | None = None) -> Compiled:
    """Compile a model as `pipeline.build` does, for the last level of `target`.

    A float model is quantized on `samples` where the target is int8. Raises an EdgecError if it is refused.
    """
    records = Records.of([])
    check(model, target)
    if target.precision == "int8" and not is_qdq(model):
        assert samples is not None, "a float model is quantized on samples"
        model = quantize(model, samples)
    network = pipeline.arranged(pipeline.to_network(model, target=target), target, records)
    program = levels(network, target, records)[-1]
    planned = plan(program)
    objects = compile_objects(program)
    return Compiled(replace(program, functions={}), planned, objects, network)


class Library:
    """The objects of many programs in one shared library, loaded into this process."""

    def __init__(self, objects: Iterable[Mapping[str, bytes]], folder: Path) -> None:
        files = []
        for symbol, code in {name: code for one in objects for name, code in one.items()}.items():
            files.append(folder / f"{symbol}.o")
            files[-1].write_bytes(code)
        if not files:  # nothing was compiled, so nothing runs
            return
        listed, self.path = folder / "objects.txt", folder / "kernels.so"
        listed.write_text("\n".join(map(str, files)))
        subprocess.run(
            [sys.executable, "-m", "ziglang", "ld.lld", "-shared", "-o", self.path, f"@{listed}"], check=True
        )
        for file in files:
            file.unlink()
        ctypes.CDLL("libm.so.6", mode=ctypes.RTLD_GLOBAL)
        self._functions = ctypes.CDLL(str(self.path))

    def run(self, compiled: Compiled, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return a program's outputs, by name; inputs are in the network's shapes, quantized if need be.

        Raises AssertionError where a kernel wrote outside of all buffers.
        """
        program, planned = compiled.program, compiled.plan
        arena = _Buffer(planned.arena_bytes)
        buffers = {name: _Buffer.of(array) for name, array in program.constants.items()}
        for tensor in (*program.outputs, *program.inputs):
            if tensor.name not in planned.offsets:
                buffers[tensor.name] = _Buffer(tensor.bytes)
        for tensor in program.inputs:
            array = np.asarray(quantized_as(tensor, inputs[tensor.name]), tensor.dtype)
            buffers[tensor.name].write(array)

        def address(name: str) -> int:
            if name in program.constants:
                return buffers[name].address
            home = program.home(name)
            start = (
                arena.address + planned.offsets[home] if home in planned.offsets else buffers[home].address
            )
            return start + pieces(program.tensors[name])["offset"]

        for call, scratch in zip(program.calls, planned.scratch_offsets, strict=True):
            function = self._functions[call.symbol]
            pointers = [ctypes.c_void_p(address(name)) for name in call.arguments]
            function(*pointers, ctypes.c_void_p(arena.address + scratch), 0, ctypes.c_int32(call.tiles))
        for name, buffer in {"the arena": arena, **buffers}.items():
            assert buffer.intact, f"a kernel wrote outside of {name}"
        return {
            tensor.title or tensor.name: buffers[tensor.name].read().view(tensor.dtype).reshape(tensor.shape)
            for tensor in program.outputs
        }


class _Buffer:
    """Aligned memory between guards."""

    def __init__(self, size: int) -> None:
        self._memory = np.zeros(size + 2 * _GUARD.size + _ALIGNMENT, np.uint8)
        self._start = -self._memory.ctypes.data % _ALIGNMENT + _GUARD.size
        self._end = self._start + size
        self._memory[self._start - _GUARD.size : self._start] = _GUARD
        self._memory[self._end : self._end + _GUARD.size] = _GUARD
        self._memory[self._start : self._end] = 0xA5  # what nobody computed is no plausible result
        self.address = self._memory.ctypes.data + self._start

    @classmethod
    def of(cls, array: Array) -> "_Buffer":
        buffer = cls(array.nbytes)
        buffer.write(array)
        return buffer

    def write(self, array: Array) -> None:
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._memory[self._start : self._end] = data

    def read(self) -> NDArray[np.uint8]:
        return self._memory[self._start : self._end].copy()

    @property
    def intact(self) -> bool:
        before = self._memory[self._start - _GUARD.size : self._start]
        after = self._memory[self._end : self._end + _GUARD.size]
        return np.array_equal(before, _GUARD) and np.array_equal(after, _GUARD)


def isolated(
    items: Sequence[Item], work: Callable[[Item], Made], seconds: float, limit_bytes: int = 0
) -> list[Made | Died]:
    """Apply `work` to every item in a copy of this process: one that dies takes one item along.

    `seconds` is an item's time; `limit_bytes`, where given, the memory that a copy may address.
    """
    return isolation.isolated([partial(_limited, work, item, limit_bytes) for item in items], seconds)


def _limited(work: Callable[[Item], Made], item: Item, limit_bytes: int) -> Made:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    return work(item)
