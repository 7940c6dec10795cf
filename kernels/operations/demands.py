"""What is demanded of the code of an operation: how it is to be computed, which never changes the result."""

from dataclasses import dataclass

from edgec.kernels.operations.tensors import Runs


@dataclass(frozen=True)
class Demands:
    """What code shall do beside computing its operation; by default nothing in particular.

    `runs`, `placed` and `uniform` say how things are; the others are wishes, which kernels that can't do
    with less leave open.
    """

    scratch: int | None = None
    """Bytes of scratch that kernels shall do with if they can; None: what is fastest."""
    compact: bool = False
    """Whether a convolution's weights shall not be stored as more bytes than they are, but for whole
    vectors."""
    uniform: bool = False
    """Whether kernels may keep one multiplier of a convolution: that of every channel."""
    runs: Runs | None = None
    """How the result lies, where it is part of a wider tensor; None: densely. Of images a run is a pixel."""
    placed: tuple[int, ...] = ()
    """Which inputs of a concatenation lie in the result already, so that nothing is to do for them."""
    stages: "tuple[Demands, ...]" = ()
    """What is demanded of each convolution of a chain; () where it is nothing of any."""

    def allow(self, scratch: int) -> bool:
        """Whether code may take so many bytes of scratch."""
        return self.scratch is None or scratch <= self.scratch

    def of_stage(self, index: int) -> "Demands":
        """Return what is demanded of one convolution of a chain."""
        return self.stages[index] if self.stages else FREE


FREE = Demands()
"""Nothing is demanded."""
