"""A shell at the far end of a command that passes bytes on, ssh or another: it does what `remote.sh` says."""

import contextlib
import hashlib
import queue
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from edgec.bench.devices import machine
from edgec.bench.devices.device import duration
from edgec.errors import DeviceError, printable

CACHE_DAYS = 7
"""For so long a board keeps a file that nobody uses."""
CACHE_KIBIBYTES = 512 << 10
"""So much it keeps at most: programs and inputs of dozens of bundles."""
ANSWER_SECONDS = 60.0
"""For a connection to stand, and for whatever is no program."""
UPLOAD_BYTES_PER_SECOND = 100_000
"""No connection is thought to be slower."""

_SCRIPT = (machine.SCRIPT + Path(__file__).with_name("remote.sh").read_text(encoding="utf-8")).encode()
SHELL_COMMAND = f"exec sh -c 'eval \"$(head -c {len(_SCRIPT)})\"'"
"""What the far side's login shell, whichever it is, runs: first it reads the script."""
_GREETING = b"edgec shell"
_LINE_BYTES = 1 << 16
_CHUNKS = 1 << 10
"""That are read ahead of whoever asked."""
_NOISE_BYTES = 1 << 20
"""A login shell's own words, before the greeting."""
_SMALL_BYTES = 1 << 16
"""Less is sent sooner than asked for, such as what the tuner's probe is to run; nor is room made for it."""
_PATIENCE_SECONDS = 0.5
"""For what is being sent when all has to end."""
_END_SECONDS = 5.0
"""For the far side to remove its files once it is told that this is the end."""
_QUOTED = 300
"""Characters of other programs' words that a message repeats."""


@dataclass(frozen=True)
class Answer:
    """What the far side says to one request."""

    code: int
    parts: tuple[bytes | None, ...]
    """Contents of files; None for those that there aren't."""


class Connection:
    """A shell at the far end of `command`, started when it is needed, and again after it was lost.

    When this program ends, in whichever way, so does the shell; it kills what it runs and removes its files.
    """

    def __init__(self, name: str, command: Sequence[str], explain: Callable[[str], str]) -> None:
        """`explain` makes one line of what the command says on stderr when there is no connection."""
        self.name = name
        self._command = tuple(command)
        self._explain = explain
        self._process: subprocess.Popen[bytes] | None = None
        self._heard: queue.Queue[bytes] = queue.Queue(_CHUNKS)
        self._buffer = bytearray()
        self._warned = bytearray()
        self._writing: list[threading.Thread] = []
        self._stored: set[str] = set()

    def store(self, content: bytes) -> str:
        """Have `content` in the far side's cache; returns its digest there. Raises DeviceError."""
        digest = hashlib.sha256(content).hexdigest()
        self._open()
        if digest in self._stored:
            return digest
        small = len(content) < _SMALL_BYTES
        if small or self.ask(f"have {digest}").code:
            line = f"put {digest} {len(content)}" + ("" if small else f"; shrink {CACHE_KIBIBYTES}")
            answer = self.ask(line, content, ANSWER_SECONDS + len(content) / UPLOAD_BYTES_PER_SECOND)
            if answer.code:
                self.close()
                raise DeviceError(
                    f"'{self.name}': the copy there failed: {last_line(answer.parts[0] or b'')}"
                )
        self._stored.add(digest)
        return digest

    def ask(
        self,
        line: str,
        content: bytes = b"",
        seconds: float | None = None,
        most: Sequence[int] = (),
        late: str = "",
    ) -> Answer:
        """Return the answer to a line of shell with `content` behind it; `most` limits its parts' bytes.

        Raises DeviceError where it takes more than `seconds` (ANSWER_SECONDS), saying `late`, or the
        connection is lost; what was begun is then ended, there too.
        """
        seconds = ANSWER_SECONDS if seconds is None else seconds
        late = late or f"it did not answer within {duration(seconds)}"
        try:
            self._open()
            deadline = time.monotonic() + seconds
            self._send(line.encode() + b"\n" + content)
            return self._answer(deadline, late, most)
        except BaseException:  # Ctrl-C as well
            self.close()
            raise

    def close(self) -> None:
        """End the connection, and with it whatever runs at its far end."""
        if self._process is not None:
            self._finalizer()
        self._process = None

    def _open(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close()  # it was lost while nothing was asked: begin anew
        try:
            # A session of its own: Ctrl-C in a terminal is edgec's to handle, which then ends it in order.
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise DeviceError(f"'{self.name}': {self._command[0]}: can't be started: {reason}") from error
        self._process, self._writing = process, []
        self._finalizer = weakref.finalize(self, _end, process, self._writing)
        self._heard = queue.Queue(_CHUNKS)
        self._buffer, self._warned = bytearray(), bytearray()
        self._stored.clear()
        warn = partial(_keep_last, self._warned)
        streams = ((process.stdout, self._heard.put), (process.stderr, warn))
        listeners = [threading.Thread(target=_listen, args=each, daemon=True) for each in streams]
        for listener in listeners:
            listener.start()
        self._warner = listeners[1]
        self._send(_SCRIPT)
        try:
            self._greeted(time.monotonic() + ANSWER_SECONDS)
        except BaseException:
            self.close()
            raise
        self.ask(f"tidy {CACHE_DAYS}; report 0")

    def _greeted(self, deadline: float) -> None:
        skipped = 0
        late = f"no connection within {duration(ANSWER_SECONDS)}"
        while (line := self._line(deadline, late, greeting=True)) != _GREETING:
            skipped += len(line) + 1
            if skipped > _NOISE_BYTES:
                raise DeviceError(f"'{self.name}': its login shell says more than {_NOISE_BYTES >> 20} MiB")

    def _send(self, data: bytes) -> None:
        """Write in a thread of its own: a far side that doesn't read may be telling why."""
        assert self._process is not None, "it was opened"
        thread = threading.Thread(target=_write, args=(self._process.stdin, data), daemon=True)
        thread.start()
        self._writing[:] = [*(each for each in self._writing if each.is_alive()), thread]

    def _answer(self, deadline: float, late: str, most: Sequence[int]) -> Answer:
        words = self._line(deadline, late).split()
        if len(words) < 2 or words[0] != b"edgec" or not all(_is_size(word) for word in words[1:]):
            raise DeviceError(f"'{self.name}': what it says is no answer")
        code, *sizes = words[1:]
        if b"!" in sizes:
            raise DeviceError(f"'{self.name}': what the program wrote is not a file")
        limits = [*most, *[_LINE_BYTES] * len(sizes)]
        if any(size != b"-" and int(size) > limit for size, limit in zip(sizes, limits, strict=False)):
            raise DeviceError(
                f"'{self.name}': the program wrote more than the {max(limits)} bytes that it may"
            )
        parts = tuple(None if size == b"-" else self._bytes(int(size), deadline, late) for size in sizes)
        return Answer(int(code), parts)

    def _line(self, deadline: float, late: str, greeting: bool = False) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LINE_BYTES:
                raise DeviceError(f"'{self.name}': what it says is no answer")
            self._hear(deadline, late, greeting)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return bytes(line)

    def _bytes(self, size: int, deadline: float, late: str) -> bytes:
        while len(self._buffer) < size:
            self._hear(deadline, late)
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _hear(self, deadline: float, late: str, greeting: bool = False) -> None:
        try:
            data = self._heard.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            raise DeviceError(f"'{self.name}': {late}") from None
        if data:
            self._buffer += data
            return
        assert self._process is not None, "something listened to it"
        self._warner.join(_END_SECONDS)  # its last words are on the way
        words = bytes(self._warned).decode(errors="replace")
        if greeting:
            raise DeviceError(f"'{self.name}': {self._explain(words)}")
        why = last_line(bytes(self._warned), "")
        raise DeviceError(f"'{self.name}': the connection was lost" + (f": {why}" if why else ""))


def _is_size(word: bytes) -> bool:
    return word in (b"-", b"!") or (word.isdigit() and len(word) < 16)


def last_line(said: bytes, otherwise: str = "no reason given") -> str:
    """Return the last line of a program's words."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return printable(lines[-1])[:_QUOTED] if lines else otherwise


def _listen(stream: IO[bytes], hear: Callable[[bytes], object]) -> None:
    with stream:
        while data := stream.read(_LINE_BYTES):
            hear(data)
    hear(b"")


def _keep_last(words: bytearray, more: bytes) -> None:
    words += more
    del words[:-_LINE_BYTES]


def _write(stream: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    with contextlib.suppress(OSError, ValueError):  # who listens will learn why
        while rest:
            rest = rest[stream.write(rest) :]


def _end(process: "subprocess.Popen[bytes]", writing: list[threading.Thread]) -> None:
    """Let the far side end in order, which it does when it can't read more; then the command has to end."""
    assert process.stdin is not None, "it is a pipe"
    for thread in writing:
        thread.join(_PATIENCE_SECONDS)
        if thread.is_alive():  # nobody reads what it writes
            process.kill()
            thread.join()
    process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
