"""Bundles run over a real sshd; `sshd.py` says what of its far side is real."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgec.bench import devices, tuning
from edgec.bench.bundle import Bundle
from edgec.bench.devices import ssh
from edgec.bench.devices.remote import RemoteMachine
from edgec.bench.measure.benchmark import benchmark
from edgec.bench.measure.measurement import to_json
from edgec.bench.verify import verify
from edgec.errors import DeviceError
from edgec.targets import loader
from tests.bench.devices.sshd import Far, eventually, far_side, gone

RPI5 = loader.load("rpi5-int8")
BOARD = "ssh://board"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, arm_emulator: None) -> Iterator[Far]:
    with far_side(tmp_path_factory.mktemp("far")) as far:
        yield far


@pytest.fixture
def far(started: Far, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    """As it was at first, and with no connection to it from before or after."""
    monkeypatch.setenv(ssh.COMMAND, f"ssh -F {started.folder}/client")
    yield started
    for name in ("board", "jumped", "stranger"):
        ssh._connection(f"ssh://{name}", ("--", name)).close()
    ssh._connection.cache_clear()
    assert eventually(lambda: not started.runs())


def board(seconds: float = 60, name: str = BOARD) -> RemoteMachine:
    device = devices.connect(name, RPI5, seconds)
    assert isinstance(device, RemoteMachine)
    return device


def program(folder: Path, script: str) -> Path:
    """A shell script stands in for a program where it must do what none of edgec's does."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    return path


@pytest.mark.usefixtures("toy_network")
def test_a_bundle_is_verified_and_run_there(far: Far, a76_bundle: Bundle) -> None:
    samples = np.random.default_rng(1).uniform(-20, 20, (3, 1, 8)).astype(np.float32)
    found = verify(a76_bundle, board(), {"x": samples})
    assert found.passed
    assert (found.device, found.cpu, found.samples, found.selftest) == (BOARD, "cortex-a76", 3, "ok")
    there = a76_bundle.run({"x": samples}, BOARD)
    assert np.array_equal(there["y"], a76_bundle.run({"x": samples}, "emulator")["y"])


def test_a_measurement_says_what_the_board_was_like(far: Far, a76_bundle: Bundle) -> None:
    data = to_json(benchmark(a76_bundle, board(), runs=3))
    assert data["latency_ms"]["min"] > 0
    assert (
        data["conditions"].items()
        >= {
            "board": "Raspberry Pi 5 Model B Rev 1.0",
            "governor": "ondemand",
            "frequency_mhz": 2400,
            "max_frequency_mhz": 2400,
            "temperature_celsius": 51.25,
            "throttled": "not now; since it started: under-voltage, throttled",
            "load_average": 0.12,
        }.items()
    )
    assert not data["warnings"]
    far.show("proc/loadavg", "3.50 1 1 1/200 1\n")
    far.show("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    busy, slowed = to_json(benchmark(a76_bundle, board(), runs=3))["warnings"]
    assert "load average was 3.5 before" in busy
    assert "clock is slowed: under-voltage, throttled" in slowed


def test_a_peak_is_not_this_machines(far: Far, a76_bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="a peak is measured on this machine alone"):
        benchmark(a76_bundle, board(), runs=1, peak=True)


def test_the_tuner_measures_there(far: Far, tmp_path: Path) -> None:
    device = board()
    assert tuning._level(RPI5, device, None) == RPI5
    measured = tuning.meter(device, RPI5)
    assert (measured.cpu, measured.unit) == ("cortex-a76", "ns")
    assert measured.costs(program(tmp_path, "echo 7 8 9"), bytes(3)) == [7, 8, 9]


LARGE = b"whole\n" + bytes(100_000)
"""Enough to be worth the question whether it is there."""


def test_what_is_there_is_not_copied_again(far: Far, tmp_path: Path) -> None:
    path = program(tmp_path, "head -n 1 a; cat b; rm a; echo hello >>b; ls")
    first = board().execute(path, [], {"a": LARGE, "b": b"2\n"})
    assert (first.stdout, first.stderr) == ("whole\n2\nb\n", "")
    kept = {file.name: file.stat().st_ino for file in far.kept() if file.stat().st_size == len(LARGE)}
    assert len(kept) == 1
    board().connection.close()
    assert board().execute(path, [], {"a": LARGE, "b": b"3\n"}).stdout.startswith("whole\n3\n")
    assert {file.name: file.stat().st_ino for file in far.kept()}.items() >= kept.items()


def test_a_file_that_was_damaged_there_is_copied_again(far: Far, tmp_path: Path) -> None:
    path = program(tmp_path, "head -n 1 a; cat b")
    for _ in range(2):
        assert board().execute(path, [], {"a": LARGE, "b": b"too\n"}).stdout == "whole\ntoo\n"
        board().connection.close()
        for file in far.kept():
            file.chmod(0o700)
            file.write_bytes(file.read_bytes()[:3])


def test_the_cache_has_a_limit(far: Far, tmp_path: Path) -> None:
    connection = board().connection
    for index in range(12):
        connection.store(bytes([index]) * 4096)
    assert connection.ask("shrink 16; report 0").code == 0
    assert len([file for file in far.kept()]) == 8
    old = far.cache / "run-old"
    old.mkdir()
    os.utime(old, (0, 0))
    connection.close()
    board()
    assert not old.exists()


@pytest.mark.parametrize("name", ["ssh://jumped", "ssh://board/"])
def test_the_configuration_of_ssh_counts(name: str, far: Far, tmp_path: Path) -> None:
    device = board(name=name)
    assert device.execute(program(tmp_path, "exit 3"), []).returncode == 3
    device.connection.close()


def test_what_a_login_shell_says_is_skipped(far: Far, tmp_path: Path) -> None:
    (far.folder / "noise").write_text("Welcome!\nedgec 0 0\n" * 1000)
    try:
        assert board().execute(program(tmp_path, "echo hi"), []).stdout == "hi\n"
    finally:
        (far.folder / "noise").unlink()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", "the program died of SIGSEGV"),
        ("exec yes", "the program wrote more than it has to"),
        ("ln -s /dev/zero out", "what the program wrote is not a file"),
        ("echo longer >out", "the program wrote more than the .* bytes that it may"),
        ("exec /nowhere", r"the program can't be started there \(.*nowhere.*\): bundles need a 64-bit Linux"),
    ],
)
def test_what_a_program_does_wrong_is_one_line(script: str, message: str, far: Far, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=f"^'{BOARD}': {message}"):
        board().execute(program(tmp_path, script), [], {}, {"out": 3})


def test_a_program_that_takes_too_long_is_ended_there(far: Far, tmp_path: Path) -> None:
    path = program(tmp_path, f"echo $$ >{tmp_path}/pid; trap '' TERM HUP INT; sleep 1000 & sleep 1000")
    with pytest.raises(DeviceError, match=r"did not end within 0\.5 s: --timeout sets another limit"):
        board(0.5).execute(path, [])
    assert eventually(lambda: gone(tmp_path / "pid") and not far.runs())
    assert board().execute(program(tmp_path, "exit 0"), []).returncode == 0  # by a new connection


def test_a_program_leaves_no_children_there(far: Far, tmp_path: Path) -> None:
    board().execute(program(tmp_path, f"sleep 1000 & echo $! >{tmp_path}/pid"), [])
    assert eventually(lambda: gone(tmp_path / "pid"))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_there_when_edgec_ends(ending: signal.Signals, far: Far, tmp_path: Path) -> None:
    path = program(
        tmp_path, f"echo $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 1000; sleep 1"
    )
    script = (
        "from pathlib import Path; from edgec.bench import devices; from edgec.targets import loader\n"
        "from edgec.errors import reported\n"
        f"with reported(): devices.connect('{BOARD}', loader.load('rpi5-int8')).execute(Path('{path}'), [])"
    )
    edgec = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    assert eventually((tmp_path / "pid").exists)
    edgec.send_signal(ending)
    edgec.wait(30)
    assert eventually(lambda: gone(tmp_path / "pid") and not far.runs())


def test_a_connection_that_drops_is_one_line(far: Far, tmp_path: Path) -> None:
    path = program(tmp_path, f"kill -KILL $(cat {far.folder}/session); sleep 1000")
    with pytest.raises(DeviceError, match=f"^'{BOARD}': the connection was lost: .*closed"):
        board().execute(path, [])


def test_a_connection_that_dropped_meanwhile_is_made_again(far: Far, tmp_path: Path) -> None:
    device = board()
    os.kill(int((far.folder / "session").read_text()), signal.SIGKILL)
    assert device.connection._process is not None
    device.connection._process.wait(10)
    assert device.execute(program(tmp_path, "echo again"), []).stdout == "again\n"


def test_a_wrong_host_key_is_one_line(far: Far) -> None:
    known = far.folder / "known_hosts"
    right = known.read_text()
    try:
        known.write_text(f"far {(far.folder / 'key.pub').read_text()}")
        with pytest.raises(
            DeviceError, match=f"^'{BOARD}': its host key isn't the one that is known: .*keygen -R"
        ):
            board()
        known.write_text("")
        with pytest.raises(DeviceError, match=f"^'{BOARD}': its host key isn't known: connect once by ssh"):
            board()
    finally:
        known.write_text(right)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ssh://stranger", "it takes none of your keys: give it one by ssh-copy-id"),
        ("ssh://127.0.0.1:1", "ssh: connect to host 127.0.0.1 port 1: Connection refused"),
        ("ssh://nobody.invalid", "ssh: Could not resolve hostname nobody.invalid: .*"),
    ],
)
def test_a_board_that_cant_be_reached_is_one_line(name: str, message: str, far: Far) -> None:
    with pytest.raises(DeviceError, match=f"^'{name}': {message}"):
        board(name=name)


@pytest.mark.parametrize(
    "name",
    [
        "ssh:",
        "ssh:board",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://-l@x",
        "ssh://a b",
        "ssh://a:0",
        "ssh://a:b",
    ],
)
def test_an_address_that_is_none_is_told(name: str) -> None:
    with pytest.raises(DeviceError, match=r"write it as ssh://\[USER@\]HOST\[:PORT\]"):
        devices.connect(name, RPI5)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("//pi@raspberrypi.local", ("pi", "raspberrypi.local", None)),
        ("//lab-board_2:2222/", (None, "lab-board_2", "2222")),
        ("//pi@[fe80::1%eth0]:22", ("pi", "[fe80::1%eth0]", "22")),
    ],
)
def test_an_address_has_a_user_and_a_port(address: str, parts: tuple[str | None, ...]) -> None:
    found = ssh._ADDRESS.fullmatch(address)
    assert found is not None
    assert found.groups() == parts


def test_without_ssh_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.COMMAND, "/nowhere/ssh -F config")
    with pytest.raises(DeviceError, match=r"^'ssh://nobody': /nowhere/ssh: can't be started: No such file"):
        devices.connect("ssh://nobody", RPI5)


def test_another_architecture_is_told_before_anything_is_copied(far: Far) -> None:
    with pytest.raises(
        DeviceError, match=f"the bundle is for x86-64 and '{BOARD}' is arm64: build it for that"
    ):
        devices.connect(BOARD, loader.load("x86-64-int8"))
    with pytest.raises(DeviceError, match="the bundle is for arm-m and"):
        devices.connect(BOARD, loader.load("cortex-m4-int8"))


def test_a_board_without_the_features_is_told(far: Far, a76_bundle: Bundle) -> None:
    (far.folder / "cpu").write_text("cortex-a72\n")
    try:
        with pytest.raises(DeviceError, match=f"'{BOARD}' lacks 'dotprod', which level 'rpi5' needs"):
            verify(a76_bundle, board())
    finally:
        (far.folder / "cpu").write_text("cortex-a76\n")


@pytest.fixture
def small(far: Far) -> Iterator[None]:
    """A far side whose cache lies on a disk of 100 KB."""
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode:
        pytest.skip("small file systems can't be made here")
    (far.folder / "small").touch()
    yield
    (far.folder / "small").unlink()


def test_a_full_disk_is_one_line(small: None, a76_bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match=f"^'{BOARD}': the copy there failed: .*No space left"):
        board().execute(a76_bundle.bench, [], {"a": bytes(200_000)})


def test_a_disk_that_a_program_fills_is_one_line(far: Far, small: None, tmp_path: Path) -> None:
    path = program(tmp_path, "head -c 200000 /dev/zero >b; exit 2")
    with pytest.raises(DeviceError, match="no room is left there for what the program writes"):
        board().execute(path, [], {}, {"b": 200_000})


def test_a_throttled_core_of_x86_is_told() -> None:
    from edgec.bench.devices.machine import warnings

    (hot,) = warnings({"throttle_count": 3.0}, {"throttle_count": 4.0})
    assert "too hot" in hot
