"""Running a program on this machine in a folder of its own: what the local device and the emulator share."""

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec import files
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
        with contextlib.suppress(OSError, AttributeError):  # it has ended already; no Linux
            limit = max(most, _LEAST_FILE_BYTES)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        said, warned = _listen(device, process, time.monotonic() + timeout_seconds, timeout_seconds)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    if process.returncode == -signal.SIGXFSZ:
        raise DeviceError(f"'{device}': the program wrote more than the {most} bytes that it has to")
    if process.returncode < 0:
        raise DeviceError(f"'{device}': the program died of {signal_name(-process.returncode)}")
    return process.returncode, said, warned


def _listen(
    device: str, process: "subprocess.Popen[bytes]", deadline: float, timeout_seconds: float
) -> tuple[str, str]:
    """Return what the program says on stdout and stderr until it ends."""
    assert process.stdout is not None, "it is a pipe"
    assert process.stderr is not None, "it is a pipe"
    heard = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in heard:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            wait = deadline - time.monotonic()
            if wait <= 0:
                break
            ready = selector.select(min(wait, _POLL_SECONDS))
            if not ready and process.poll() is not None:
                break  # a child of it holds the pipe
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                heard[key.fileobj] += chunk  # type: ignore[index]  # they are registered as streams
                if len(heard[key.fileobj]) > SAID_BYTES:  # type: ignore[index]
                    raise DeviceError(f"'{device}': the program says more than {SAID_BYTES >> 20} MiB")
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        limit = f"{duration(timeout_seconds)}: --timeout sets another limit"
        raise DeviceError(f"'{device}': the program did not end within {limit}") from None
    said, warned = (bytes(heard[stream]).decode(errors="replace") for stream in heard)
    return said, warned


def _read(device: str, path: Path, most: int) -> bytes | None:
    """Return what the program wrote to a file, None where there is none."""
    if not os.path.lexists(path):
        return None
    try:
        return files.read(path, DeviceError, most)
    except DeviceError as error:
        what = str(error).removeprefix(f"{path}: ")
        raise DeviceError(f"'{device}': {path.name}, which the program wrote: {what}") from error
