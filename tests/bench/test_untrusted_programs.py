"""What a device's program says or does is believed no more than any input.

The bench program of a bundle, its hash put right, is one that does its work but for one thing; all commands
that come upon that end in one line that names the device.
"""

import dataclasses
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner, Result

from edgec.bench.bundle import Bundle
from edgec.bench.devices import process
from edgec.cli import app
from edgec.compiler import pipeline
from edgec.compiler.emit import bundle as emit
from edgec.compiler.emit.manifest import encode, to_data
from edgec.errors import DeviceError, printable

pytestmark = pytest.mark.usefixtures("toy_network")

RUNS = 3
ASKED = {
    "levels": "--levels",
    "run": "--input input.bin --output output.bin",
    "verify": "--input input.bin --output output.bin --trace trace.bin",
    "selftest": "--selftest",
    "time": f"--threads 1 --runs {RUNS} --warmup 10 --layers",
}
"""Ways to call the bench program -> with which arguments."""
COMMANDS = {
    "run": ("run",),
    "verify": ("levels", "verify", "selftest"),
    "bench": ("levels", "time"),
    "tune": ("levels",),
}
"""Command -> in which ways it calls the bench program."""


class Kind(NamedTuple):
    """A way to misbehave."""

    when: tuple[str, ...]
    """In which ways it must be called for it to show."""
    script: str
    """Of a shell, after the program has done its work; `$said` is the file with its stdout."""
    timeout: str = "60s"


ANSWERS = ("levels", "selftest", "time")
"""Where stdout is read."""
FILES = ("run", "verify")
"""Where files are."""
ALL = tuple(ASKED)


def says(text: str, *when: str) -> Kind:
    return Kind(when or ANSWERS, f"printf '%s' '{text}' > $said")


def sed(script: str, *when: str) -> Kind:
    return Kind(when, f"sed -i '{script}' $said")


KINDS = {
    "nothing": says(""),
    "spaces": says("   "),
    "no-json": says("all is well"),
    "empty-object": says("{}"),
    "empty-list": says("[]"),
    "null": says("null"),
    "text": says('"levels"'),
    "number": says("1e999"),
    "nan": says("NaN"),
    "deep": Kind(ANSWERS, "head -c 200000 /dev/zero | tr '\\0' '[' > $said"),
    "long-number": Kind(ANSWERS, "{ printf '{\"levels\":'; head -c 5000 /dev/zero | tr '\\0' 9; } > $said"),
    "not-utf-8": Kind(ANSWERS, "printf '\\377\\376{\\200' > $said"),
    "half": Kind(ANSWERS, "head -c 9 $said > half; cat half > $said"),
    "twice": Kind(ANSWERS, "cat $said $said > twice; cat twice > $said"),
    "levels-none": says('{"levels":[]}', "levels"),
    "levels-null": says('{"levels":null}', "levels"),
    "levels-numbers": says('{"levels":[1]}', "levels"),
    "levels-unknown": says('{"levels":[{"name":"z80","missing":null}]}', "levels"),
    "levels-nameless": says('{"levels":[{"missing":null}]}', "levels"),
    "levels-odd": sed('s/"missing":[^,}]*/"missing":7/', "levels"),
    "levels-without": sed('s/"missing"/"lacking"/', "levels"),
    "levels-more": sed('s/\\[/[{"name":"more","missing":null},/', "levels"),
    "times-none": sed('s/"latency_ns":\\[[^]]*/"latency_ns":[/', "time"),
    "times-fewer": sed('s/"latency_ns":\\[[^,]*,/"latency_ns":[/', "time"),
    "times-text": sed('s/"latency_ns":\\[[^,]*/"latency_ns":["soon"/', "time"),
    "times-nan": sed('s/"latency_ns":\\[[^,]*/"latency_ns":[NaN/', "time"),
    "times-infinite": sed('s/"latency_ns":\\[[^,]*/"latency_ns":[Infinity/', "time"),
    "times-negative": sed('s/"latency_ns":\\[[^,]*/"latency_ns":[-1/', "time"),
    "times-zero": sed('s/"latency_ns":\\[[^,]*/"latency_ns":[0/', "time"),
    "times-huge": sed('s/"latency_ns":\\[[^,]*/"latency_ns":[1e400/', "time"),
    "times-true": sed('s/"latency_ns":\\[[^,]*/"latency_ns":[true/', "time"),
    "layers-fewer": sed('s/"layers_ns":\\[[^,]*,/"layers_ns":[/', "time"),
    "layers-text": sed('s/"layers_ns":\\[[^,]*/"layers_ns":["soon"/', "time"),
    "layers-object": sed('s/"layers_ns":\\[[^]]*]/"layers_ns":{}/', "time"),
    "memory-text": sed('s/"peak_rss_bytes":[0-9]*/"peak_rss_bytes":"much"/', "time"),
    "memory-none": sed('s/"peak_rss_bytes"/"rss"/', "time"),
    "selftest-odd": sed('s/"ok"/"fine"/', "selftest"),
    "selftest-number": sed('s/"ok"/1/', "selftest"),
    "selftest-list": sed('s/"ok"/["ok"]/', "selftest"),
    "selftest-layerless": Kind(("selftest",), 'printf \'{"selftest":"differs"}\' > $said; code=1'),
    "selftest-contradicts-itself": Kind(("selftest",), "code=1"),
    "no-output": Kind(FILES, "rm -f output.bin"),
    "no-trace": Kind(("verify",), "rm -f trace.bin"),
    "output-empty": Kind(FILES, ": > output.bin"),
    "output-short": Kind(FILES, "head -c 5 output.bin > half; cat half > output.bin"),
    "output-long": Kind(FILES, "echo more >> output.bin"),
    "trace-long": Kind(("verify",), "echo more >> trace.bin"),
    "output-is-a-folder": Kind(FILES, "rm -f output.bin; mkdir -p output.bin"),
    "output-is-a-pipe": Kind(FILES, "rm -f output.bin; mkfifo output.bin"),
    "output-is-dev-zero": Kind(FILES, "rm -f output.bin; ln -s /dev/zero output.bin"),
    "output-leads-nowhere": Kind(FILES, "rm -f output.bin; ln -s nowhere output.bin"),
    "output-cant-be-read": Kind(FILES, "rm -f output.bin; ln -s output.bin output.bin"),
    "output-endless": Kind(FILES, "cat /dev/zero > output.bin; exec cat /dev/zero > output.bin"),
    "exit-2": Kind(ALL, "code=2"),
    "exit-255": Kind(ALL, "code=255"),
    "control-characters": Kind(ALL, "printf 'a\\033[2J\\rb\\n\\033]0;c\\007\\342\\200\\256\\n' >&2; code=2"),
    "stderr-not-utf-8": Kind(ALL, "printf '\\377\\376' >&2; code=2"),
    "stderr-long": Kind(ALL, "head -c 1000000 /dev/zero | tr '\\0' x >&2; code=2"),
    "segv": Kind(ALL, "kill -SEGV $$"),
    "killed": Kind(ALL, "kill -KILL $$"),
    "real-time-signal": Kind(ALL, "kill -35 $$"),
    "sleeps": Kind(ALL, "sleep 1000", "0.4s"),
    "sleeps-deaf": Kind(ALL, "trap '' TERM INT HUP; exec >&- 2>&-; while :; do sleep 1; done", "0.4s"),
    "endless": Kind(ALL, "exec yes"),
    "endless-stderr": Kind(ALL, "exec yes >&2"),
}

HARMLESS = {
    "a-child-holds-its-output": "sleep 1000 &",
    "more-keys": "sed -i 's/^{/{\"more\":[],/' $said",
    "warns": "echo careful >&2",
    "ends-its-line": "echo >> $said",
}
"""What a right program may do as well."""

SCRIPT = """#!/bin/sh
case "$*" in {cases} *) exit 99;; esac
said=$(mktemp ./said.XXXXXX); cat "{folder}/$way.said" > $said
cp "{folder}/$way".*.bin . 2>/dev/null
for file in ./*.bin; do [ -f "$file" ] && mv "$file" "${{file##*$way.}}" 2>/dev/null; done
code=0
case $way in {when})
{script}
;; esac
cat $said; exit $code
"""


@dataclass(frozen=True)
class Bench:
    """A bundle whose bench program is replaced."""

    bundle: Bundle
    work: Path
    """Holds what the right program says and writes, and inputs."""

    def replace(self, when: tuple[str, ...], script: str) -> None:
        cases = "".join(f'*"{self.words(way)}") way={way};; ' for way in sorted(ASKED, key=self.length))
        text = SCRIPT.format(cases=cases, folder=self.work, when="|".join(when), script=script)
        self.put(text.encode())

    def length(self, way: str) -> int:
        """The longest first: a shell takes the first that fits."""
        return -len(ASKED[way])

    def words(self, way: str) -> str:
        return ASKED[way]

    def put(self, content: bytes, mode: int = 0o755) -> None:
        name = f"bin/{self.bundle.identifier}-bench"
        program = self.bundle.path / name
        program.unlink()
        program.write_bytes(content)
        program.chmod(mode)
        files = {**self.bundle.manifest.files, name: hashlib.sha256(content).hexdigest()}
        raw = encode(to_data(dataclasses.replace(self.bundle.manifest, files=files)))
        (self.bundle.path / emit.MANIFEST).write_bytes(raw)
        (self.bundle.path / emit.DIGEST).write_bytes(emit._digest_line(raw))

    def command(self, name: str, timeout: str) -> Result:
        options = {
            "run": ["--input", self.work / "inputs.npz", "--output", self.work / "outputs.npz"],
            "verify": [],
            "bench": ["--runs", RUNS],
            "tune": ["--level", self.bundle.described(None).device],
        }[name]
        words = [name, self.bundle.path, *options, "--device", "local", "--timeout", timeout]
        return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def bench(local_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """What the right program says and writes is put down once."""
    work = tmp_path_factory.mktemp("work")
    shutil.copy(local_bundle.file("golden/inputs.npz"), work / "inputs.npz")
    shutil.copytree(local_bundle.path, work / "toy.edgec")
    with (work / "input.bin").open("wb") as file:
        from edgec.bench.run import pack, read_arrays, stack

        file.write(pack(local_bundle.inputs, stack(local_bundle, read_arrays(work / "inputs.npz"))))
    for way, words in ASKED.items():
        done = subprocess.run([local_bundle.bench, *words.split()], cwd=work, capture_output=True, check=True)
        (work / f"{way}.said").write_bytes(done.stdout)
        for name in ("output.bin", "trace.bin"):
            if (work / name).exists():
                (work / name).rename(work / f"{way}.{name}")
    return Bench(Bundle.load(work / "toy.edgec"), work)


class TunedError(Exception):
    """The tuner was reached."""


@pytest.fixture(autouse=True)
def no_tuner(monkeypatch: pytest.MonkeyPatch) -> None:
    def retune(*_: object) -> None:
        raise TunedError

    monkeypatch.setattr(pipeline, "retune", retune)


def fails(done: Result) -> None:
    """Assert that a command ended in one line that names the device."""
    assert isinstance(done.exception, DeviceError), done.exc_info
    message = str(done.exception)
    assert message.startswith("'local'")
    assert printable(message) == message
    assert len(message) < 500


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", KINDS)
def test_what_a_program_does_wrong_is_one_line(name: str, command: str, bench: Bench) -> None:
    kind = KINDS[name]
    bench.replace(kind.when, kind.script)
    started = time.monotonic()
    done = bench.command(command, kind.timeout)
    assert time.monotonic() - started < 30
    if set(kind.when) & set(COMMANDS[command]):
        fails(done)
    else:
        assert done.exit_code == 0 or isinstance(done.exception, TunedError), done.exception


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_a_program_may_do(name: str, command: str, bench: Bench) -> None:
    bench.replace(ALL, HARMLESS[name])
    done = bench.command(command, "60s")
    assert done.exit_code == 0 or isinstance(done.exception, TunedError), done.exception


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("content", "mode"),
    [(b"#!/bin/sh\n", 0o644), (b"\x7fELF", 0o755), (b"", 0o755), (b"#!/nowhere/sh\n", 0o755)],
)
def test_what_is_no_program_is_one_line(content: bytes, mode: int, command: str, bench: Bench) -> None:
    bench.put(content, mode)
    fails(bench.command(command, "60s"))


def test_nothing_of_a_program_is_left_behind(tmp_path: Path) -> None:
    """Neither what it started, nor where it ended in time, nor where it didn't."""
    for ending, timeout in (("exit 0", 10), ("sleep 1000", 0.5)):
        script = f"sleep 1000 & echo $! > {tmp_path}/child; {ending}"
        ended = pytest.raises(DeviceError, match="did not end") if timeout < 1 else nullcontext()
        with ended:
            process.run("local", ["sh", "-c", script], {}, {}, timeout)
        child = int((tmp_path / "child").read_text())
        assert gone(child)


def gone(process_id: int) -> bool:
    for _ in range(50):
        try:
            os.kill(process_id, 0)
            state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":  # nobody has waited for it yet
            return True
        time.sleep(0.05)
    return False


def test_a_folder_that_cant_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DeviceError, match=r"^'local': .*No such file"):
        process.run("local", ["true"], {}, {}, 10)


@pytest.fixture(autouse=True)
def temporary_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of programs are removed, whatever happens."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(process.tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())
