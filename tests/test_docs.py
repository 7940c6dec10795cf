"""The documentation says what the code says."""

import importlib.util
import os
import re
import subprocess
import sys
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


@pytest.mark.slow
def test_the_walk_names_every_file_of_a_build_in_order() -> None:
    """In a process of its own: nothing is imported or cached there."""
    command = [sys.executable, "docs/architecture.py", "--check"]
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stderr}run: python docs/architecture.py"


@pytest.mark.parametrize("page", ["architecture.md", "decisions.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:bench|compiler|edgec|kernels|targets|tests)/[\w/.]*)`", text)
    assert len(named) > 20
    assert not [name for name in named if not (ROOT / name).exists()]


def test_a_word_of_the_glossary_has_one_meaning() -> None:
    rows = (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    words = [row.split("|")[1].strip() for row in rows if row.startswith("| ")][1:]
    assert len(words) > 40
    assert words == sorted(set(words), key=str.lower)


@pytest.mark.parametrize("folder", ["bench", "compiler", "edgec", "kernels", "targets"])
def test_docstrings_stand_alone(folder: str) -> None:
    """A field is said to be something, not of something; a function to do something, not where to look."""
    files = [path for path in (ROOT / folder).rglob("*.py") if not path.is_symlink()]
    starts = [(path.name, line.strip()) for path in files for line in path.read_text("utf-8").splitlines()]
    assert files
    assert not [start for start in starts if start[1].startswith(('"""Of ', '"""See '))]


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
