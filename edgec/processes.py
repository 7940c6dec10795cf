"""Processes on whichever system edgec runs: its own, and those that it starts and ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_IS_POSIX = hasattr(os, "killpg")
"""Windows has no groups of processes, nor a signal that only asks."""


def alive(number: int) -> bool:
    """Whether a process with this number runs, or may: on Windows the call that asks would end it."""
    if not _IS_POSIX:
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def end(process: "subprocess.Popen[Any]") -> None:
    """End a process that is the first of a group, and all that it started; on Windows itself alone."""
    with suppress(ProcessLookupError, PermissionError):  # they have ended already
        if _IS_POSIX:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


@contextmanager
def unheard() -> Iterator[None]:
    """Let nothing be seen of what C and C++ in this process write to standard error."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
