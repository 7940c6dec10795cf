"""`make quick`, pre-commit and CI lint the same, and the list of quick tests names what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def recipe(target: str) -> list[str]:
    """Commands of a rule, without the folder of the tools."""
    found = re.search(rf"^{target}: \.venv/installed-dev\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found is not None
    return [line.strip().removeprefix("$(BIN)/") for line in found[1].splitlines()]


def linters(commands: list[str]) -> list[str]:
    return [
        command.removesuffix(" .") for command in commands if command.startswith(("ruff", "mypy", "lint"))
    ]


def test_the_same_is_linted_everywhere() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = [
        entry.removesuffix(" --force-exclude") for entry in re.findall(r"entry: \.venv/bin/(.*)", hooks)
    ]
    assert entries == linters(recipe("quick")) == linters(recipe("test"))
    assert len(entries) == 4


def test_hooks_need_no_network() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    assert set(re.findall(r"language: (.*)", hooks)) == {"system"}


def test_quick_tests_are_there_and_are_in_the_list_once() -> None:
    found = re.search(r"^QUICK := ((?:.*\\\n)*.*)\n", MAKEFILE, re.MULTILINE)
    assert found is not None
    names = found[1].replace("\\\n", " ").split()
    assert len(names) > 10
    assert names == sorted(set(names))
    assert not [name for name in names if not (ROOT / name).exists()]
