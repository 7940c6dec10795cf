"""Building a model into a bundle that can run: what `edgec build` and `edgec.build` do."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgec.bench import devices, tuning
from edgec.bench.bundle import Bundle
from edgec.compiler import pipeline
from edgec.compiler.tune.tune import Tuning
from edgec.options import BuildOptions
from edgec.targets import loader


def build(
    path: str | Path,
    options: BuildOptions,
    searching: Callable[[float, float, str], None] = lambda _budget, _seconds, _text: None,
    found: Callable[[Tuning], None] = lambda _tuning: None,
) -> Bundle:
    """Return the bundle of the ONNX model at `path`, tuned on this machine or the target's emulator.

    Where `options.tune` is a budget, `searching` is told it, the seconds gone and what is being done, and
    `found` the result. Raises EdgecError for what is the user's to mend.
    """
    tuner = None
    if options.tune is not None:
        device = devices.connect(None, loader.load(options.target))
        tuner = tuning.tuner(device, options.tune, partial(searching, options.tune), found)
    built = pipeline.build(path, options, tuner)
    return Bundle(built.path, built.manifest)
