"""What the C templates of kernels/runtime are given row by row, which they read as `step.name`."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.kernels.operations import Quantization


@dataclass(frozen=True)
class Declaration:
    """A function of the library that calls of the driver lead to."""

    symbol: str
    pointers: int
    """How many buffers it takes."""


@dataclass(frozen=True)
class Argument:
    """A buffer of a call."""

    c: str
    """The C expression of its address."""
    comment: str
    """What a reader wants to know of it."""


@dataclass(frozen=True)
class Function:
    """The C function that makes one step's call, one way to call it."""

    name: str
    layer: str
    kernel: str
    macs: int
    symbol: str
    arguments: Sequence[Argument]

    @property
    def uses_frame(self) -> bool:
        """Whether it needs to know where the arena, inputs and outputs are."""
        return any("f->" in argument.c for argument in self.arguments)


@dataclass(frozen=True)
class LevelStep:
    """How a level takes a step."""

    function: str
    tiles: int
    shared: int
    """How threads share the tiles out: `sharing.shared`."""


@dataclass(frozen=True)
class Level:
    """An instruction-set level."""

    name: str
    c_name: str
    features: Sequence[str]
    """C initializers of what its code needs of the CPU, where that can be asked."""
    steps: Sequence[LevelStep]


@dataclass(frozen=True)
class Step:
    """A step of the program, the same on every level."""

    name: str
    macs: int
    scratch: int
    """Offset in the arena."""
    first_output: int
    """Where its outputs begin among those of all steps."""
    checksum: int | None
    """CRC-32 of its outputs; None where one of them isn't exact."""


@dataclass(frozen=True)
class NearValues:
    """What an output must come near to, where it isn't exact: `golden.Near`, by its offset in the vectors."""

    offset: int
    stride: int
    width: int
    """Bytes of an element."""
    is_float: bool
    absolute: float


@dataclass(frozen=True)
class StepOutput:
    """Where a step's output lies, in bytes: that many pieces, a pitch apart."""

    name: str
    model_output: int
    """The model's output that it lies in, by number; -1: it lies in the arena."""
    offset: int
    """From the start of that output, or of the arena."""
    bytes: int
    """Each piece's."""
    pieces: int
    pitch: int
    near: NearValues | None


@dataclass(frozen=True)
class End:
    """An input or output of the model."""

    name: str
    c_name: str
    c_type: str
    dtype: str
    shape: str
    size: int
    bytes: int
    quantization: Quantization | None
    sample_offset: int
    """Where it begins in a sample: all inputs, or all outputs, one after another."""
    golden_offset: int
    arena_offset: int
    """Where it is at home, with `--io arena`."""
