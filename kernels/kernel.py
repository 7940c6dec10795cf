"""What a kernel is: a row of the table, and the code that the row makes for one layer."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.operations import FREE, Demands, Island, Operation
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Requantization, Target


@dataclass(frozen=True, eq=False)
class KernelCode:
    """The code of one layer, as a C function over pointers.

    int32_t f(inputs..., constants..., outputs..., void *scratch, int32_t begin, int32_t end)

    computes the tiles [begin, end) of `tiles`; tiles are independent, so that threads may share them out.
    """

    key: str
    """All that decides the function: equal keys, equal code (weights and scales are arguments, not code)."""
    make: Callable[[], Any]
    """Returns the `tirx.PrimFunc`; called only when the object isn't in the cache."""
    constants: tuple[NDArray[np.generic], ...] = ()
    """Packed weights, biases, tables, parameters, in argument order."""
    tiles: int = 1
    scratch_bytes: int = 0
    """Per thread."""
    inplace: tuple[int, ...] = ()
    """Inputs whose buffer the output may take over."""
    configuration: str = ""
    """What sets this code apart from the kernel's other ones for the layer: what tuning chooses among."""
    callees: "tuple[tuple[Kernel, KernelCode], ...]" = ()
    """Code whose functions it calls, by `Kernel.symbol`, and the rows of the table that they are of."""


@dataclass(frozen=True)
class Kernel:
    """A row of the table."""

    name: str
    """`<operation>_<instruction set>`: what manifests and reports print."""
    operation: type[Operation]
    features: frozenset[str]
    """Instruction-set features it needs, as LLVM spells them; none for a portable kernel."""
    arch: Arch | None
    """Architecture it needs, or None for any."""
    codes: Callable[[Operation, Target, Demands], Iterable[KernelCode]]
    """Yields the configurations of one layer, the one expected to be fastest first; none: not mine."""
    requantization: Requantization | None = None
    """Form of requantization that it computes, as in a target's description; None where there is none."""
    dtypes: frozenset[str] | None = None
    """Types of operations' codes or numbers that it computes with; None: any."""

    def symbol(self, code: KernelCode) -> str:
        """Return what the function of one of its codes is called in C."""
        return f"edgec_{self.name}_{hashlib.sha256(code.key.encode()).hexdigest()[:12]}"

    def takes(self, operation: Operation) -> bool:
        """Whether it is for operations of this type, on elements of this one's dtype."""
        if isinstance(operation, Island) or not isinstance(operation, self.operation):
            return False
        return self.dtypes is None or operation.dtype in self.dtypes

    def runs_on(self, target: Target) -> bool:
        """Whether `target` has every instruction this kernel may use, and requantizes as it does."""
        return (
            self.arch in (None, target.arch)
            and self.features <= target.features
            and self.requantization in (None, target.requantization)
        )

    def code(self, operation: Operation, target: Target, demands: Demands = FREE) -> KernelCode | None:
        """Return the first choice for one layer, or None: not this kernel's."""
        if not self.takes(operation):
            return None
        return next(iter(self.codes(operation, target, demands)), None)
