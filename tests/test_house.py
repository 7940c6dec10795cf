"""The walls: in a copy of the package, a new thing of a kind is one place, and builds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.compiler.building import HOST
from tests.compiler.onnx_models import model

ROOT = Path(__file__).parents[1]
FOLDERS = ("edgec", "bench", "compiler", "kernels", "targets")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package, and a model beside it."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    onnx.save(model("(float[1,4] x) => (float[1,4] y) { y = Relu(x) }"), tmp_path / "m.onnx")
    return tmp_path


def add(file: Path, before: str, text: str) -> None:
    """Put `text` in front of what is in a file once."""
    content = file.read_text(encoding="utf-8")
    assert content.count(before) == 1
    file.write_text(content.replace(before, text + before), encoding="utf-8")


def python(house: Path, *arguments: str) -> str:
    """What a Python that imports the copy prints."""
    environment = os.environ | {"PYTHONPATH": str(house)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


OPTION = """    toy: Annotated[int, Option("A number that goes along.", "N", recorded="toys/number")] = 3
"""
API = """
import edgec
bundle = edgec.build("m.onnx", target={target!r}, output="b.edgec", toy=5)
print(edgec.__file__, bundle.manifest.options.toy, edgec.load("b.edgec").manifest.options.toy)
print(edgec.build.__doc__)
"""


def test_an_option_is_one_field(house: Path) -> None:
    add(house / "edgec/options.py", "    progress: Progress | None = None\n", OPTION)
    assert "--toy N" in python(house, "-m", "edgec", "build", "--help")
    command = ("-m", "edgec", "build", "m.onnx", "--target", HOST, "--output", "a.edgec")
    python(house, *command, "--toy", "4")
    assert json.loads((house / "a.edgec/manifest.json").read_text())["toys"] == {"number": 4}
    python(house, *command)
    assert json.loads((house / "a.edgec/manifest.json").read_text())["toys"] == {"number": 3}
    said = python(house, "-c", API.format(target=HOST))
    assert said.startswith(f"{house}/edgec/__init__.py 5 5\n")
    assert "toy: A number that goes along." in said
    kept = "from edgec.compiler.emit.bundle import Bundle; import pathlib; "
    kept += "print(Bundle.load(pathlib.Path('b.edgec')).manifest.options.toy)"
    assert python(house, "-c", kept) == "5\n"
