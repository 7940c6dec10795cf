"""A Linux machine that the system's OpenSSH reaches: with its configuration and keys."""

import contextlib
import os
import re
import shlex
import subprocess
from functools import cache

from edgec.bench.devices import remote
from edgec.bench.devices.connection import SHELL_COMMAND, Connection
from edgec.bench.devices.device import Scheme
from edgec.errors import DeviceError, printable
from edgec.targets.descriptor import Target

COMMAND = "EDGEC_SSH"
"""In the environment: the command to use in place of `ssh`, with options, as GIT_SSH_COMMAND is git's."""

_ADDRESS = re.compile(
    r"//(?:([^@:/\s-][^@:/\s]*)@)?(\[[0-9A-Fa-f:.%\w]+\]|[^@:/\s\[\]-][^@:/\s\[\]]*)(?::(\d{1,5}))?/?"
)
"""User, host and port; neither of the first two may look like an option of ssh's."""
_ALIVE = {"ServerAliveInterval": "5", "ServerAliveCountMax": "6"}
"""A connection that is silent for half a minute is lost, unless ssh's configuration has another interval."""
_CONFIGURATION_SECONDS = 10

_CAUSES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|differs from the key for the IP",
        "its host key isn't the one that is known: if that is right, remove the old one by"
        " 'ssh-keygen -R' and connect once by ssh",
    ),
    (r"Host key verification failed", "its host key isn't known: connect once by ssh, and confirm it there"),
    (
        r"Permission denied",
        "it takes none of your keys: give it one by ssh-copy-id; edgec asks for no password",
    ),
)
"""What OpenSSH says on several lines, or where it would ask -> the one line to say in its place."""


def connect(address: str, target: Target, timeout_seconds: float) -> remote.RemoteMachine:
    """Return the machine at `//[user@]host[:port]`; raises DeviceError where it can't be reached or used."""
    found = _ADDRESS.fullmatch(address)
    if not found or (found[3] and not 0 < int(found[3]) < 1 << 16):
        raise DeviceError(f"no device 'ssh:{address}': write it as {SCHEME.form}")
    user, host, port = found.groups()
    where = [*(("-p", port) if port else ()), *(("-l", user) if user else ()), "--", host.strip("[]")]
    return remote.connect(_connection(f"ssh:{address}", tuple(where)), target, timeout_seconds)


SCHEME = Scheme("ssh://[USER@]HOST[:PORT]", connect)


@cache
def _connection(name: str, where: tuple[str, ...]) -> Connection:
    """Return the connection: one for all levels and runs of a command."""
    program = shlex.split(os.environ.get(COMMAND, "ssh")) or ["ssh"]
    options = ["-T", "-o", "BatchMode=yes"]
    if not _asks_whether_alive(program, where):
        options += [word for pair in _ALIVE.items() for word in ("-o", "=".join(pair))]
    return Connection(name, [*program, *options, *where, SHELL_COMMAND], _cause)


def _asks_whether_alive(program: list[str], where: tuple[str, ...]) -> bool:
    """Return whether ssh's configuration says how often to see if the connection stands."""
    with contextlib.suppress(
        OSError, ValueError, subprocess.TimeoutExpired
    ):  # connecting will say what is wrong
        done = subprocess.run(
            [*program, "-G", *where],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_CONFIGURATION_SECONDS,
            check=False,
        )
        return bool(re.search(r"^serveraliveinterval [1-9]", done.stdout, re.MULTILINE))
    return False


def _cause(said: str) -> str:
    """Return one line of what ssh said when it didn't connect."""
    for pattern, line in _CAUSES:
        if re.search(pattern, said):
            return line
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return printable(lines[-1])[:300] if lines else "the connection was closed before it stood"
