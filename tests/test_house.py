"""A new thing of a kind is one file and its line in a table: added here in a copy of edgec, and then used."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.bench.conftest import HOST_TARGET, build
from tests.compiler import onnx_models
from tests.compiler.building import HOST

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class House:
    """A copy of edgec."""

    folder: Path

    def add(self, path: str, text: str) -> None:
        """Add a file."""
        assert not (self.folder / path).exists()
        (self.folder / path).write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        """Change a place of a file that is there."""
        text = (self.folder / path).read_text()
        assert text.count(old) == 1
        (self.folder / path).write_text(text.replace(old, new))

    def edgec(self, *arguments: object) -> str:
        """Run the copy; returns what it says on stdout."""
        return self.python("-m", "edgec", *arguments)

    def python(self, *arguments: object) -> str:
        """Run Python with the copy; returns what it says on stdout."""
        command = [sys.executable, *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def house(tmp_path: Path) -> House:
    folder = tmp_path / "house"
    folder.mkdir()
    for name in ("bench", "compiler", "edgec", "kernels", "targets"):
        shutil.copytree(
            ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    return House(folder)


DEVICE = '''
"""This machine, by a shell of its own."""

from edgec.bench.devices import remote
from edgec.bench.devices.connection import SHELL_COMMAND, Connection
from edgec.bench.devices.device import Scheme


def connect(address, target, timeout_seconds):
    """Return it."""
    connection = Connection(f"shell:{address}", ["sh", "-c", SHELL_COMMAND], str.strip)
    return remote.connect(connection, target, timeout_seconds)


SCHEME = Scheme("shell:NAME", connect)
'''


def test_a_scheme_of_devices(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = "bench/devices/__init__.py"
    house.add("bench/devices/shell.py", DEVICE)
    house.replace(table, "serial, ssh\n", "serial, shell, ssh\n")
    house.replace(table, '    "ssh": ssh.SCHEME,\n', '    "ssh": ssh.SCHEME,\n    "shell": shell.SCHEME,\n')
    bundle = build(HOST_TARGET, tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = ("--input", bundle.path / "golden/inputs.npz", "--output", tmp_path / "out.npz")
    said = json.loads(house.edgec("run", bundle.path, *files, "--device", "shell:mine", "--json"))
    assert said["device"] == "shell:mine"
    assert (tmp_path / "out.npz").exists()
    measured = json.loads(house.edgec("bench", bundle.path, "--device", "shell:mine", "--json", "--runs", 3))
    assert measured["latency_ms"]["min"] > 0
    assert "shell:NAME" in house.edgec("run", "--help")
    assert not list((tmp_path / "cache" / "edgec" / "programs").glob("run-*"))


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
def test_an_operator(house: House, tmp_path: Path) -> None:
    table = "compiler/operators/table.py"
    house.add("compiler/operators/global_max.py", OPERATOR)
    house.replace(table, "    float_layers,\n", "    float_layers,\n    global_max,\n")
    rows = "OPERATORS: dict[str, OnnxOperator] = {\n"
    house.replace(table, rows, f'{rows}    "GlobalMaxPool": global_max.ROW,\n')
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    model = onnx_models.model(
        "(float[1,3,9,7] x) => (float y) { c = Conv(x, w) m = GlobalMaxPool(c) y = Conv(m, v) }",
        {"w": weights, "v": weights[:, :1, :1, :1].repeat(8, axis=1)},
    )
    onnx.save(model, tmp_path / "toy.onnx")
    bundle, dump = tmp_path / "toy.edgec", tmp_path / "dump"
    house.edgec("build", tmp_path / "toy.onnx", "--target", HOST_TARGET, "--output", bundle, "--dump", dump)
    network = (dump / "network.txt").read_text()
    assert "globalmaxpool_1: MaxPool(" in network
    assert "Island" not in network
    assert "exact" in house.edgec("verify", bundle)
    house.add("operators.py", (ROOT / "docs/operators.py").read_text())
    house.python("operators.py")
    page = (house.folder / "operators.md").read_text()
    assert "| GlobalMaxPool | its input's scale | yes | images |" in page


INSTRUCTION_SET = '''
"""Portable products whose sums are kept ten too large, which is put right around them."""

from contextlib import contextmanager

from edgec.kernels import tir
from edgec.kernels.isa.generic import Generic
from edgec.kernels.tir import T


class Toy(Generic):
    """Two vectors wide."""

    name = "toy"
    tiles = ((2, 2), (1, 2), (1, 1))
    products = 2.0

    @contextmanager
    def around(self, tile):
        """Add ten, and take it off again."""
        self._add(tile, 10)
        yield
        self._add(tile, -10)

    def _add(self, tile, number):
        for buffer, element in (sums for row in tile for sums in row):
            total = tir.load(buffer, element, 4) + T.broadcast(T.int32(number), 4)
            tir.store(buffer, element, total, 4)
'''


@pytest.mark.slow
def test_an_instruction_set(house: House, tmp_path: Path) -> None:
    table = "kernels/table.py"
    house.add("kernels/isa/toy.py", INSTRUCTION_SET)
    house.replace(table, "fma, int16, tables, x86\n", "fma, int16, tables, toy, x86\n")
    first = '    _vectorized("conv2d", conv2d.codes, x86.AVX512VNNI),\n'
    house.replace(table, first, f'    _vectorized("conv2d", conv2d.codes, toy.Toy()),\n{first}')
    onnx.save(convolution(), tmp_path / "toy.onnx")
    bundle = tmp_path / "toy.edgec"
    house.edgec("build", tmp_path / "toy.onnx", "--target", HOST, "--output", bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    kernels = {kernel["kernel"] for level in manifest["levels"] for kernel in level["kernels"]}
    assert "conv2d_toy" in kernels
    assert "exact" in house.edgec("verify", bundle)


def convolution() -> onnx.ModelProto:
    weights = np.random.default_rng(0).standard_normal((5, 3, 2, 2)).astype(np.float32)
    return onnx_models.model("(float[1,3,9,7] x) => (float y) { y = Conv(x, w) }", {"w": weights})


PLATFORM = '''
"""Linux with musl, for programs that are linked as a whole: no shared library."""

from edgec.compiler.emit.platforms.linux import Linux


class Musl(Linux):
    """See `Emission`."""

    def links(self, target, identifier, parts):
        """Return what makes the program alone."""
        return super().links(target, identifier, parts)[:1]
'''
FACTS = """
MUSL = dataclasses.replace(LINUX, name="musl", mark="-linux-musl", alignment=128)
PLATFORMS = (MUSL, LINUX, BAREMETAL)
"""


def test_a_platform(house: House, tmp_path: Path) -> None:
    """Two lines: what all ask of it is a row of its own, below everything."""
    facts, table = "targets/platforms.py", "compiler/emit/platforms/__init__.py"
    house.replace(facts, "PLATFORMS = (LINUX, BAREMETAL)\n", FACTS)
    house.replace(
        facts,
        "from dataclasses import dataclass\n",
        "import dataclasses\nfrom dataclasses import dataclass\n",
    )
    house.add("compiler/emit/platforms/musl.py", PLATFORM)
    house.replace(
        table,
        "linux import Linux\n",
        "linux import Linux\nfrom edgec.compiler.emit.platforms.musl import Musl\n",
    )
    house.replace(table, '{"linux": Linux(), ', '{"linux": Linux(), "musl": Musl(), ')
    triple = "x86_64-linux-musl"
    (tmp_path / "mine.toml").write_text(f'base = "x86-64"\ntriple = "{triple}"\nc_target = "{triple}"\n')
    onnx.save(convolution(), tmp_path / "toy.onnx")
    target = f"{tmp_path / 'mine.toml'}-int8"
    house.edgec("build", tmp_path / "toy.onnx", "--target", target, "--output", tmp_path / "toy.edgec")
    files = {path.name for path in (tmp_path / "toy.edgec").rglob("*")}
    assert {"libtoy.a", "toy-bench"} <= files
    assert "libtoy.so" not in files
    assert "ARENA_ALIGNMENT 128" in (tmp_path / "toy.edgec/include/toy.h").read_text()


OPTION = """\
    toy: Annotated[int, Option("A number that goes along.", "N", recorded="toys/number")] = 3
"""
FROM_PYTHON = """
import edgec
built = edgec.build("m.onnx", target="host-int8", output="python.edgec", toy=5)
print(built.manifest.options.toy, edgec.load("python.edgec").manifest.options.toy)
print(edgec.build.__doc__)
"""


@pytest.mark.slow
def test_an_option_is_one_field(house: House) -> None:
    last = "    progress: Progress | None = None\n"
    house.replace("edgec/options.py", last, OPTION + last)
    onnx.save(onnx_models.model("(float[1,4] x) => (float[1,4] y) { y = Relu(x) }"), house.folder / "m.onnx")
    assert "--toy N" in house.edgec("build", "--help")
    command = ("build", "m.onnx", "--target", "host-int8", "--output", "shell.edgec", "--json")
    assert json.loads(house.edgec(*command, "--toy", 4))["manifest"]["toys"] == {"number": 4}
    assert json.loads(house.edgec(*command))["manifest"]["toys"] == {"number": 3}
    said = house.python("-c", FROM_PYTHON)
    assert said.startswith("5 5\n")
    assert "    toy: A number that goes along.\n" in said
