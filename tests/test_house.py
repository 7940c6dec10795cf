"""The walls stand where they are said to: a new thing is one file and one line, tried in a copy of edgec."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.compiler import onnx_models

ROOT = Path(__file__).parents[1]
_FOLDERS = ("bench", "compiler", "edgec", "kernels", "targets")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with edgec in it, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, symlinks=True, ignore=ignored)
    (tmp_path / "copy/docs").mkdir()
    shutil.copy(ROOT / "docs/operators.py", tmp_path / "copy/docs")
    return tmp_path / "copy"


def python(copy: Path, *arguments: str | Path) -> str:
    """Run Python with the copy's edgec; return what it prints."""
    run = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=copy, env={"PYTHONPATH": str(copy), "HOME": str(copy)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def insert(path: Path, after: str, line: str) -> None:
    """Put a line behind the one that holds `after`."""
    text = path.read_text()
    assert text.count(after) == 1
    path.write_text(text.replace(after, f"{after}{line}"))


OPERATOR = '''
"""The maximum of each channel of an image, at its input's own scale."""

from edgec.compiler.graph import shape_of
from edgec.compiler.operators import window
from edgec.compiler.operators.row import IntegerForm, OnnxOperator, emit
from edgec.kernels.operations import MaxPool


def _refuses(node):
    shape = shape_of(node.inputs[0])
    return None if shape is not None and len(shape) == 4 else "only maxima of images have an integer kernel"


def _lower(builder, request):
    image = window.image(builder, request.inputs[0], request.name)
    n, c, h, w = image.view.shape
    operation = MaxPool((n, h, w, c), (n, 1, 1, c), (h, w), (1, 1), (0, 0))
    return emit(builder, request, operation, (image.tensor,), window.result(request.shape))


ROW = OnnxOperator(
    "movement", _refuses, integer=IntegerForm(_lower, keeps_scale=True), limits="images"
)
'''


@pytest.mark.slow
def test_an_operator_is_one_file_and_one_row(copy: Path, tmp_path: Path) -> None:
    table = copy / "compiler/operators/table.py"
    (copy / "compiler/operators/global_max.py").write_text(OPERATOR)
    insert(table, "    arrangement,\n", "    global_max,\n")
    insert(table, "OPERATORS: dict[str, OnnxOperator] = {\n", '    "GlobalMaxPool": global_max.ROW,\n')
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    model = onnx_models.model(
        "(float[1,3,9,7] x) => (float y) { c = Conv(x, w) m = GlobalMaxPool(c) y = Conv(m, v) }",
        {"w": weights, "v": weights[:, :1, :1, :1].repeat(8, axis=1)},
    )
    onnx.save(model, tmp_path / "toy.onnx")
    python(copy, "-m", "edgec", "build", tmp_path / "toy.onnx", "--target", "x86-64-v3-int8",
           "--output", tmp_path / "toy.edgec", "--dump", tmp_path / "dump")  # fmt: skip
    network = (tmp_path / "dump/network.txt").read_text()
    assert "globalmaxpool_1: MaxPool(" in network
    assert "Island" not in network
    assert "exact" in python(copy, "-m", "edgec", "verify", tmp_path / "toy.edgec")
    python(copy, copy / "docs/operators.py")
    page = (copy / "docs/operators.md").read_text()
    assert "| GlobalMaxPool | its input's scale | yes | images |" in page
