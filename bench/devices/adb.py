"""A Linux machine that adb, Android's debug bridge, reaches by USB or network."""

import re
import shutil
from functools import cache

from edgec.bench.devices import remote
from edgec.bench.devices.connection import SHELL_COMMAND, Connection
from edgec.bench.devices.device import Scheme
from edgec.errors import DeviceError, printable
from edgec.targets.descriptor import Target

_SERIAL = re.compile(r"[\w.:\[\]%][\w.:\[\]%-]*")
"""As `adb devices` lists them: numbers, or addresses."""


def connect(serial: str, target: Target, timeout_seconds: float) -> remote.RemoteMachine:
    """Return the machine called `serial`, or else the one there is; raises DeviceError where it isn't."""
    if serial and not _SERIAL.fullmatch(serial):
        raise DeviceError(f"no device 'adb:{serial}': write it as {SCHEME.form}")
    if shutil.which("adb") is None:
        raise DeviceError("adb is not installed: sudo apt install adb")
    return remote.connect(_connection(serial), target, timeout_seconds)


SCHEME = Scheme("adb[:SERIAL]", connect)


@cache
def _connection(serial: str) -> Connection:
    """Return the connection: one for all levels and runs of a command."""
    name, which = (f"adb:{serial}", ("-s", serial)) if serial else ("adb", ())
    return Connection(name, ["adb", *which, "shell", SHELL_COMMAND], _cause)


def _cause(said: str) -> str:
    """Return one line of what adb said when it didn't connect: advice of its own follows the cause."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    causes = (found[1] for line in lines if (found := re.match(r"(?:error|adb): (.*)", line)))
    cause = next(causes, lines[-1] if lines else "the connection was closed before it stood")
    return f"{printable(cause)[:300]}: 'adb devices' lists what there is"
