"""Calls that may take their process with them, made in copies of this one."""

import faulthandler
import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Died:
    """A call that had no end: neither a result nor an exception."""

    how: str
    """The signal's name, or `timeout`."""


def isolated(calls: Sequence[Callable[[], T]], seconds: float) -> list[T | Died]:
    """Return what every call returns, each within `seconds`; results must be picklable.

    One copy of the process makes them all, one after the other; where one dies, another goes on behind it.
    """
    results: list[T | Died] = []
    while len(results) < len(calls):
        results += _attempt(calls[len(results) :], seconds)
    return results


def _attempt(calls: Sequence[Callable[[], T]], seconds: float) -> list[T | Died]:
    """Make calls in one copy as far as it lives: all results, or those before a death and the death."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later: threads of other libraries aren't copied. None of them holds a lock here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _child(calls, reading, writing)
    os.close(writing)
    received: list[Any] = []
    how = ""
    try:
        with os.fdopen(reading, "rb", 0) as pipe:
            while len(received) < len(calls) and not how:
                try:
                    received.append(pickle.loads(_message(pipe, time.monotonic() + seconds)))
                except EOFError:
                    how = "died"
                except TimeoutError:
                    how = "timeout"
    finally:
        os.kill(child, signal.SIGKILL)  # it has said all; one that hangs is ended
        _, status = os.waitpid(child, 0)
    if how == "died":
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "exit"
    return [*received, Died(how)] if how else received


def _child(calls: Sequence[Callable[[], T]], reading: int, writing: int) -> None:
    """Make calls and write their results; never returns."""
    try:
        os.close(reading)
        faulthandler.disable()
        nothing = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):  # what libraries print when they die
            os.dup2(nothing, descriptor)
        with os.fdopen(writing, "wb", 0) as pipe:
            for call in calls:
                message = pickle.dumps(call())
                view = memoryview(len(message).to_bytes(8, "little") + message)
                while view:
                    view = view[pipe.write(view) :]
    finally:
        os._exit(1)


def _message(pipe: Any, until: float) -> bytes:
    """Read one message; raises EOFError where the other end is gone, TimeoutError."""
    size = int.from_bytes(_bytes(pipe, 8, until), "little")
    return _bytes(pipe, size, until)


def _bytes(pipe: Any, count: int, until: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        ready, _, _ = select.select([pipe], [], [], max(0, until - time.monotonic()))
        if not ready:
            raise TimeoutError
        part = pipe.read(count - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
