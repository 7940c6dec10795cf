"""What users, shells and machines do to the command line: one line, the right exit code, nothing left."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.table import Table

from edgec import cache as kept
from edgec import cli, output
from edgec.bench import tuning
from edgec.bench.bundle import Bundle
from edgec.compiler import pipeline
from edgec.compiler.native import c_cache, toolchain
from edgec.compiler.records import records
from edgec.compiler.tune import tune
from edgec.compiler.tune.tune import Tuning
from edgec.errors import BundleError, ToolchainError, TuningError
from edgec.targets import loader
from tests.compiler.building import HOST, build
from tests.compiler.onnx_models import model

ROOT = Path(__file__).parents[1]
MODEL = model("(float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
LONG = "9" * 5000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(MODEL, tmp_path_factory.mktemp("built"))


@pytest.fixture
def place(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a model, its inputs, a bundle, and things that aren't what they should be."""
    monkeypatch.chdir(tmp_path)
    onnx.save(MODEL, "m.onnx")
    onnx.save(MODEL, b"\xff.onnx".decode("utf-8", "surrogateescape"))
    onnx.save(MODEL, "a\nedgec: error: b.onnx")
    onnx.save(MODEL, f"{'n' * 240}.onnx")
    np.savez("x.npz", x=np.ones((1, 4), np.float32))
    np.savez("key.npz", **{"a\nb\x1b[31m": np.ones(1)})
    (tmp_path / "b").symlink_to(bundle.path)
    (tmp_path / "web").mkdir()
    (tmp_path / "web/manifest.json").write_text('{"name": "app", "files": {"index.html": ""}}')
    (tmp_path / "web/index.html").write_text("years of work")
    os.mkfifo("pipe")
    (tmp_path / "line.toml").write_text('base = "x86-64"\n"a\\nb\\u001b" = 1\n')
    return tmp_path


BUILD = ("build", "m.onnx", "--target", HOST)
RUN = ("run", "b", "--input", "x.npz", "--output")

MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "option-typo": (("verify", "b", "--devise", "local"), "--device"),
    "missing-target": (("build", "m.onnx"), "Missing option '--target'"),
    "missing-argument": (("verify",), "Missing argument 'BUNDLE'"),
    "missing-value": (("bench", "b", "--runs"), "--runs"),
    "unknown-command": (("biuld",), "'biuld'"),
    "one-argument-too-many": (("targets", "a", "b"), "unexpected extra argument"),
    "optimize-fast": ((*BUILD, "--optimize", "fast"), "'fast' is not one of"),
    "threads-0": (("bench", "b", "--threads", "0"), "'--threads': 0 is not in the range"),
    "threads-5000-digits": (("bench", "b", "--threads", LONG), "'--threads'"),
    "runs-10e30": (("bench", "b", "--runs", str(10**30)), "'--runs'"),
    "shape-10e30": ((*BUILD, "--shape", f"x={10**30}"), "2147483647 elements at most"),
    "shape-product": ((*BUILD, "--shape", "x=99999x99999"), "2147483647 elements at most"),
    "shape-5000-digits": ((*BUILD, "--shape", f"x={LONG}"), "2147483647 elements at most"),
    "max-ram-5000-digits": ((*BUILD, "--max-ram", LONG), "write a number of bytes as 65536"),
    "max-ram-arabic": ((*BUILD, "--max-ram", "\u0661\u0662"), "write a number of bytes as 65536"),
    "tune-inf": ((*BUILD, "--tune", f"{'9' * 400}h"), "write a time above zero"),
    "tune-a-century": ((*BUILD, "--tune", "876000h"), "1000h at most"),
    "io": ((*BUILD, "--io", "int8,int4"), "write int8 or float"),
    "name-300": ((*BUILD, "--name", "n" * 300), "100 bytes at most"),
    "name-empty": ((*BUILD, "--name", ""), "give another with --name"),
    "name-not-utf8": ((*BUILD, "--name", "\udcff"), "name '\\udcff'"),
    "name-of-two-lines": ((*BUILD, "--name", "a\nb"), r"name 'a\nb'"),
    "name-with-a-slash": ((*BUILD, "--name", "../b"), "no slashes"),
    "model-name-of-240": (("build", f"{'n' * 240}.onnx", "--target", HOST), "100 bytes at most"),
    "model-name-not-utf8": (
        ("build", "\udcff.onnx", "--target", HOST, "--name", "m"),
        r"\udcff.onnx: rename the file",
    ),
    "line-break-in-name": (
        ("build", "a\nedgec: error: b.onnx", "--target", HOST, "--name", "m"),
        r"a\nedgec: error: b.onnx: rename",
    ),
    "model-pipe": (("build", "pipe", "--target", HOST), "pipe: not a file but a pipe"),
    "model-folder": (("build", "web", "--target", HOST), "web: not a file but a folder"),
    "model-zero": (("build", "/dev/zero", "--target", HOST, "--name", "m"), "not a file but a device"),
    "model-missing": (("build", "no.onnx", "--target", HOST), "no.onnx: no such file"),
    "calibration-pipe": ((*BUILD, "--calibration", "pipe"), "pipe: not a file but a pipe"),
    "calibration-zero": ((*BUILD, "--calibration", "/dev/zero"), "not a file but a device"),
    "key-with-line-break": ((*BUILD, "--calibration", "key.npz"), r"a\nb\x1b[31m"),
    "records-zero": ((*BUILD, "--records", "/dev/zero"), "not a file but a device"),
    "dump-is-file": ((*BUILD, "--dump", "m.onnx"), "m.onnx: can't be made"),
    "dump-unwritable": ((*BUILD, "--dump", "/proc/x"), "/proc/x: can't be made"),
    "output-foreign": ((*BUILD, "--output", "web"), "its manifest.json isn't edgec's; move it away"),
    "output-dotdot": ((*BUILD, "--output", "x/.."), "name one to make with --output"),
    "output-here": ((*BUILD, "--output", ""), "name one to make with --output"),
    "output-file": ((*BUILD, "--output", "m.onnx"), "m.onnx exists and is no bundle"),
    "output-in-a-file": ((*BUILD, "--output", "m.onnx/b"), "m.onnx/b can't be written: "),
    "output-unwritable": ((*BUILD, "--output", "/proc/x/b"), "/proc/x/b can't be written: "),
    "output-300": ((*BUILD, "--output", "o" * 300), "can't be written: File name too long"),
    "output-null": ((*BUILD, "--output", "/dev/null"), "/dev/null exists and is no bundle"),
    "toml-pipe": (("build", "m.onnx", "--target", "pipe.toml-int8"), "pipe.toml: no such file"),
    "toml-line-break": (("build", "m.onnx", "--target", "line.toml-int8"), r"a\nb\x1b"),
    "target-line-break": (("build", "m.onnx", "--target", "a\nb"), r"no target 'a\nb'"),
    "bundle-line-break": (("verify", "a\nb"), r"a\nb is no bundle"),
    "bundle-300": (("verify", "b" * 300), "is no bundle"),
    "input-pipe": (("run", "b", "--input", "pipe", "--output", "o.npz"), "pipe: not a file but a pipe"),
    "input-keys": (("run", "b", "--input", "key.npz", "--output", "o.npz"), r"no input 'a\nb\x1b[31m'"),
    "data-pipe": (("verify", "b", "--data", "pipe"), "pipe: not a file but a pipe"),
    "out-folder": ((*RUN, "web"), "web: not a file but a folder"),
    "out-null": ((*RUN, "/dev/null"), "/dev/null: not a file but a device"),
    "out-nowhere": ((*RUN, "no/o.npz"), "no/o.npz: can't be written: there is no folder"),
    "out-proc": ((*RUN, "/proc/o.npz"), "/proc/o.npz: can't be written"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, message = MISTAKES[name]
    before = sorted(place.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["edgec", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capfd.readouterr()
    assert left.value.code == 2
    assert said.err.startswith("edgec: error: ")
    assert said.err.count("\n") == 1
    assert said.err.removesuffix("\n").isprintable()
    assert message in said.err
    assert len(said.err) < 2100
    assert sorted(place.rglob("*")) == before
    assert (place / "web/index.html").read_text() == "years of work"


# ---- Streams, disks and signals: what only a process of its own can show


def start(*arguments: str, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "edgec", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})  # type: ignore[operator]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, text=True, env=environment, **streams)  # type: ignore[call-overload, no-any-return]


def test_a_full_or_closed_stdout_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        for arguments in (["targets"], ["targets", "--json"], ["--help"], ["--version"]):
            process = start(*arguments, stdout=full)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 2
            assert said.startswith("edgec: error: ")
            assert said.endswith("No space left on device\n")
            assert said.count("\n") == 1
    with start("targets") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == "edgec: error: the output can't be written: Broken pipe\n"
    assert process.returncode == 2


def test_streams_may_be_closed() -> None:
    def close() -> None:
        for descriptor in range(3):
            os.close(descriptor)

    process = start("targets", stdout=None, stderr=None, preexec_fn=close)
    assert process.wait(60) == 0
    process = start("targets", "nowhere", stdout=None, stderr=None, preexec_fn=close)
    assert process.wait(60) == 2


def test_names_that_the_encoding_lacks_are_escaped(place: Path) -> None:
    process = start(*RUN, "\u00e9\udcff.npz", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0
    assert np.load(place / "\u00e9\udcff.npz")["y"].shape == (1, 4)
    process = start("verify", "\u00e9", env={"PYTHONIOENCODING": "ascii"})
    assert process.communicate(timeout=60)[1].startswith(r"edgec: error: \xe9 is no bundle")


SLOW = (*BUILD[:2], "--target", "x86-64-int8", "--output", "made/o.edgec")
"""Compiles for seconds, so that a signal comes in between."""


def settle(place: Path, process: "subprocess.Popen[str]", until: str) -> None:
    """Wait for a file to appear beside the output, or for the process to end."""
    for _ in range(1200):
        if list(place.glob(until)) or process.poll() is not None:
            return
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_build_and_all_that_it_began(number: signal.Signals, place: Path) -> None:
    temporary = place / "tmp"
    temporary.mkdir()
    process = start(*SLOW, env={"TMPDIR": str(temporary)}, start_new_session=True)
    settle(place, process, "made/.o.edgec.partial-*/new/work-*/*.o")
    process.send_signal(number)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, (out, said)
    assert said == f"edgec: stopped by {number.name}\n"
    assert not (place / "made").exists()
    assert not [path for path in temporary.iterdir() if path.name != ".ses"]
    mark = str(temporary).encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            assert mark not in environment.read_bytes()


@pytest.mark.parametrize("seconds", [0.06, 0.1, 0.2, 0.5])
def test_ctrl_c_in_the_first_moments_is_no_traceback(seconds: float) -> None:
    process = start("verify", "nowhere")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT, 2, 1)
    if "Traceback" in said:  # Python itself was starting
        assert not re.search(r"edgec/(cli|errors|output)\.py", said)
    else:
        assert said.count("\n") <= 1


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    process = start("verify", "nowhere", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is no bundle" in said


@pytest.mark.parametrize("kilobytes", [1, 8])
def test_a_full_disk_is_one_line_and_leaves_nothing(kilobytes: int, place: Path) -> None:
    def fill() -> None:  # no file may grow further: what a full disk does, to edgec and its compilers
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))

    before = sorted(place.rglob("*"))
    process = start(*BUILD, "--output", "o.edgec", preexec_fn=fill)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert said.startswith("edgec: error: ")
    assert said.count("\n") == 1
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("cache", ["/proc", "m.onnx", "/dev/null"])
def test_a_cache_that_cannot_be_written_costs_time_and_no_build(
    cache: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache if cache.startswith("/") else str(place / cache))
    monkeypatch.setattr(c_cache, "_WANTED", 1)
    users = place / "cache" if cache == "m.onnx" else Path(cache) / "edgec" / "zig"
    if cache == "m.onnx":
        users.mkdir()
    found = c_cache.folder(users, 60)
    assert (found == users) == (cache == "m.onnx")
    kept.write(Path(cache) / "edgec" / "x.o", b"code")
    assert kept.read(Path(cache) / "edgec" / "x.o") is None


def test_the_compiler_has_a_time_limit_and_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 1000 & wait\n")
    slow.chmod(0o755)
    monkeypatch.setattr(toolchain, "_executable", lambda: slow)
    monkeypatch.setattr(toolchain, "_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(ToolchainError, match="the C compiler did not end within"):
        toolchain.zig(tmp_path, "cc")
    assert time.monotonic() - began < 10
    slow.write_text("#!/bin/sh\nkill -11 $$\n")
    monkeypatch.setattr(toolchain, "_SECONDS", 60)
    with pytest.raises(ToolchainError, match="the C compiler died of signal 11"):
        toolchain.zig(tmp_path, "cc")


def test_onnxruntime_leaves_no_files(place: Path) -> None:
    """Telemetry would keep a device id and a database in the cache, and a session's file in TMPDIR."""
    script = "from edgec.kernels.reference.oracle import session; session(open('m.onnx', 'rb').read())"
    (place / "c").mkdir()
    (place / "t").mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": f"{place}/c", "HOME": f"{place}/c", "TMPDIR": f"{place}/t"
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((place / "c").rglob("*"))
    assert not list((place / "t").rglob("*"))


def test_onnxruntime_is_imported_in_one_place() -> None:
    folders = ("bench", "compiler", "kernels", "targets", "examples", "docs")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    imported = re.compile(r"""^ *import onnxruntime|import_module\("onnxruntime"\)""", re.MULTILINE)
    importing = [path.name for path in sources if imported.search(path.read_text())]
    assert importing == ["oracle.py"]


def test_tuning_says_first_that_its_results_cannot_be_kept(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle.path, tmp_path / "b.edgec")
    (tmp_path / "b.edgec" / "notes.txt").touch()

    def never(*_arguments: object) -> Tuning:
        raise AssertionError("it was tuned")

    with pytest.raises(BundleError, match=r"'notes\.txt' in it is no file of a bundle's"):
        pipeline.retune(Bundle.load(tmp_path / "b.edgec"), never)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tune, "tune", never)
    tuner = tuning.tuner(bundle.device(), 1)
    with pytest.raises(TuningError, match="tuning records can't be written"):
        tuner(None, loader.load(HOST), {}, records.NONE)  # type: ignore[arg-type]  # not looked at


def test_the_compiler_needs_no_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    (tmp_path / "x.c").write_text("int x(void); int x(void) { return 1; }\n")
    toolchain.compile_c(loader.load(HOST), ["x.c"], "x.o", tmp_path)
    assert (tmp_path / "x.o").is_file()


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever names a layer writes neither to the terminal nor in rich's own marks."""
    name = "[/a] \x1b[31m\n[red]b\u202e"
    shown = r"[/a] \x1b[31m\n[red]b\u202e"
    out = output.console(as_json=False)
    table = Table("layer")
    table.add_row(name)
    out.print(table)
    out.print(name)
    output.line(out, "key", name)
    with output.stages(out) as progress:
        progress("lower", name)
        progress("plan", "")
    assert capsys.readouterr().out.count(shown) == 4
    assert output.plain(name).plain == shown
