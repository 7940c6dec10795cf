"""Running a program on this machine in a folder of its own: what the local device and the emulator share."""

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from edgec import files, processes
from edgec.bench.devices.device import SAID_BYTES, Execution, duration, signal_name
from edgec.errors import DeviceError

_CHUNK_BYTES = 1 << 16
_POLL_SECONDS = 0.2
"""How long a program that has ended may leave its output to children of its own."""
_LEAST_FILE_BYTES = 1 << 20


def run(
    device: str,
    command: Sequence[str | Path],
    given: Mapping[str, bytes],
    collect: Mapping[str, int],
    timeout_seconds: float,
) -> Execution:
    """Run `command` in an empty folder that holds `given`, and bring the files `collect` back.

    `collect` says how many bytes each may have. Raises DeviceError, which names `device`, where the command
    can't be started, is killed by a signal, takes more than `timeout_seconds`, or says or writes more than it
    may. Then nothing of its process group is left.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="edgec-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            for file, content in given.items():
                (folder / file).write_bytes(content)
            most = max(collect.values(), default=0)
            code, said, warned = _executed(device, command, folder, most, timeout_seconds)
            written = {file: _read(device, folder / file, most) for file, most in collect.items()}
    except OSError as error:
        raise DeviceError(f"'{device}': {error.filename}: {error.strerror}") from error
    found = {file: content for file, content in written.items() if content is not None}
    return Execution(device, code, said, warned, found)


def _executed(
    device: str, command: Sequence[str | Path], folder: Path, most: int, timeout_seconds: float
) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    try:
        # A session of its own: what it starts is found, and ended, by its group.
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DeviceError(f"'{device}': {command[0]}: can't be started: {reason}") from error
    try:
        _limit_files(process, max(most, _LEAST_FILE_BYTES))
        said, warned = _listen(device, process, time.monotonic() + timeout_seconds, timeout_seconds)
    finally:
        processes.end(process)
    if process.returncode < 0:
        died_of = signal_name(-process.returncode)
        if died_of == "SIGXFSZ":
            raise DeviceError(f"'{device}': the program wrote more than the {most} bytes that it has to")
        raise DeviceError(f"'{device}': the program died of {died_of}")
    return process.returncode, said, warned


def _limit_files(process: "subprocess.Popen[bytes]", most: int) -> None:
    """Let no file of a process grow beyond `most` bytes, where the system can see to it."""
    with contextlib.suppress(ImportError, AttributeError, OSError):  # only Linux can; it has ended already
        import resource

        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))


def _listen(
    device: str, process: "subprocess.Popen[bytes]", deadline: float, timeout_seconds: float
) -> tuple[str, str]:
    """Return what the program says on stdout and stderr until it ends."""
    assert process.stdout is not None, "it is a pipe"
    assert process.stderr is not None, "it is a pipe"
    heard = [_Heard(process.stdout), _Heard(process.stderr)]
    while listening := [each for each in heard if each.thread.is_alive()]:
        ended, before = process.poll() is not None, [len(each.data) for each in heard]
        wait = deadline - time.monotonic()
        listening[0].thread.join(min(max(wait, 0), _POLL_SECONDS))
        if any(len(each.data) > SAID_BYTES for each in heard):
            raise DeviceError(f"'{device}': the program says more than {SAID_BYTES >> 20} MiB")
        if wait <= 0:
            break
        if ended and listening[0].thread.is_alive() and before == [len(each.data) for each in heard]:
            break  # a child of it holds the pipe
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        limit = f"{duration(timeout_seconds)}: --timeout sets another limit"
        raise DeviceError(f"'{device}': the program did not end within {limit}") from None
    said, warned = (bytes(each.data).decode(errors="replace") for each in heard)
    return said, warned


class _Heard:
    """What a program says on one stream: a thread reads it, as no system can wait for any pipe otherwise."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.data = bytearray()
        self.thread = threading.Thread(target=self._hear, args=(stream,), daemon=True)
        self.thread.start()

    def _hear(self, stream: IO[bytes]) -> None:
        with stream:
            while len(self.data) <= SAID_BYTES and (chunk := os.read(stream.fileno(), _CHUNK_BYTES)):
                self.data += chunk


def _read(device: str, path: Path, most: int) -> bytes | None:
    """Return what the program wrote to a file, None where there is none."""
    if not os.path.lexists(path):
        return None
    try:
        return files.read(path, DeviceError, most)
    except DeviceError as error:
        what = str(error).removeprefix(f"{path}: ")
        raise DeviceError(f"'{device}': {path.name}, which the program wrote: {what}") from error
