"""edgec from Python: what the command line does, as two functions."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, Protocol

from edgec import options
from edgec.bench.bundle import Bundle
from edgec.options import BuildOptions
from edgec.targets import loader

_Fields = ParamSpec("_Fields")


class _Build(Protocol[_Fields]):
    def __call__(self, path: str | Path, *args: _Fields.args, **fields: _Fields.kwargs) -> Bundle: ...


def _with_fields(
    made: Callable[_Fields, BuildOptions],
) -> Callable[[Callable[[str | Path, BuildOptions], Bundle]], _Build[_Fields]]:
    """Give a function the fields of the class `made` as keywords in place of a value, and their help."""

    def decorate(function: Callable[[str | Path, BuildOptions], Bundle]) -> _Build[_Fields]:
        @wraps(function)
        def spread(path: str | Path, *args: _Fields.args, **fields: _Fields.kwargs) -> Bundle:
            return function(path, made(*args, **fields))

        own = inspect.signature(function)
        path, *_ = own.parameters.values()
        keywords = [
            keyword.replace(annotation=options.kinds()[name])
            for name, keyword in inspect.signature(made).parameters.items()
        ]
        spread.__signature__ = own.replace(parameters=[path, *keywords])  # type: ignore[attr-defined]
        listed = (f"    {name}: {option.help}" for name, option in options.options().items())
        spread.__doc__ = f"{inspect.getdoc(function)}\n\nOptions:\n" + "\n".join(listed)
        return spread

    return decorate


@_with_fields(BuildOptions)
def build(path: str | Path, given: BuildOptions) -> Bundle:
    """Compile the ONNX model at `path` for `target` (`rpi5-int8`) and return its bundle.

    `calibration` is an .npz file or arrays by input name, shaped like the input or with one more leading
    sample axis; without it an int8 target takes seeded synthetic inputs. `shapes` holds tuples by input name.
    `max_ram` and `max_flash`, in bytes, take the place of the limits that the target's descriptor sets, if
    any; a model that needs more raises LimitError. `int8_io` makes int8 what the model has as float inputs
    and outputs; None leaves them, but for cores without an FPU. `tune` is in seconds, on this machine or the
    target's emulator; what it finds is kept for later builds. `progress` is called with a stage's name and
    what it did, and with an empty text when the stage begins. Raises EdgecError for what is the caller's to
    mend.
    """
    loader.load(given.target)  # a wrong name fails at once
    from edgec.bench import building  # seconds, for TVM and ONNX, that load() does without

    return building.build(path, given)


def load(path: str | Path) -> Bundle:
    """Open the bundle at `path`; raises BundleError if it is none, or a file of it is missing."""
    return Bundle.load(path)
