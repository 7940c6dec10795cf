"""A microcontroller at the other end of a serial line, flashed with a bundle's bench image.

The board asks for its command line and files as kernels/runtime/serial.h describes, and this answers.
"""

import os
import select
import struct
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgec.bench.devices.device import TIMEOUT_SECONDS, Execution
from edgec.errors import DeviceError
from edgec.targets.descriptor import Target

_MARK = b"\x1be"
_QUESTION = struct.Struct("<cBiII")
_ANSWER = struct.Struct("<IiI")
_WRITE, _ERROR = 5, 9
"""Modes to open a file with; ":tt" is stdout, or stderr with the latter."""
_BEGIN_SECONDS = 0.2
"""Between one 'S' and the next, until the board asks: it may just be starting."""
SILENCE_SECONDS = 20.0
"""A board that says nothing for so long at first isn't there."""


@dataclass(frozen=True)
class SerialBoard:
    """A board, by the path of its line (115200 baud where that means anything)."""

    path: str
    model: str
    """Its core."""

    @property
    def name(self) -> str:
        """As the user spells it."""
        return f"serial:{self.path}"

    @property
    def cpu(self) -> str:
        """What the bundle was built for; the board doesn't say what it is."""
        return self.model

    @property
    def conditions(self) -> dict[str, str | float]:
        """Nothing else is known."""
        return {}

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
        timeout: float = TIMEOUT_SECONDS,
    ) -> Execution:
        """See `Device.execute`; `program` is what must have been flashed, and isn't looked at."""
        with _line(self.path) as line:
            session = _Session(line, " ".join((program.name, *arguments)), dict(files or {}))
            code = session.serve(time.monotonic() + timeout)
        said = {name: session.files.get(name, b"").decode(errors="replace") for name in ("stdout", "stderr")}
        written = {name: session.files[name] for name in collect if name in session.files}
        return Execution(code, said["stdout"], said["stderr"], written)


def connect(path: str, target: Target) -> SerialBoard:
    """Return the board at `path`; raises DeviceError where there is no line, or the bundle is for none."""
    if target.hosted:
        raise DeviceError(f"the bundle is for {target.arch}, no microcontroller: a serial line can't run it")
    if not os.path.exists(path):  # noqa: PTH110 (a device, not a file)
        raise DeviceError(f"{path} is missing: connect the board, or name its serial line")
    return SerialBoard(path, target.cpu)


@contextmanager
def _line(path: str) -> Iterator[int]:
    """Open the line, raw at 115200 baud, with nothing in it from before."""
    try:
        line = os.open(path, os.O_RDWR | os.O_NOCTTY)
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

    line: int
    command: str
    files: dict[str, bytes]
    handles: list[str] = field(default_factory=list)
    """Names of opened files; a handle is a place in the list."""
    positions: dict[int, int] = field(default_factory=dict)
    """By handle: what was read."""

    def serve(self, deadline: float) -> int:
        """Answer until the program ends; returns its exit code."""
        last, answer, begun = -1, (0, b""), False
        while True:
            if not begun:
                self._begin()
            operation, number, first, second, content = self._question(deadline)
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
            return self._open(content.decode(), first), b""
        if not 0 <= first < len(self.handles):
            return -1, b""
        name = self.handles[first]
        if operation == b"W":
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
        elif mode == _WRITE:
            self.files[path] = b""
        if path not in self.files:
            return -1
        self.handles.append(path)
        self.positions[len(self.handles) - 1] = 0
        return len(self.handles) - 1

    def _begin(self) -> None:
        """Send 'S' until the board's first question begins."""
        silent = time.monotonic() + SILENCE_SECONDS
        while time.monotonic() < silent:
            os.write(self.line, b"S")
            if select.select([self.line], [], [], _BEGIN_SECONDS)[0]:
                return
        raise DeviceError(
            "the board says nothing: flash it with the bundle's bench image and example/serial.c"
        )

    def _question(self, deadline: float) -> tuple[bytes, int, int, int, bytes]:
        seen = b""
        while seen != _MARK:  # what a board sends while it starts is no question
            seen = seen[-1:] + self._read(1, deadline)
        operation, number, first, second, size = _QUESTION.unpack(self._read(_QUESTION.size, deadline))
        return operation, number, first, second, self._read(size, deadline)

    def _answer(self, number: int, result: int, content: bytes = b"") -> None:
        data = b"R" + _ANSWER.pack(number, result, len(content)) + content
        while data:
            data = data[os.write(self.line, data) :]

    def _read(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self.line], [], [], wait)[0]:
                raise DeviceError("the board did not end in time")
            part = os.read(self.line, size - len(data))
            if not part:
                raise DeviceError("the serial line was closed")
            data += part
        return data
