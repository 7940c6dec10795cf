"""A new thing of a kind is one file and its line in a table: added here in a copy of edgec, and then used."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.conftest import HOST_TARGET, build

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
        command = [sys.executable, "-m", "edgec", *map(str, arguments)]
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
from edgec.bench.devices.device import Scheme


def connect(address, target, timeout_seconds):
    """Return it."""
    connection = remote.Connection(f"shell:{address}", ["sh", "-c", remote.SHELL_COMMAND], str.strip)
    return remote.connect(connection, target, timeout_seconds)


SCHEME = Scheme("shell:NAME", connect)
'''


def test_a_scheme_of_devices(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = "bench/devices/__init__.py"
    house.add("bench/devices/shell.py", DEVICE)
    house.replace(table, "serial, ssh\n", "serial, shell, ssh\n")
    house.replace(table, '    "ssh": ssh.SCHEME,\n', '    "ssh": ssh.SCHEME,\n    "shell": shell.SCHEME,\n')
    bundle = build(HOST_TARGET, tmp_path)
    files = ("--input", bundle.path / "golden/inputs.npz", "--output", tmp_path / "out.npz")
    said = json.loads(house.edgec("run", bundle.path, *files, "--device", "shell:mine", "--json"))
    assert said["device"] == "shell:mine"
    assert (tmp_path / "out.npz").exists()
    measured = json.loads(house.edgec("bench", bundle.path, "--device", "shell:mine", "--json", "--runs", 3))
    assert measured["latency_ms"]["min"] > 0
    assert not list((tmp_path / "cache" / "edgec").glob("run-*"))
