"""Write the walk at the end of architecture.md: every file that a build of one convolution enters, in order.

Run `python docs/architecture.py` after a file came, went or was renamed; `--check` says whether the page is
current instead. The build is a real one, with empty caches, and `sys.settrace` tells of each function called.
"""

import argparse
import ast
import importlib
import os
import pkgutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
import onnx
from onnx import helper, numpy_helper

import edgec

PAGE = Path(__file__).with_suffix(".md")
ROOT = PAGE.parents[1]
HEADING = "## A newcomer's walk\n"
TARGET = "rpi5-int8"
STAGES = {
    "edgec/__init__.py": "Asked",
    "compiler/frontend/load.py": "Import: the file becomes a `Model`",
    "compiler/compress/calibration.py": "Quantize: a `Model` with QDQ",
    "compiler/lower/graph/integer.py": "Lower: a `Network` of operations",
    "compiler/lower/network/fuse_residuals.py": "Choose kernels and plan memory: a `Program` and its `Plan`",
    "compiler/native/objects.py": "Compile: objects, from the cache where they are known",
    "kernels/reference/network.py": "Compute what is expected, and compare it with the original",
    "compiler/emit/linking.py": "Emit: the `Bundle`",
}
"""The first file of each stage -> its heading."""
FOLDERS = ("bench", "compiler", "edgec", "kernels", "targets")
"""The package's; a virtual environment, too, may lie beside them."""
THREADED = ("kernels/codegen/", "kernels/isa/", "compiler/native/", "compiler/emit/platforms/")
"""Folders whose functions several threads call: the order of the files in them varies."""
_NEW_LOCALS = 2
"""Flag of a function's code, which modules and classes lack."""


@contextmanager
def entered() -> Iterator[list[str]]:
    """Within it, files of the package are noted as functions of theirs are called first, in any thread.

    What is called while modules are imported belongs to no build: all are imported before.
    """
    for module in pkgutil.walk_packages(edgec.__path__, "edgec."):
        if module.name.startswith(("edgec.compiler.", "edgec.kernels.")) and "__main__" not in module.name:
            importlib.import_module(module.name)
    seen: set[CodeType] = set()
    names: list[str] = []

    def called(frame: FrameType, _event: str, _argument: object) -> None:
        code = frame.f_code
        if code not in seen:
            seen.add(code)
            path = Path(code.co_filename)
            if code.co_flags & _NEW_LOCALS and path.is_absolute() and path.resolve().is_relative_to(ROOT):
                name = path.resolve().relative_to(ROOT).as_posix()
                if name not in names and name.partition("/")[0] in FOLDERS:
                    names.append(name)

    threading.settrace(called)
    sys.settrace(called)
    try:
        yield names
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]


def walk() -> list[str]:
    """Return the files that `edgec.build` of one convolution enters, in the order of their first function."""
    weights = ((np.arange(216) * 37 % 128) / 64 - 1).astype(np.float32).reshape(8, 3, 3, 3)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["y"], "conv", pads=[1, 1, 1, 1])],
        "one",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8, 8, 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    samples = np.resize(weights, (8, 3, 8, 8))
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        os.environ |= {"XDG_CACHE_HOME": name, "XDG_DATA_HOME": name}
        path = Path(name) / "one.onnx"
        onnx.save(model, path)
        with entered() as names:
            edgec.build(
                path, target=TARGET, output=path.with_suffix(".edgec"), calibration={"image": samples}
            )
    return names


def section(names: Sequence[str]) -> str:
    """Return the walk's section of the page: a list of files per stage, each with what its docstring says."""
    lines = [
        HEADING,
        f"`edgec.build` of one 3x3 convolution for `{TARGET}`, nothing cached: every file that it enters, in",
        "the order of the first function called. `python docs/architecture.py` traced one and wrote it.",
    ]
    for name in names:
        if name in STAGES:
            lines += ["", f"**{STAGES[name]}**", ""]
        docstring = ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8"))) or ""
        lines.append(f"- `{name}`: {docstring.partition(chr(10))[0]}")
    return "\n".join([*lines, ""])


def listed() -> list[str]:
    """Return the files that the page names in its walk."""
    text = PAGE.read_text(encoding="utf-8").partition(HEADING)[2]
    return [line.split("`")[1] for line in text.splitlines() if line.startswith("- `")]


def in_order(names: Sequence[str]) -> list[str]:
    """Return the files that are always entered in the same order."""
    return [name for name in names if not name.startswith(THREADED)]


def fault(names: Sequence[str]) -> str | None:
    """Return how the page's walk differs from the files that a build entered, or None."""
    page = listed()
    if missing := [name for name in names if name not in page]:
        return f"the page lacks {', '.join(missing)}"
    if gone := [name for name in page if name not in names]:
        return f"no build enters {', '.join(gone)}"
    return None if in_order(names) == in_order(page) else "the order is another"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    entered_files = walk()
    if parser.parse_args().check:
        sys.exit(fault(entered_files))
    before = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    PAGE.write_text(before + section(entered_files), encoding="utf-8")
