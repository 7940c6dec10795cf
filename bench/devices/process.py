"""Running a program on this machine in a folder of its own: what the local device and the emulator share."""

import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec.bench.devices.device import Execution
from edgec.errors import DeviceError


def run(
    command: Sequence[str | Path], files: Mapping[str, bytes], collect: Sequence[str], timeout: float
) -> Execution:
    """Run `command` in an empty folder that holds `files`, and bring the files `collect` back.

    Raises DeviceError where it can't be started, is killed by a signal, or takes more than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"the program did not end within {timeout:g} s") from error
        except OSError as error:
            raise DeviceError(f"{command[0]}: can't be started: {error.strerror}") from error
        if done.returncode < 0:
            raise DeviceError(f"the program died of {signal.Signals(-done.returncode).name}")
        written = {file: (folder / file).read_bytes() for file in collect if (folder / file).is_file()}
    return Execution(done.returncode, done.stdout, done.stderr, written)
