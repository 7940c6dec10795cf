"""A microcontroller at the other end of a serial line, flashed with a bundle's bench image.

The board asks for its command line and files as kernels/runtime/serial.h describes, and this answers.
"""

import os
import select
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from edgec.bench.devices.device import SAID_BYTES, TIMEOUT_SECONDS, Execution, Scheme, duration
from edgec.errors import DeviceError
from edgec.targets import detect
from edgec.targets.descriptor import Target

_MARK = b"\x1be"
_QUESTION = struct.Struct("<cBiII")
_ANSWER = struct.Struct("<IiI")
_WRITE, _ERROR = 5, 9
"""Modes to open a file with; ":tt" is stdout, or stderr with the latter."""
_HANDLES = 64
"""Files that a run may open; the bench program opens five."""
_CONTENT_BYTES = 16 << 20
"""What one question to the host may carry: more than a microcontroller has memory."""
_NOISE_BYTES = 1 << 16
"""A board may send so much that is no question, while it starts say."""
_NONSENSE = "what the board says is no question of a bench image: flash it with the bundle's"
_BEGIN_SECONDS = 0.2
"""Between one 'S' and the next, until the board asks: it may just be starting."""
SILENCE_SECONDS = 20.0
"""A board that says nothing for so long at first isn't there."""


@dataclass(frozen=True)
class SerialBoard:
    """A board, by the path of its line (115200 baud where that means anything)."""

    path: str
    model: str
    """Core of the microcontroller."""
    timeout_seconds: float = TIMEOUT_SECONDS

    @property
    def name(self) -> str:
        """As the user spells it."""
        return f"serial:{self.path}"

    @property
    def cpu(self) -> str:
        """What the bundle was built for; the board doesn't say what it is."""
        return self.model

    @property
    def features(self) -> None:
        """None: programs find out at their start."""
        return None

    @property
    def conditions(self) -> dict[str, str | float]:
        """Nothing else is known."""
        return {}

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Mapping[str, int] | None = None,
    ) -> Execution:
        """Let the board run what was flashed to it, with `files` at hand, as `Device.execute` says.

        `program` is what must have been flashed, and isn't looked at.
        """
        with _line(self.path) as line:
            most = {"stdout": SAID_BYTES, "stderr": SAID_BYTES} | dict(collect or {})
            deadline = time.monotonic() + self.timeout_seconds
            words = " ".join((program.name, *arguments))
            session = _Session(self, line, words, most, deadline, dict(files or {}))
            try:
                code = session.serve()
            except OSError as error:  # it was unplugged
                raise DeviceError(f"'{self.name}': {error.strerror}") from error
        said = {name: session.files.get(name, b"").decode(errors="replace") for name in ("stdout", "stderr")}
        written = {name: session.files[name] for name in collect or {} if name in session.files}
        return Execution(self.name, code, said["stdout"], said["stderr"], written)


def connect(path: str, target: Target, timeout_seconds: float) -> SerialBoard:
    """Return the board at `path`; raises DeviceError where there is no line, or the bundle is for none."""
    if target.platform.loads_programs:
        raise DeviceError(f"the bundle is for {target.arch}, no microcontroller: a serial line can't run it")
    if not _has_lines():
        system = detect.system()
        raise DeviceError(f"'serial:{path}': lines are opened on Linux and macOS, and this is {system}")
    if not os.path.exists(path):  # noqa: PTH110 (a device, not a file)
        raise DeviceError(f"{path} is missing: connect the board, or name its serial line")
    return SerialBoard(path, target.cpu, timeout_seconds)


SCHEME = Scheme("serial:PATH", connect)


def _has_lines() -> bool:
    """Whether Python can open a serial line here: on Windows it can't."""
    try:
        import termios
    except ImportError:
        return False
    return hasattr(termios, "tcsetattr")


@contextmanager
def _line(path: str) -> Iterator[int]:
    """Open the line, raw at 115200 baud, with nothing in it from before."""
    import termios  # Windows has neither; see _has_lines
    import tty

    try:
        line = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise DeviceError(f"{path}: can't be opened: {error.strerror}") from error
    try:
        tty.setraw(line)
        attributes = termios.tcgetattr(line)
        attributes[4] = attributes[5] = termios.B115200
        termios.tcsetattr(line, termios.TCSANOW, attributes)
        termios.tcflush(line, termios.TCIOFLUSH)
        yield line
    except termios.error as error:
        raise DeviceError(f"{path} is no serial line: {error.args[-1]}") from error
    finally:
        os.close(line)


@dataclass
class _Session:
    """One run of the board's program."""

    board: SerialBoard
    line: int
    """Descriptor of the line, whose calls don't wait."""
    command: str
    most: Mapping[str, int]
    """Bytes that the board may write to a file; to any other none."""
    deadline: float
    files: dict[str, bytes]
    handles: list[str] = field(default_factory=list)
    """Names of opened files; a handle is a place in the list."""
    positions: dict[int, int] = field(default_factory=dict)
    """By handle: what was read."""

    def serve(self) -> int:
        """Answer until the program ends; returns its exit code."""
        last, answer, begun = -1, (0, b""), False
        while True:
            if not begun:
                self._begin()
            operation, number, first, second, content = self._question()
            begun = begun or number == 0
            if not begun:  # of a run that was broken off: let it come to its end, and begin again
                self._answer(number, -1)
                continue
            if number != last:
                answer = self._do(operation, first, second, content)
            last = number
            self._answer(number, *answer)
            if operation == b"X":
                return first

    def _do(self, operation: bytes, first: int, second: int, content: bytes) -> tuple[int, bytes]:
        """Return result and content of one operation."""
        if operation == b"A":
            line = self.command.encode()
            return (0, line) if len(line) <= second else (-1, b"")
        if operation == b"O":
            return self._open(content.decode(errors="replace"), first), b""
        if not 0 <= first < len(self.handles):
            return -1, b""
        name = self.handles[first]
        if operation == b"W":
            if len(self.files[name]) + len(content) > self.most.get(name, 0):
                raise DeviceError(f"'{self.board.name}': the board writes more to {name} than it has to")
            self.files[name] += content
        elif operation == b"L":
            return len(self.files[name]), b""
        elif operation == b"R":
            start = self.positions[first]
            part = self.files[name][start : start + second]
            self.positions[first] = start + len(part)
            return 0, part
        return 0, b""

    def _open(self, path: str, mode: int) -> int:
        if path == ":tt":
            path = "stderr" if mode == _ERROR else "stdout"
            self.files.setdefault(path, b"")
        elif mode == _WRITE and path in self.most:
            self.files[path] = b""
        if path not in self.files or len(self.handles) == _HANDLES:
            return -1
        self.handles.append(path)
        self.positions[len(self.handles) - 1] = 0
        return len(self.handles) - 1

    def _begin(self) -> None:
        """Send 'S' until the board's first question begins."""
        silent = time.monotonic() + SILENCE_SECONDS
        while time.monotonic() < silent:
            self._write(b"S", silent)
            if select.select([self.line], [], [], _BEGIN_SECONDS)[0]:
                return
        flash = "flash it with the bundle's bench image and example/serial.c"
        raise DeviceError(f"'{self.board.name}': the board says nothing: {flash}")

    def _question(self) -> tuple[bytes, int, int, int, bytes]:
        seen, skipped = b"", 0
        while seen != _MARK:  # what a board sends while it starts is no question
            seen = seen[-1:] + self._read(1)
            skipped += 1
            if skipped > _NOISE_BYTES:
                raise DeviceError(f"'{self.board.name}': {_NONSENSE}")
        operation, number, first, second, size = _QUESTION.unpack(self._read(_QUESTION.size))
        if size > _CONTENT_BYTES:
            raise DeviceError(f"'{self.board.name}': {_NONSENSE}")
        return operation, number, first, second, self._read(size)

    def _answer(self, number: int, result: int, content: bytes = b"") -> None:
        self._write(b"R" + _ANSWER.pack(number, result, len(content)) + content, self.deadline)

    def _write(self, data: bytes, deadline: float) -> None:
        while data:
            if not select.select([], [self.line], [], max(deadline - time.monotonic(), 0))[1]:
                raise DeviceError(f"'{self.board.name}': the board doesn't read what it is sent")
            with suppress(BlockingIOError):
                data = data[os.write(self.line, data) :]

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            wait = self.deadline - time.monotonic()
            if wait <= 0 or not select.select([self.line], [], [], wait)[0]:
                limit = duration(self.board.timeout_seconds)
                raise DeviceError(f"'{self.board.name}': the board did not end within {limit}")
            part = os.read(self.line, size - len(data))
            if not part:
                raise DeviceError(f"'{self.board.name}': the serial line was closed")
            data += part
        return bytes(data)
