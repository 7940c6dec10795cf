"""edgec on macOS and Windows, as far as a Linux can show: `other_system.py` hides what they lack."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest

import edgec
from tests.compiler.onnx_models import model

WORKER = Path(__file__).with_name("other_system.py")
NAMES = {"Darwin": "macOS", "Windows": "Windows"}


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Session(NamedTuple):
    system: str
    folder: Path
    done: dict[str, Done]


COMMANDS = {
    "list": ["targets"],
    "json": ["targets", "--json"],
    "host": ["targets", "host"],
    "host build": ["build", "m.onnx", "--target", "host-int8"],
    "typo": ["build", "m.onnx", "--target", "cortex-m4int8"],
    "firmware": ["build", "m.onnx", "--target", "cortex-m4-int8", "--output", "m4.edgec"],
    "again": ["build", "m.onnx", "--target", "cortex-m4-int8", "--output", "m4.edgec"],
    "island": ["build", "island.onnx", "--target", "rpi5-fp32", "--output", "rpi5.edgec"],
    "verify": ["verify", "m4.edgec"],
    "emulator": ["verify", "m4.edgec", "--device", "emulator"],
    "run here": ["verify", "rpi5.edgec"],
    "local": ["verify", "rpi5.edgec", "--device", "local"],
    "ssh": ["verify", "rpi5.edgec", "--device", "ssh://nobody@127.0.0.1:1"],
    "serial": ["verify", "m4.edgec", "--device", "serial:COM3"],
}


def small() -> onnx.ModelProto:
    weights = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    return model("(float[1,2,6,6] x) => (float[1,4,4,4] y) { c = Conv(x, w) y = Relu(c) }", {"w": weights})


def with_island() -> onnx.ModelProto:
    return model("(float[1,8] x) => (float[1,8] y) { y = CumSum(x, a) }", {"a": np.array(1)})


@pytest.fixture(scope="module", params=["Darwin", "Windows"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp(request.param)
    onnx.save(small(), folder / "m.onnx")
    onnx.save(with_island(), folder / "island.onnx")
    (folder / "commands.json").write_text(json.dumps(list(COMMANDS.values())), encoding="utf-8")
    command = [sys.executable, "-X", "warn_default_encoding", WORKER, request.param, "commands.json"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout.splitlines()[-1])
    done = {name: Done(*result) for name, result in zip(COMMANDS, results, strict=True)}
    return Session(NAMES[request.param], folder, done)


def hashes(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_firmware_is_built_with_the_bytes_that_it_has_from_linux(session: Session, tmp_path: Path) -> None:
    for name in ("firmware", "again"):
        assert session.done[name].code == 0, session.done[name]
    here = edgec.build(session.folder / "m.onnx", target="cortex-m4-int8", output=tmp_path / "m4.edgec")
    assert hashes(session.folder / "m4.edgec") == hashes(here.path)
    assert not [path for path in session.folder.iterdir() if "partial" in path.name]


def test_a_model_with_a_float_island_is_built_for_a_board_with_linux(
    session: Session, tmp_path: Path
) -> None:
    assert session.done["island"].code == 0, session.done["island"]
    here = edgec.build(session.folder / "island.onnx", target="rpi5-fp32", output=tmp_path / "rpi5.edgec")
    assert hashes(session.folder / "rpi5.edgec") == hashes(here.path)


def test_targets_are_listed_without_host(session: Session) -> None:
    listed = session.done["list"]
    assert listed.code == 0
    assert "cortex-m4" in listed.out
    assert f"Not listed: target 'host' is a machine with Linux and this is {session.system}" in listed.out
    devices = [target["device"] for target in json.loads(session.done["json"].out)["targets"]]
    assert "rpi5" in devices
    assert "host" not in devices


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("host", "name a device, such as arm64; 'edgec targets' lists them"),
        ("host build", "name a device, such as arm64; 'edgec targets' lists them"),
        ("typo", "no target 'cortex-m4int8' (did you mean 'cortex-m4-int8'?)"),
        ("verify", "name a board with --device serial:PATH"),
        ("emulator", "name a board with --device serial:PATH"),
        ("run here", "name a board with --device ssh://USER@HOST"),
        ("local", "name a board with --device ssh://USER@HOST"),
    ],
)
def test_what_needs_linux_is_refused_in_one_line_that_says_what_works(
    session: Session, name: str, says: str
) -> None:
    code, out, err = session.done[name]
    assert (code, out) == (2, "")
    assert err.startswith("edgec: error: ")
    assert err.count("\n") == 1
    assert says in err
    if name != "typo":
        assert session.system in err


def test_boards_are_reached_by_ssh(session: Session) -> None:
    """As far as to a port where nobody listens."""
    code, _, err = session.done["ssh"]
    assert code == 2
    assert err.startswith("edgec: error: 'ssh://nobody@127.0.0.1:1'")
    assert err.count("\n") == 1


def test_a_serial_line_is_for_systems_with_terminals(session: Session) -> None:
    code, _, err = session.done["serial"]
    assert code == 2
    missing = {"macOS": "COM3 is missing", "Windows": "lines are opened on Linux and macOS"}[session.system]
    assert missing in err
