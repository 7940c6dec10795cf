"""A command's options from the fields of `BuildOptions`: a new field is a new option."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import wraps
from typing import Annotated, Any

import typer

from edgec import options
from edgec.errors import UsageError
from edgec.options import BuildOptions, Option

Sharing = dict[str, Option]
"""The fields that one option of the command line sets, by name: one, or several by words."""


def with_build_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options of a build in place of its parameter `build_options`, which takes them.

    before: build(model, build_options, as_json) → after: build(model, target, calibration, ..., as_json)
    """
    by_flag = _by_flag()
    own = {_variable(flag): _parameter(flag, sharing) for flag, sharing in by_flag.items()}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        parameters += own.values() if name == "build_options" else [_by_keyword(parameter)]

    @wraps(command)
    def spread(**given: Any) -> None:
        values: dict[str, Any] = {}
        for flag, sharing in by_flag.items():
            values |= _values(flag, sharing, given.pop(_variable(flag)))
        command(**given, build_options=BuildOptions(**values))

    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread


def _by_flag() -> dict[str, Sharing]:
    found: dict[str, Sharing] = {}
    for name, option in options.options().items():
        flag = option.within.flag if option.within else option.flag or f"--{name.replace('_', '-')}"
        found.setdefault(flag, {})[name] = option
    return found


def _variable(flag: str) -> str:
    return flag.strip("-").replace("-", "_")


def _by_keyword(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _parameter(flag: str, sharing: Sharing) -> inspect.Parameter:
    """Return what typer makes the option of: text where edgec reads it itself, else the field's own type."""
    (name, option), *_ = sharing.items()
    kind, default = options.kinds()[name], {field.name: field.default for field in fields(BuildOptions)}[name]
    if option.within or option.read:
        kind, default = (list[str] | None if option.repeated else str | None), None
    shown = option.within or option
    return inspect.Parameter(
        _variable(flag),
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind, typer.Option(flag, metavar=shown.metavar, help=shown.help)],
        default=inspect.Parameter.empty if default is MISSING else default,
    )


def _values(flag: str, sharing: Sharing, given: Any) -> Mapping[str, Any]:
    """Return the fields that `given` sets; raises EdgecError where it makes no sense."""
    (name, option), *_ = sharing.items()
    if given is None:
        return {}
    if option.within:
        return _worded(flag, {name: each.words or {} for name, each in sharing.items()}, given)
    if option.read is None:
        return {name: given}
    return {name: dict(_each(flag, option, given)) if option.repeated else option.read(flag, given)}


def _each(flag: str, option: Option, given: Iterable[str]) -> Iterable[tuple[Any, Any]]:
    assert option.read is not None, "of a mapping it makes the entries"
    return [option.read(flag, text) for text in given]


def _worded(flag: str, known: Mapping[str, Mapping[str, Any]], text: str) -> dict[str, Any]:
    """Return the fields that words set, with commas between: at most one word for each."""
    words = set(text.split(",")) - {""}
    chosen = {name: words & meant.keys() for name, meant in known.items()}
    if words - set().union(*chosen.values()) or any(len(one) > 1 for one in chosen.values()):
        listed = ", and ".join(" or ".join(meant) for meant in known.values())
        raise UsageError(f"{flag} {text}: write {listed}, with commas between")
    return {name: known[name][word] for name, one in chosen.items() for word in one}
