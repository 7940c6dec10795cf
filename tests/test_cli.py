import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgec
from edgec import cli, spelling
from edgec.bench.devices import SCHEMES
from edgec.errors import ModelError, TuningError, UnsupportedError
from edgec.targets import loader


def run(*arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgec", *arguments]
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=here)


def test_targets_lists_every_device() -> None:
    done = run("targets")
    assert done.returncode == 0
    for device in loader.devices():
        assert f"\n{device} " in done.stdout


def test_targets_as_json_is_one_object() -> None:
    data = json.loads(run("targets", "--json").stdout)
    assert [target["device"] for target in data["targets"]] == loader.devices()


@pytest.mark.parametrize("name", ["rpi5", "rpi5-int8"])
def test_one_target(name: str) -> None:
    data = json.loads(run("targets", name, "--json").stdout)
    assert data["cpu"] == "cortex-a76"
    assert "dotprod" in data["features"]
    assert "cortex-a76" in run("targets", name).stdout


@pytest.mark.parametrize("command", ["tune", "run", "verify", "bench"])
def test_help_names_every_kind_of_device(command: str) -> None:
    said = "".join(run(command, "--help").stdout.split())
    assert not [scheme.form for scheme in SCHEMES.values() if "".join(scheme.form.split()) not in said]


def test_targets_imports_nothing_heavy() -> None:
    heavy = {"tvm", "onnx", "onnx_ir", "onnxruntime", "numpy", "pydantic", "jinja2"}
    said = run("targets", PYTHONVERBOSE="1").stderr
    imported = set(re.findall(r"^import '(\w+)'", said, re.MULTILINE))
    assert "typer" in imported
    assert not heavy & imported


def test_targets_answers_in_a_third_of_a_second() -> None:
    def seconds() -> float:
        before = os.times()
        assert run("targets").returncode == 0
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return used  # of the processor: a busy machine must not fail the test

    assert min(seconds() for _ in range(3)) < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["targets", "rpi6"], "no target 'rpi6' (did you mean 'rpi5'?)"),
        (["bench", "nowhere"], "nowhere is no bundle"),
        (["verify", "nowhere"], "nowhere is no bundle"),
        (["tune", "nowhere"], "nowhere is no bundle"),
        (["tune", "nowhere", "--budget", "1 min"], "budget '1 min': write a time above zero as 60s"),
        (["build", "a.onnx", "--target", "host-int8", "--tune", "0s"], "budget '0s': write a time"),
        (["run", "nowhere", "--input", "a", "--output", "b"], "nowhere is no bundle"),
        (["build", "a.onnx", "--target", "arm64-int8", "--shape", "x=1x-3"], "--shape x=1x-3: write"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("edgec: error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_option_is_exit_code_2() -> None:
    done = run("verify")
    assert done.returncode == 2
    assert "Missing argument 'BUNDLE'" in done.stderr
    assert run("bench", "x", "--threads", "0").returncode == 2


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("edgec")
    helped = run("--help")
    assert helped.returncode == 0
    for command in ("build", "run", "verify", "bench", "targets"):
        assert f"\n  {command} " in helped.stdout


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "devices", lambda: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["edgec", "targets"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_line_break_in_a_name_is_no_line_break_in_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> list[str]:
        raise UnsupportedError("m\nedgec: error: x\x1b[31m\u202e\udcff\x9b.onnx: \u00e9")

    monkeypatch.setattr(loader, "devices", fail)
    monkeypatch.setattr(sys, "argv", ["edgec", "targets"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    escaped = r"m\nedgec: error: x\x1b[31m\u202e\udcff\x9b.onnx"
    assert capsys.readouterr().err == f"edgec: error: {escaped}: \u00e9\n"


@pytest.mark.parametrize(
    ("text", "shape"),
    [("x=1x3x224x224", ("x", (1, 3, 224, 224))), ("a=b=7", ("a=b", (7,)))],
)
def test_shapes(text: str, shape: tuple[str, tuple[int, ...]]) -> None:
    assert spelling.shape("--shape", text) == shape


@pytest.mark.parametrize("text", ["x", "=1x2", "x=", "x=0x2", "x=1x", "x=1,2"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(ModelError, match="NAME=1x3x224x224"):
        spelling.shape("--shape", text)


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("5m", 300), ("1h", 3600), ("0.5m", 30)])
def test_budgets(text: str, seconds: float) -> None:
    assert spelling.seconds("--timeout", text) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("65536", 65536), ("64K", 65536), ("1M", 1 << 20), ("3M", 3 << 20)]
)
def test_memory_is_counted_in_powers_of_two(text: str, count: int) -> None:
    assert spelling.size("--max-ram", text) == count


@pytest.mark.parametrize("text", ["", "60", "s", "-5s", "0s", "1d", "5 m", "nans"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(TuningError, match=r"write a time above zero as 60s, 5m or 1h"):
        spelling.seconds("--timeout", text)


def test_the_packages_own_names() -> None:
    assert callable(edgec.build)
    assert callable(edgec.load)
    assert edgec.Bundle.__name__ == "Bundle"
    with pytest.raises(AttributeError, match="no attribute 'quantize'"):
        edgec.quantize  # noqa: B018
