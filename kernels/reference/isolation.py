"""Calls that may take their process with them, made in copies of this one, or in processes like it.

A copy (`fork`) is there at once and can make any call. Systems other than Linux have none that libraries with
threads survive: there a new Python makes the calls, which must be picklable.
"""

import faulthandler
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, TypeVar

T = TypeVar("T")

COPIES = sys.platform == "linux"
"""Whether this process can be copied."""


@dataclass(frozen=True)
class Died:
    """A call that had no end: neither a result nor an exception."""

    how: str
    """The signal's name, or `timeout`."""


@dataclass(frozen=True)
class _Helper:
    """A process that makes calls."""

    results: IO[bytes]
    """What it writes: a length of 8 bytes and a pickled result for each call."""
    end: Callable[[], int]
    """Ends the process, and returns its exit code; if a signal has ended it, minus its number."""


def isolated(calls: Sequence[Callable[[], T]], seconds: float) -> list[T | Died]:
    """Return what every call returns, each within `seconds`; results must be picklable.

    One process makes them all, one after the other; where one dies, another goes on behind it.
    """
    results: list[T | Died] = []
    while len(results) < len(calls):
        results += _attempt(calls[len(results) :], seconds)
    return results


def _attempt(calls: Sequence[Callable[[], T]], seconds: float) -> list[T | Died]:
    """Make calls in one process as far as it lives: all results, or those before a death and the death."""
    helper = _copied(calls) if COPIES else _started(calls)
    received: list[Any] = []
    how = ""
    messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    # A thread reads: no system can wait for any pipe with a time limit otherwise.
    reader = threading.Thread(target=_read, args=(helper.results, messages), daemon=True)
    reader.start()
    try:
        while len(received) < len(calls) and not how:
            try:
                message = messages.get(timeout=seconds)
            except queue.Empty:
                how = "timeout"
            else:
                if message is None:
                    how = "died"
                else:
                    received.append(pickle.loads(message))
    finally:
        code = helper.end()  # it has said all; one that hangs is ended
        reader.join()
        helper.results.close()
    if how == "died":
        how = signal.Signals(-code).name if code < 0 else "exit"
    return [*received, Died(how)] if how else received


def _copied(calls: Sequence[Callable[[], T]]) -> _Helper:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later: threads of other libraries aren't copied. None of them holds a lock here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _answer(calls, os.fdopen(writing, "wb", 0))
        finally:
            os._exit(1)
    os.close(writing)

    def end() -> int:
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return _Helper(os.fdopen(reading, "rb", 0), end)


def _started(calls: Sequence[Callable[[], T]]) -> _Helper:
    begin = f"import sys; sys.path[:] = sys.argv[1:]; from {__name__} import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", begin, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    with suppress(OSError), process.stdin as given:  # it may have ended, as its results will show
        pickle.dump(list(calls), given)

    def end() -> int:
        process.kill()
        return process.wait()

    return _Helper(process.stdout, end)


def main() -> None:
    """Make the calls that come in by stdin, and write their results to stdout."""
    results = os.fdopen(os.dup(1), "wb", 0)
    _answer(pickle.load(sys.stdin.buffer), results)


def _answer(calls: Sequence[Callable[[], T]], results: IO[bytes]) -> None:
    """Make calls and write their results."""
    faulthandler.disable()
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # what libraries print when they die
        os.dup2(nothing, descriptor)
    for call in calls:
        message = pickle.dumps(call())
        view = memoryview(len(message).to_bytes(8, "little") + message)
        while view:
            view = view[results.write(view) :]


def _read(results: IO[bytes], messages: "queue.SimpleQueue[bytes | None]") -> None:
    """Put every message in the queue, and None behind the last."""
    while (size := _bytes(results, 8)) and (message := _bytes(results, int.from_bytes(size, "little"))):
        messages.put(message)
    messages.put(None)


def _bytes(pipe: IO[bytes], count: int) -> bytes:
    """Return as many bytes, or none where there aren't so many."""
    data = bytearray()
    while len(data) < count:
        part = pipe.read(count - len(data))
        if not part:
            return b""
        data += part
    return bytes(data)
