"""A hash of code: the same wherever the code lies, another one where it computes something else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.kernels import definitions
from edgec.kernels.definitions import PACKAGE, Reference, fingerprint

MAIN = """
from edgec.kernels import helper
from edgec.kernels.helper import double

TABLE = (double, helper.square)

def f(x):
    return [g(item, helper.LIMIT) for item in TABLE[0](x)]

def g(x, limit):
    return f(x - 1) if x > limit else x
"""
HELPER = """
LIMIT, OTHER = 3, 4

def double(x):
    return 2 * x

def square(x):
    return x * x

def unused(x):
    return x
"""


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    definitions._module.cache_clear()
    yield
    definitions._module.cache_clear()


def of(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "f", **modules: str) -> str:
    """The fingerprint of one definition of `main`, in a package of these modules."""
    for old in folder.glob("*.py"):
        old.unlink()
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    (folder / "__init__.py").touch()
    monkeypatch.setattr(definitions, "_root", lambda: folder)
    definitions._module.cache_clear()
    return fingerprint([Reference(f"{PACKAGE}.main", name)])


SAME = {
    "comments": (MAIN.replace("def g", "# why\ndef g"), {"helper": HELPER}),
    "docstrings": (MAIN.replace("limit):", 'limit):\n    """Return it."""'), {"helper": HELPER}),
    "annotations": (MAIN.replace("g(x, limit)", "g(x: int, limit: int) -> int"), {"helper": HELPER}),
    "layout": (MAIN.replace("[g(item, ", "[\n        g(item, "), {"helper": HELPER}),
    "another module's name": (MAIN.replace("helper", "aid"), {"aid": HELPER}),
    "a definition's name": (MAIN.replace("g(", "limited("), {"helper": HELPER}),
    "an alias": (MAIN.replace("import double", "import double as twice").replace("(double,", "(twice,"),
                 {"helper": HELPER}),
    "another place": (
        MAIN.replace("import double", "import double").replace("helper.LIMIT", "elsewhere.LIMIT")
        .replace("import helper", "import elsewhere, helper"),
        {"helper": HELPER.replace("LIMIT, OTHER = 3, 4", ""), "elsewhere": "LIMIT, OTHER = 3, 4\n"},
    ),
    "what nobody refers to": (MAIN, {"helper": HELPER.replace("return x\n", "return x + 1\n")}),
    "order": (MAIN, {"helper": "\n".join(reversed(HELPER.strip().split("\n\n")))}),
}  # fmt: skip
OTHER = {
    "a number": (MAIN.replace("x - 1", "x - 2"), HELPER),
    "a constant elsewhere": (MAIN, HELPER.replace("3, 4", "5, 4")),
    "which of two constants": (MAIN.replace("LIMIT", "OTHER"), HELPER),
    "a function elsewhere": (MAIN, HELPER.replace("x * x", "x * x * x")),
    "two functions exchanged": (MAIN.replace("(double, helper.square)", "(helper.square, double)"), HELPER),
    "their bodies exchanged": (
        MAIN,
        HELPER.replace("2 * x", "?").replace("x * x", "2 * x").replace("?", "x * x"),
    ),
    "a global in place of an argument": (MAIN.replace("x > limit", "x > helper.LIMIT"), HELPER),
    "a default": (MAIN.replace("g(x, limit)", "g(x, limit=1)"), HELPER),
    "a decorator": (MAIN.replace("def g", "@double\ndef g"), HELPER),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_what_does_not_count(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = of(tmp_path, monkeypatch, main=MAIN, helper=HELPER)
    main, others = SAME[case]
    assert of(tmp_path, monkeypatch, main=main, **others) == plain


@pytest.mark.parametrize("case", OTHER)
def test_what_counts(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = of(tmp_path, monkeypatch, main=MAIN, helper=HELPER)
    main, helper = OTHER[case]
    assert of(tmp_path, monkeypatch, main=main, helper=helper) != plain


def test_classes_are_one_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names don't reach into their methods, their fields' annotations don't count, their methods do."""
    text = (
        "N = 1\nclass A(Base):\n    N: int = 2\n    def f(self):\n        return N\nclass Base:\n    pass\n"
    )
    plain = of(tmp_path, monkeypatch, "A", main=text)
    assert of(tmp_path, monkeypatch, "A", main=text.replace("N: int", "N: float")) == plain
    for before, after in (
        ("N = 1", "N = 3"),
        ("return N", "return -N"),
        ("pass", "field = 1"),
        ("= 2", "= 4"),
    ):
        assert of(tmp_path, monkeypatch, "A", main=text.replace(before, after)) != plain


def test_code_beyond_a_long_way_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve alike functions call one another in a row; only what the last one returns differs."""
    chain = "\n".join(f"def f{i}(x):\n    return f{i + 1}(x)\n" for i in range(12))
    ends = [
        of(tmp_path, monkeypatch, "f0", main=f"{chain}\ndef f12(x):\n    return {end}\n") for end in (1, 2)
    ]
    assert ends[0] != ends[1]
