"""The protocol of a shell at the far side, whichever shell that is, and whatever it says."""

import shutil
import subprocess
from pathlib import Path

import pytest

from edgec.bench.devices import connection, machine, remote
from edgec.errors import DeviceError, printable
from edgec.targets import loader
from tests.bench.devices.sshd import eventually, gone

HOST = loader.load("host-int8")
SCRIPTS = Path(machine.__file__).parent


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgec" / "programs"


@pytest.fixture(params=["dash", "bash", "busybox", "mksh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """A shell that does what `ssh` does: it runs a command. With busybox all programs are its own."""
    path = shutil.which(request.param)
    if path is None:
        pytest.skip(f"{request.param} is not installed")
    if request.param != "busybox":
        (tmp_path / "sh").symlink_to(path)
        return ["env", f"PATH={tmp_path}:/usr/bin:/bin", path, "-c"]
    applets = tmp_path / "applets"
    applets.mkdir()
    subprocess.run([path, "--install", "-s", applets], check=True)
    return ["env", f"PATH={applets}", "sh", "-c"]


def test_programs_run_by_any_shell(shell: list[str], tmp_path: Path, cache: Path) -> None:
    there = connection.Connection("there", [*shell, connection.SHELL_COMMAND], str.strip)
    device = remote.connect(there, HOST, 20)
    assert device.features >= HOST.features
    assert {"system", "load_average"} <= device.conditions.keys()
    program = tmp_path / "program"
    content = bytes(range(256)) * 1000
    program.write_text('#!/bin/sh\ncat a; echo "$1" >&2; cat a a >b; exit 3\n')
    done = device.execute(program, ['it\'s "$HOME"'], {"a": content}, {"b": len(content) * 2, "c": 1})
    assert (done.returncode, done.stderr, done.files) == (3, 'it\'s "$HOME"\n', {"b": content * 2})
    program.write_text("#!/bin/sh\nkill -s SEGV $$\n")
    with pytest.raises(DeviceError, match="the program died of SIGSEGV"):
        device.execute(program, [])
    program.write_text(f"#!/bin/sh\nsleep 1000 & echo $! >{tmp_path}/pid; sleep 1000\n")
    with pytest.raises(DeviceError, match=r"did not end within 0\.5 s"):
        remote.connect(there, HOST, 0.5).execute(program, [])
    assert not list(cache.glob("run-*"))
    assert eventually(lambda: gone(tmp_path / "pid"))


GREET = "head -c 1 >/dev/null; echo edgec shell; cat >/dev/null &"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "no connection"),
        ("echo 'sh: no space' >&2; exit 1", "sh: no space"),
        ("yes noise", "its login shell says more than 1 MiB"),
        ("cat /dev/zero", "what it says is no answer"),
        (f"{GREET} echo hello", "what it says is no answer"),
        (f"{GREET} echo edgec 0 -5", "what it says is no answer"),
        (f"{GREET} echo edgec", "what it says is no answer"),
        (f"{GREET} echo edgec 0 999999999999999", "the program wrote more than the 65536 bytes that it may"),
        (f"{GREET} echo edgec 0 9; echo half", "the connection was lost"),
        (f"{GREET} printf 'a\\033[2Jb' >&2; exit 1", r"the connection was lost: a\\x1b\[2Jb"),
        ("exec sleep 100", "no connection within 0.5 s"),
        (f"{GREET} exec sleep 100", "it did not answer within 0.5 s"),
    ],
)
def test_what_the_far_side_says_is_believed_no_more_than_any_input(
    script: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(connection, "_END_SECONDS", 0.5)
    there = connection.Connection("there", ["sh", "-c", script], _explain)
    with pytest.raises(DeviceError, match=f"^'there': {message}") as error:
        remote.connect(there, HOST, 10)
    assert printable(str(error.value)) == str(error.value)


def _explain(said: str) -> str:
    return said.strip() or "no connection"


@pytest.mark.parametrize("script", ["machine.sh", "remote.sh"])
@pytest.mark.parametrize("name", ["dash", "bash", "busybox"])
def test_scripts_are_posix(script: str, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    command = [name, *(["sh"] if name == "busybox" else []), "-n", SCRIPTS / script]
    assert subprocess.run(command, capture_output=True, check=False).stderr == b""


def test_nonsense_of_a_machine_is_left_out() -> None:
    words = (
        "machine z80",
        "load_average many",
        "temperature",
        "frequency 1e3",
        "throttled x",
        "cpuinfo",
        "none",
    )
    found = machine.parse("\n".join(words))
    assert (found.arch, found.cpu, found.features) == (None, "z80", frozenset())
    assert found.conditions == {"frequency_mhz": 1.0, "throttled": "unknown"}
    assert machine.parse("").conditions == {}
    odd = machine.parse("governor \x1b[2J\ncpuinfo\nmodel name : \x1b]0;c\x07" + "x" * 500)
    assert (odd.conditions["governor"], odd.cpu[:8], len(odd.cpu)) == (r"\x1b[2J", r"\x1b]0;c", 100)


def test_what_changed_meanwhile_is_told_apart() -> None:
    before = {"system": "Linux", "temperature_celsius": 50.0, "throttled": "no"}
    after = {"system": "Linux", "temperature_celsius": 81.5, "throttled": "throttled"}
    assert machine.during(before, after) == before | {
        "temperature_celsius_after": 81.5,
        "throttled_after": "throttled",
    }
    assert machine.warnings(before, after) == ("the device's clock is slowed: throttled",)
    assert machine.warnings({"throttled": "not now; since it started: throttled"}, {}) == ()
