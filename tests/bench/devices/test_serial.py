"""A board on a serial line: here one of QEMU's, whose UART is a pseudo-terminal."""

import contextlib
import dataclasses
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from edgec.bench import devices
from edgec.bench.bundle import Bundle
from edgec.bench.devices import serial
from edgec.bench.devices.serial import SerialBoard
from edgec.bench.measure.benchmark import benchmark
from edgec.bench.measure.measurement import to_json
from edgec.bench.report.tables import print_measurement
from edgec.compiler.native import toolchain
from edgec.errors import DeviceError
from edgec.targets import loader
from edgec.targets.descriptor import Board
from tests.compiler.building import build
from tests.compiler.emit.test_emit import make, write
from tests.conftest import board_of

pytestmark = pytest.mark.slow

M4 = loader.load("cortex-m4-int8")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write(make(M4), tmp_path_factory.mktemp("tiny")).path)


@contextlib.contextmanager
def flashed(bundle: Bundle, folder: Path) -> Iterator[str]:
    """The name of a device: the bundle's example for serial lines, on the board that QEMU has of its core."""
    target, name = bundle.described(None), bundle.identifier
    assert isinstance(target.emulator, Board)
    for file in bundle.manifest.files:
        if file.startswith(("include/", "lib/", "src/")) or file == "example/serial.c":
            shutil.copy(bundle.file(file), folder)
    units = (f"{name}_bench", "startup", "serial")
    for unit in units:
        (folder / f"with_{unit}.c").write_text(f'#define EDGEC_SERIAL\n#include "{unit}.c"\n')
        toolchain.compile_c(target, [f"with_{unit}.c"], f"{unit}.o", folder)
    objects = [*(f"{unit}.o" for unit in units), f"lib{name}.a"]
    toolchain.link_image(target, objects, "image.ld", "image", folder)
    machine = ["-M", target.emulator.machine, "-cpu", target.emulator.cpu, "-bios", "none"]
    quiet = ["-display", "none", "-monitor", "none", "-serial", "pty"]
    with subprocess.Popen(
        [target.emulator.program, *machine, *quiet, "-kernel", folder / "image"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as emulator:
        assert emulator.stdout is not None
        said = emulator.stdout.readline()
        try:
            found = re.search(r"/dev/\S+", said)
            assert found, said
            yield f"serial:{found[0]}"
        finally:
            emulator.kill()


@pytest.fixture(scope="module")
def board(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory, board_emulator: None) -> Iterator[str]:
    with flashed(tiny, tmp_path_factory.mktemp("board")) as name:
        yield name


def test_riscv_talks_over_its_own_uart_and_starts_again(tmp_path: Path) -> None:
    board_of("riscv32")
    bundle = build(Path(__file__).parents[3] / "examples" / "fmnist_dscnn.onnx", tmp_path, "riscv32-int8")
    (tmp_path / "board").mkdir()
    with flashed(bundle, tmp_path / "board") as name:
        device = bundle.device(name)
        for _ in range(2):
            done = device.execute(bundle.bench, ["--selftest"])
            assert done.returncode == 0, done.stderr
            assert '"selftest":"ok"' in done.stdout


def test_the_self_test_runs_again_and_again(tiny: Bundle, board: str) -> None:
    device = tiny.device(board)
    assert (device.name, device.cpu) == (board, "cortex-m4")
    for _ in range(3):  # the core resets after each
        done = device.execute(tiny.bench, ["--selftest"])
        assert done.returncode == 0, done.stderr
        assert '"selftest":"ok"' in done.stdout


def test_files_go_both_ways(tiny: Bundle, board: str) -> None:
    made = make(M4)
    image = made.golden.inputs["image:0"].tobytes()
    done = tiny.device(board).execute(
        tiny.bench,
        ["--input", "in.bin", "--output", "out.bin", "--trace", "trace.bin"],
        {"in.bin": image * 2},
        {"out.bin": 1 << 16, "trace.bin": 1 << 16},
    )
    assert done.returncode == 0, done.stderr
    expected = b"".join(array.tobytes() for array in made.golden.outputs.values())
    assert done.files["out.bin"] == expected * 2
    trace = done.files["trace.bin"]
    assert len(trace) == 2 * (1024 + 1024 + 256 + 256)
    assert trace[: len(trace) // 2] == trace[len(trace) // 2 :]


def test_a_run_that_was_broken_off_does_not_stop_the_next(tiny: Bundle, board: str) -> None:
    device = tiny.device(board)
    assert isinstance(device, SerialBoard)
    with serial._line(device.path) as line:
        most, deadline = {"stdout": 1 << 16, "stderr": 1 << 16}, time.monotonic() + 20
        session = serial._Session(device, line, "tiny-bench --selftest", most, deadline, {})
        session._begin()
        while (question := session._question())[0] != b"O":  # of stdout, which nobody answers
            operation, number, *rest = question
            session._answer(number, *session._do(operation, *rest))
            if operation == b"X":  # the end of the run before
                session._begin()
    done = device.execute(tiny.bench, ["--selftest"])
    assert (done.returncode, '"selftest":"ok"' in done.stdout) == (0, True)


def test_a_mistake_is_told(tiny: Bundle, board: str) -> None:
    done = tiny.device(board).execute(tiny.bench, ["--input", "nothing.bin"])
    assert (done.returncode, done.stderr) == (2, "tiny-bench: can't open nothing.bin\n")


def test_what_can_not_be_a_board_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"^/dev/nothing is missing: connect the board"):
        devices.connect("serial:/dev/nothing", M4)
    with pytest.raises(DeviceError, match="no microcontroller"):
        devices.connect("serial:/dev/null", loader.load("rpi5-int8"))
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="is no serial line"):
        devices.connect(f"serial:{tmp_path / 'file'}", M4).execute(tmp_path, [])
    monkeypatch.setattr(serial, "SILENCE_SECONDS", 0.3)
    mine, theirs = pty.openpty()
    try:
        with pytest.raises(DeviceError, match="says nothing: flash it"):
            SerialBoard(os.ttyname(theirs), "cortex-m4").execute(tmp_path, [])
    finally:
        os.close(mine)
        os.close(theirs)


def test_a_board_that_stops_in_the_middle_is_told(tmp_path: Path) -> None:
    mine, theirs = pty.openpty()

    def half() -> None:
        os.read(mine, 1)
        os.write(mine, b"noise\x1beA")

    speaker = threading.Thread(target=half)
    speaker.start()
    try:
        with pytest.raises(DeviceError, match=r"did not end within 0\.5 s"):
            SerialBoard(os.ttyname(theirs), "cortex-m4", 0.5).execute(tmp_path, [])
    finally:
        speaker.join()
        os.close(mine)
        os.close(theirs)


def question(operation: bytes, first: int, second: int, content: bytes, size: int | None = None) -> bytes:
    """As kernels/runtime/serial.h has them, the first of a run."""
    words = struct.pack("<BiII", 0, first, second, len(content) if size is None else size)
    return b"\x1be" + operation + words + content


GARBAGE = {
    "noise": (b"no question at all " * 5000, "no question of a bench image"),
    "endless-question": (question(b"O", 4, 0, b"", 2**32 - 1), "no question of a bench image"),
    "unknown-operations": (question(b"?", 0, 0, b"") * 3, "did not end within"),
    "name-not-utf-8": (question(b"O", 4, 0, b"\xff\xfe"), "did not end within"),
    "closes": (b"", "closed|Input/output error"),
}
"""What a board sends in place of its answers, and what edgec says of it."""


@pytest.mark.parametrize("name", GARBAGE)
def test_a_board_that_says_garbage_is_told(name: str, tmp_path: Path) -> None:
    sent, message = GARBAGE[name]
    mine, theirs = pty.openpty()
    device = f"serial:{os.ttyname(theirs)}"

    def talk() -> None:
        os.read(mine, 1)
        with contextlib.suppress(OSError):  # who listens has had enough
            os.write(mine, sent)
        if not sent:
            os.close(mine)

    os.set_blocking(mine, True)
    speaker = threading.Thread(target=talk, daemon=True)
    speaker.start()
    try:
        limit = 0.5 if "end within" in message else 20
        with pytest.raises(DeviceError, match=message) as error:
            SerialBoard(os.ttyname(theirs), "cortex-m4", limit).execute(tmp_path, [])
        assert str(error.value).startswith(f"'{device}': ")
    finally:
        os.close(theirs)
        with contextlib.suppress(OSError):
            os.close(mine)


@dataclasses.dataclass(frozen=True)
class Silicon:
    """A board whose cycle counter counts, which QEMU's doesn't: it answers as the image would."""

    cycles: int
    name: str = "serial:/dev/ttyACM0"
    timeout_seconds: float = 10
    cpu: str = "cortex-m4"
    conditions: Mapping[str, str | float] = dataclasses.field(default_factory=dict)

    def execute(self, program: Path, arguments: Sequence[str], *_: object) -> devices.Execution:
        answers = {
            "--levels": {"levels": [{"name": "cortex-m4", "missing": None}]},
            "--cycles": {"cycles": self.cycles, "layers_cycles": [100, 700, 900, 50]},
            "--markers": {"stack_bytes": 128},
        }
        return devices.Execution(self.name, 0, json.dumps(answers[arguments[-1]]), "")


def test_a_boards_cycles_are_its_own(tiny: Bundle) -> None:
    found = benchmark(tiny, Silicon(1800))
    data = to_json(found)
    assert (data["cycles"], data["memory"]["stack_bytes"]) == (1800, 128)
    assert [layer["cycles"] for layer in data["layers"]] == [100, 700, 900, 50]
    assert "latency_ms" not in data
    console = Console(width=100, file=io.StringIO())
    print_measurement(console, found)
    assert "0.57 multiply-accumulates in each" in console.file.getvalue()
    with pytest.raises(DeviceError, match="stands still"):
        benchmark(tiny, Silicon(0))


def test_an_emulated_board_has_no_cycles(tiny: Bundle, board: str) -> None:
    done = tiny.device(board).execute(tiny.bench, ["--cycles"])
    assert json.loads(done.stdout) == {"cycles": 0, "layers_cycles": [0] * 4, "level": "cortex-m4"}
    with pytest.raises(DeviceError, match="stands still"):
        benchmark(tiny, tiny.device(board))
