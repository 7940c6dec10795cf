"""The documentation says what the code says."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from edgec.targets import loader

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def operators() -> ModuleType:
    """`docs/operators.py`, which no package holds."""
    spec = importlib.util.spec_from_file_location("operators", ROOT / "docs/operators.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_operators_is_current(operators: ModuleType) -> None:
    assert operators.PAGE.read_text(encoding="utf-8") == operators.page(), "run: python docs/operators.py"


def test_the_readme_lists_every_device() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [device for device in loader.devices() if f"`{device}`" not in readme] == []


@pytest.mark.parametrize(
    "page", sorted({*ROOT.glob("*.md"), *ROOT.glob("*/*.md")}), ids=lambda page: page.name
)
def test_links_between_pages_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
