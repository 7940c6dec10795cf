"""A Linux machine at the far end of a connection: which command makes that is the scheme's to know."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.bench.devices import machine
from edgec.bench.devices.connection import Answer, Connection, last_line
from edgec.bench.devices.device import SAID_BYTES, Execution, duration
from edgec.bench.devices.machine import Machine
from edgec.errors import DeviceError, printable
from edgec.targets.descriptor import Target

_BLOCK_BYTES = 512
"""What `ulimit -f` counts in."""
_CANT_START = {
    126: "files in its cache folder must be allowed to run; XDG_CACHE_HOME there names another",
    127: "bundles need a 64-bit Linux with glibc 2.28 or later",
}
"""Exit code of a shell for a program that can't be started -> what it usually lacks."""
_SIGNALS = 128
"""What a shell adds to the signal that ended a program."""
_SIGNAL_NAMES = {
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
}
"""Linux's numbers, whatever system this is."""
_TOO_LARGE, _LAST_SIGNAL = 25, 64
"""SIGXFSZ, for a file beyond the limit; and the last of those for real time."""


@dataclass(frozen=True)
class RemoteMachine:
    """A machine at the far end of a connection."""

    connection: Connection
    machine: Machine
    """As it was when it was connected."""
    timeout_seconds: float

    @property
    def name(self) -> str:
        """As the user spells it."""
        return self.connection.name

    @property
    def cpu(self) -> str:
        """Model name of the board's processor."""
        return self.machine.cpu

    @property
    def features(self) -> frozenset[str]:
        """What its processor has."""
        return self.machine.features

    @property
    def conditions(self) -> dict[str, str | float]:
        """What it is and how busy, hot and fast it is now."""
        return dict(_described(self.connection).conditions)

    def execute(
        self,
        program: Path,
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        collect: Mapping[str, int] | None = None,
    ) -> Execution:
        """Run a program on the board, in an empty folder with `files`, as `Device.execute` says.

        Programs and files are copied once, and cached there by content.
        """
        files, collect = files or {}, collect or {}
        content = _read(self.name, program)
        stored = self.connection.store(content)
        given = {name: self.connection.store(each) for name, each in files.items()}
        links = [f'ln -s "$cache/{digest}" files/{_word(name)}' for name, digest in given.items()]
        largest = max([SAID_BYTES, *collect.values()])
        words = [-(-largest // _BLOCK_BYTES), " ".join(collect)]
        run = f'{_words(words)} "$cache/{stored}" {_words(arguments)}'
        line = "; ".join(["fresh", *links, f"setsid sh ./run {run} 2>/dev/null & group=$!"])
        limit = (
            f"the program did not end within {duration(self.timeout_seconds)}: --timeout sets another limit"
        )
        most = [SAID_BYTES, SAID_BYTES, *collect.values()]
        answer = self.connection.ask(line, b"", self.timeout_seconds, most, limit)
        return self._execution(answer, list(collect))

    def _execution(self, answer: Answer, collect: Sequence[str]) -> Execution:
        said, warned = ((part or b"").decode(errors="replace") for part in answer.parts[:2])
        if answer.code in _CANT_START:
            why = re.sub(r"\S*[0-9a-f]{64}", "it", last_line(warned.encode(), "no reason given"))
            usual = _CANT_START[answer.code]
            raise DeviceError(f"'{self.name}': the program can't be started there ({why}): {usual}")
        if answer.code == _SIGNALS + _TOO_LARGE:
            raise DeviceError(f"'{self.name}': the program wrote more than it has to")
        if _SIGNALS < answer.code <= _SIGNALS + _LAST_SIGNAL:
            number = answer.code - _SIGNALS
            name = _SIGNAL_NAMES.get(number, f"signal {number}")
            raise DeviceError(f"'{self.name}': the program died of {name}")
        if answer.code and not warned and self.connection.ask("room").code:
            raise DeviceError(f"'{self.name}': no room is left there for what the program writes")
        files = zip(collect, answer.parts[2:], strict=True)
        found = {name: content for name, content in files if content is not None}
        return Execution(self.name, answer.code, said, warned, found)


def connect(connection: Connection, target: Target, timeout_seconds: float) -> RemoteMachine:
    """Return the machine at the far end; raises DeviceError where bundles for `target` can't run there."""
    found = _described(connection)
    if not target.platform.loads_programs or found.arch != target.arch:
        what = found.arch or f"'{printable(found.uname)}'"
        raise DeviceError(
            f"the bundle is for {target.arch} and '{connection.name}' is {what}: build it for that"
        )
    return RemoteMachine(connection, found, timeout_seconds)


def _described(connection: Connection) -> Machine:
    answer = connection.ask('describe >"$work/machine"; report 0 "$work/machine"', most=[SAID_BYTES])
    return machine.parse((answer.parts[0] or b"").decode(errors="replace"))


def _read(device: str, program: Path) -> bytes:
    try:
        return program.read_bytes()
    except OSError as error:
        raise DeviceError(f"'{device}': {program}: {error.strerror}") from error


def _words(words: Sequence[object]) -> str:
    return " ".join(map(_word, words))


def _word(word: object) -> str:
    """Quote for a shell that reads a line at a time."""
    text = str(word)
    assert "\n" not in text, "no argument of a program of ours has line breaks"
    return shlex.quote(text)
