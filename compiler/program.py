"""The program: an ordered list of kernel calls over buffers, ready to be planned, compiled and emitted."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.operations import Tensor
from edgec.targets.descriptor import Target


@dataclass(frozen=True, eq=False)
class Function:
    """One compiled kernel; several calls may share it."""

    symbol: str
    """C symbol, made from the kernel's name and a hash of `key`."""
    key: str
    """All that decides the code, next to the target: what the object cache is keyed by."""
    make: Callable[[], Any]
    """Returns the `tirx.PrimFunc` (without a global symbol)."""
    callees: tuple[str, ...] = ()
    """Symbols of functions of the program that it calls."""


@dataclass(frozen=True)
class Call:
    """One step: `symbol(arguments..., scratch, begin, end)`."""

    name: str
    """The layer's name, for reports."""
    kernel: str
    """The row of the kernel table, or `island` for a float island's function."""
    symbol: str
    arguments: tuple[str, ...]
    """Buffer names: tensors or constants, in the order of the function's pointers."""
    outputs: tuple[str, ...]
    """Which of `arguments` are written."""
    tiles: int
    scratch_bytes: int
    """Per thread."""
    macs: int
    inplace: tuple[tuple[str, str], ...] = ()
    """(input, output) pairs that may share one buffer."""
    configuration: str = ""
    """Which of the kernel's codes for the layer it is; empty where there is but one."""
    checked: bool = True
    """Bit-exact with the reference (False inside a float island)."""


def reached(functions: Mapping[str, Function], calls: Iterable[Call]) -> dict[str, Function]:
    """Return those of `functions`, by symbol, that `calls` lead to, in their order."""
    called = dict.fromkeys(call.symbol for call in calls)
    return {name: functions[name] for symbol in called for name in (symbol, *functions[symbol].callees)}


@dataclass(frozen=True, eq=False)
class Program:
    """Calls in execution order; nothing of ONNX or Relax is left."""

    target: Target
    calls: tuple[Call, ...]
    functions: dict[str, Function]
    """By symbol: those of calls, and those that these call."""
    tensors: dict[str, Tensor]
    """Every buffer that is no constant: inputs, outputs, and what lies between."""
    constants: dict[str, NDArray[np.generic]]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    arena_io: bool = False
    """Inputs and outputs lie in the arena too: one inference overwrites the inputs."""

    def moved_bytes(self, call: Call) -> int:
        """Return the bytes of all that `call` reads and writes, each once."""
        names = dict.fromkeys(call.arguments)
        return sum(
            self.constants[name].nbytes if name in self.constants else self.tensors[name].bytes
            for name in names
        )

    def home(self, name: str) -> str:
        """Return the tensor that a tensor lies in: itself, where it is part of no other."""
        place = self.tensors[name].place
        return name if place is None else place.tensor


@dataclass(frozen=True)
class Plan:
    """Where every intermediate tensor of a program lies in the arena, in bytes from its start."""

    offsets: dict[str, int]
    """Per tensor that is no constant nor part of another tensor, nor input or output unless these lie in the
    arena."""
    scratch_offsets: tuple[int, ...]
    """Per call: the scratch of thread 0, alive during that call only."""
    arena_bytes: int
    """For one thread."""
    thread_scratch_bytes: int
    """What each further thread adds behind the arena: the largest scratch of any call."""
    lower_bound_bytes: int
    """The most bytes alive at any one step: no plan can be smaller."""
