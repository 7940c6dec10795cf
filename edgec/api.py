"""edgec from Python: what the command line does, as two functions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from edgec.bench import devices
from edgec.bench.bundle import Bundle
from edgec.targets import loader


def build(
    path: str | Path,
    *,
    target: str,
    calibration: str | Path | Mapping[str, NDArray[Any]] | None = None,
    output: str | Path | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    name: str | None = None,
    optimize: Literal["speed", "ram", "flash"] = "speed",
    reduce_range: bool = False,
    max_ram: int | None = None,
    max_flash: int | None = None,
    int8_io: bool | None = None,
    arena_io: bool = False,
    dump: str | Path | None = None,
    tune: float | None = None,
    progress: Callable[[str, str], None] | None = None,
) -> Bundle:
    """Compile the ONNX model at `path` for `target` (`rpi5-int8`) and return its bundle.

    `calibration` is an .npz file or arrays by input name, shaped like the input or with one more leading
    sample axis; without it an int8 target takes seeded synthetic inputs. `output` is the bundle's folder, by
    default `<name>-<target>.edgec` here. `shapes` fixes inputs whose shape the model leaves open.
    `optimize` says what goes first where faster code takes more memory. `reduce_range` makes weights smaller
    and their steps larger, which is faster on CPUs with AVX2 and no VNNI. `dump` is a folder for the model
    after every stage. A model that needs more than `max_ram` or `max_flash` bytes, by default what the
    target's descriptor says if anything, raises LimitError. `int8_io` makes int8 what the model has as float
    inputs and outputs; None leaves them, but for cores without an FPU. With `arena_io` they lie in the arena
    of firmware. `tune` seconds are spent on a search for faster kernels, on this machine or the target's
    emulator; what it finds is kept for later builds. `progress` is called with a stage's name and what it
    did, and with an empty text when the stage begins. Raises EdgecError for what is the caller's to mend.
    """
    described = loader.load(target)  # a wrong name fails at once
    device = devices.connect(None, described) if tune is not None else None
    from edgec.bench import tuning  # seconds, for TVM and ONNX, that load() does without
    from edgec.compiler import pipeline
    from edgec.compiler.optimize import Optimize

    built = pipeline.build(
        path,
        target=target,
        calibration=calibration,
        output=output,
        shapes=shapes,
        name=name,
        optimize=Optimize(optimize),
        reduce_range=reduce_range,
        max_ram=max_ram,
        max_flash=max_flash,
        with_int8_io=int8_io,
        arena_io=arena_io,
        dump=dump,
        tune=tuning.tuner(device, tune) if device is not None and tune is not None else None,
        progress=progress,
    )
    return Bundle(built.path, built.manifest)


def load(path: str | Path) -> Bundle:
    """Open the bundle at `path`; raises BundleError if it is none, or a file of it is missing."""
    return Bundle.load(path)
