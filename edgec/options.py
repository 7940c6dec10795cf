"""What a build can be told: an option is one field of `BuildOptions`.

The command line, the function `edgec.build`, the manifest and `edgec tune`, which builds anew, read its
name, type, default and help there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from edgec import spelling
from edgec.errors import UsageError

if TYPE_CHECKING:
    from edgec.arrays import Arrays
else:
    Arrays = Mapping  # numpy takes a moment to import, which `edgec targets` does without

Optimize = Literal["speed", "ram", "flash"]
"""What goes first where faster code takes more memory: the fastest kernels, by measurement or by model; the
smallest arena, and what is fastest within it; the fastest of what stores no weights as more bytes than they
are."""
Progress = Callable[[str, str], None]
"""Called as progress(stage, detail): with no detail when a stage starts, then with what it found."""


@dataclass(frozen=True)
class Words:
    """An option of the command line that sets several fields, by words with commas between."""

    flag: str
    metavar: str
    help: str


@dataclass(frozen=True)
class Option:
    """How a field is spelt outside Python: on the command line, and in a bundle's manifest."""

    help: str
    metavar: str | None = None
    read: Callable[[str, str], Any] | None = None
    """Makes a value of the option's name and what follows it on the command line; raises EdgecError. Without
    it the field's type says how: text, a number, one of several words, or a flag."""
    flag: str | None = None
    """The name there; by default the field's with dashes."""
    repeated: bool = False
    """It may be there several times: `read` gives key and value of a mapping."""
    within: Words | None = None
    """The option that a word of sets the field, in place of one of its own."""
    words: Mapping[str, Any] | None = None
    """Those words, and the values that they stand for."""
    recorded: str | None = None
    """Where a manifest has it (`io/int8`): what decides how `edgec tune` builds anew. None: a build's inputs,
    limits and outputs, or what model.onnx or the target tell as well."""


_IO = Words("--io", "int8,arena", "Inputs and outputs in int8, in the arena, or both.")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What a build is told besides the model. Raises UsageError for a value that isn't one of the choices."""

    target: Annotated[str, Option("DEVICE-int8 or DEVICE-fp32; 'edgec targets' lists devices.")]
    calibration: Annotated[
        str | Path | Arrays | None,
        Option("Samples by input name, to choose int8 scales from.", "DATA.npz", spelling.path),
    ] = None
    """An .npz file or arrays, shaped like the input or with one more leading sample axis; without it an int8
    target takes seeded synthetic inputs."""
    output: Annotated[
        str | Path | None,
        Option("Bundle to write; by default NAME-TARGET.edgec here.", "DIR", spelling.path),
    ] = None
    shapes: Annotated[
        Mapping[str, tuple[int, ...]] | None,
        Option(
            "Fix the shape of an input; may be repeated.",
            "NAME=1x3x224x224",
            spelling.shape,
            flag="--shape",
            repeated=True,
        ),
    ] = None
    name: Annotated[str | None, Option("Name of the model; by default that of its file.")] = None
    optimize: Annotated[
        Optimize, Option("What goes first where faster code takes more memory.", recorded="optimize")
    ] = "speed"
    reduce_range: Annotated[bool, Option("Smaller weights, larger steps: faster on AVX2 without VNNI.")] = (
        False
    )
    max_ram: Annotated[
        int | None,
        Option("Fail if arena, stack and context take more: 64K, 1M, ...", "BYTES", spelling.size),
    ] = None
    """By default what the target's descriptor says, if anything; LimitError where it takes more."""
    max_flash: Annotated[
        int | None, Option("Fail if code and weights take more.", "BYTES", spelling.size)
    ] = None
    int8_io: Annotated[
        bool | None,
        Option(
            "Inputs and outputs in int8 where the model has float.",
            within=_IO,
            words={"int8": True, "float": False},
            recorded="io/int8",
        ),
    ] = None
    """None leaves them as they are, but for cores without an FPU."""
    arena_io: Annotated[
        bool,
        Option(
            "Inputs and outputs in the arena, in firmware.",
            within=_IO,
            words={"arena": True},
            recorded="io/arena",
        ),
    ] = False
    dump: Annotated[
        str | Path | None, Option("Write the model after every stage there.", "DIR", spelling.path)
    ] = None
    tune: Annotated[
        float | None,
        Option("Search for faster kernels, on this machine: 60s, 5m, ...", "BUDGET", spelling.budget),
    ] = None
    """Seconds, on this machine or the target's emulator. What it finds is kept for later builds."""
    records: Annotated[
        str | Path | None,
        Option("Choose kernels by these records alone: a bundle's tuning.jsonl.", "FILE", spelling.path),
    ] = None
    progress: Progress | None = None
    """Told what the build does; for callers from Python alone."""

    def __post_init__(self) -> None:
        for name, kind in kinds().items():
            choices, given = get_args(kind), getattr(self, name)
            if getattr(kind, "__origin__", None) is Literal and given not in choices:
                raise UsageError(f"{name} '{given}': write one of {', '.join(choices)}")


@cache
def options() -> Mapping[str, Option]:
    """Return every field that has a spelling outside Python, by name."""
    hints = get_type_hints(BuildOptions, include_extras=True)
    spelt = {name: getattr(hints[name], "__metadata__", ()) for name in kinds()}
    return {name: found for name, extras in spelt.items() for found in extras if isinstance(found, Option)}


@cache
def kinds() -> Mapping[str, Any]:
    """Return the type of every field, by name."""
    hints = get_type_hints(BuildOptions)
    return {field.name: hints[field.name] for field in fields(BuildOptions)}
