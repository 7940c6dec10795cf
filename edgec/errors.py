"""Mistakes a user can make. Each prints as one line that says what, where and what to do; exit code 2."""

import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TextIO

_LONG_NAME = re.compile(r"(\S{300})\S{200,}")
"""A name, of a tensor in a damaged model, that would fill a screen; paths are shorter."""


class EdgecError(Exception):
    """Base of every error that is the user's to mend; anything else is a bug in edgec."""

    def __init__(self, message: str) -> None:
        super().__init__(_LONG_NAME.sub(r"\1...", printable(message)))


class UsageError(EdgecError):
    """A command line that makes no sense: an unknown option, a value out of range, a missing argument."""


class ModelError(EdgecError):
    """The model file can't be read, or its shapes aren't known."""


class TargetError(EdgecError):
    """No such target, or a descriptor that doesn't make sense."""


class CalibrationError(EdgecError):
    """Calibration data don't fit the model's inputs."""


class UnsupportedError(EdgecError):
    """Nodes that can't be compiled; the message lists every one with its operator and the reason."""


class ToolchainError(EdgecError):
    """A compiler, linker or archiver is missing or failed."""


class LimitError(EdgecError):
    """A model needs more flash or RAM than the build was allowed."""


class DeviceError(EdgecError):
    """A device or emulator is missing, unreachable, or refused to run the bundle."""


class BundleError(EdgecError):
    """A bundle is missing, incomplete or was changed after it was built."""


class DataError(EdgecError):
    """Arrays given to a bundle don't fit its inputs."""


class OutputError(EdgecError):
    """A file that was asked for, or what a command prints, can't be written."""


class TuningError(EdgecError):
    """A budget or a file of tuning records doesn't make sense, or can't be written."""


class PackageError(EdgecError):
    """A Python package of one of edgec's extras isn't installed."""


class Stopped(BaseException):
    """A signal asks edgec to end: what it began is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_GRACE_SECONDS = 5
"""For cleaning up, in which a second signal doesn't count: people press Ctrl-C twice."""
_LONGEST = 2000
"""Characters of a message: what is longer is a list that nobody reads to its end."""
_MISLEADING = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)
"""Control characters, Unicode's line ends and directions, and what no encoding has."""


def printable(text: str) -> str:
    """Return `text` on one line, with what would lead a terminal astray escaped as Python does.

    Names come from models, bundles, devices and arguments: no line break in one may look like edgec's own.
    """
    return _MISLEADING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@contextmanager
def reported() -> Iterator[None]:
    """Within it, a user's mistake is one line on stderr and exit code 2, a signal one and 128 + its number.

    What the machine lacks (disk, memory, permission, a reader of stdout) is reported as a mistake is.
    """
    _open_streams()
    with _listening():
        try:
            yield
            sys.stdout.flush()
        except EdgecError as error:
            _fail(str(error))
        except OSError as error:
            where = "the output" if _takes_no_more(sys.stdout) else error.filename
            reason = error.strerror or str(error)
            _fail(reason if where is None else f"{where}: {reason}")
        except MemoryError:
            _fail("out of memory")
        except (Stopped, KeyboardInterrupt) as error:
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            _say(f"edgec: stopped by {signal.Signals(number).name}")
            sys.exit(128 + number)


def _open_streams() -> None:
    """Let stdout and stderr take every name, and let no file become one of them where they are closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _listening() -> Iterator[None]:
    """Raise Stopped for signals, but for those that the caller chose to ignore."""
    last = -math.inf

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > _GRACE_SECONDS:
            raise Stopped(number)

    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    if threading.current_thread() is not threading.main_thread():  # which may set none
        before = {}
    heard = {number: handler for number, handler in before.items() if handler in usual}
    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


def _fail(message: str) -> NoReturn:
    line = printable(message)
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST - 200]} ... {line[-190:]}"
    _say(f"edgec: error: {line}")
    sys.exit(2)


def _say(line: str) -> None:
    """Print on stderr, after what is on stdout; where neither takes it, the exit code alone tells."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{line}\n")):
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):
            _discard(stream)


def _takes_no_more(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False


def _discard(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: Python would fail again on it at the very end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
