"""An option is one field: the command line, `edgec.build` and its help say what the field says."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer

import edgec
from edgec import cli, options
from edgec.cli import from_fields
from edgec.errors import UsageError
from edgec.options import BuildOptions


def given(*words: str) -> BuildOptions:
    """What the command line makes of options."""
    found: list[BuildOptions] = []

    def command(build_options: BuildOptions) -> None:
        found.append(build_options)

    app = typer.Typer()
    app.command()(from_fields.with_build_options(command))
    app([*words], standalone_mode=False)
    return found[0]


def test_every_field_is_an_option_of_build_and_of_its_function() -> None:
    command = typer.main.get_command(cli.app).commands["build"]  # type: ignore[attr-defined]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    signature = inspect.signature(edgec.build)
    assert list(signature.parameters) == ["path", *inspect.signature(BuildOptions).parameters]
    for name, option in options.options().items():
        flag = option.within.flag if option.within else option.flag or f"--{name.replace('_', '-')}"
        assert flag in flags
        assert f"    {name}: {option.help}" in str(edgec.build.__doc__)
        assert signature.parameters[name].default == getattr(BuildOptions, name, inspect.Parameter.empty)


READ: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "nothing": ((), {}),
    "a path": (("--calibration", "a.npz", "--dump", "d"), {"calibration": Path("a.npz"), "dump": Path("d")}),
    "shapes": (
        ("--shape", "x=1x3", "--shape", "a=b=7"),
        {"shapes": {"x": (1, 3), "a=b": (7,)}},
    ),
    "sizes": (("--max-ram", "64K", "--max-flash", "1M"), {"max_ram": 65536, "max_flash": 1 << 20}),
    "a flag": (("--reduce-range",), {"reduce_range": True}),
    "a choice": (("--optimize", "flash"), {"optimize": "flash"}),
    "seconds": (("--tune", "5m"), {"tune": 300.0}),
    "no words": (("--io", ""), {}),
    "one word": (("--io", "float"), {"int8_io": False}),
    "two words": (("--io", "arena,int8"), {"int8_io": True, "arena_io": True}),
}


@pytest.mark.parametrize("name", READ)
def test_what_the_command_line_says_is_the_fields_value(name: str) -> None:
    words, values = READ[name]
    assert given("--target", "host-int8", *words) == BuildOptions(target="host-int8", **values)


@pytest.mark.parametrize("text", ["int4", "int8,float", "int8,arena,x"])
def test_words_that_are_none(text: str) -> None:
    message = f"--io {text}: write int8 or float, and arena, with commas between"
    with pytest.raises(UsageError, match=message):
        given("--target", "host-int8", "--io", text)


def test_a_choice_that_is_none_is_one_line_from_python_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="optimize 'fast': write one of speed, ram, flash"):
        edgec.build(tmp_path / "m.onnx", target="host-int8", optimize="fast")  # type: ignore[arg-type]
