"""A real sshd on loopback, whose far side passes for a Raspberry Pi.

What is real: OpenSSH on both sides, keys, known hosts, the far side's shell, files and processes, and the
arm64 programs, run by QEMU's user mode. What is not: the far side shares this machine's kernel. There
`uname -m` is a script, /proc and /sys are files of a Raspberry Pi 5, and a preloaded library hands arm64
programs to QEMU, as binfmt_misc would where it may be set up.
"""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgec.compiler.native import toolchain
from edgec.targets import loader

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

BINFMT = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { AARCH64 = 183, WORDS = 256 };

__attribute__((visibility("default"))) int execve(const char *path, char *const argv[], char *const envp[])
{
    char head[20] = {0};
    int file = open(path, O_RDONLY);
    if (file >= 0) {
        if (read(file, head, sizeof head) < 0)
            head[0] = 0;
        close(file);
    }
    if (memcmp(head, "\177ELF", 4) != 0 || head[18] != (char)AARCH64)
        return (int)syscall(SYS_execve, path, argv, envp);
    char *words[WORDS] = {
        "qemu-aarch64", "-cpu", getenv("FAR_CPU"), "-L", "/usr/aarch64-linux-gnu", (char *)path,
    };
    for (int i = 1; argv[i] != NULL && i + 6 < WORDS; i++)
        words[i + 5] = argv[i];
    char *rest[WORDS] = { NULL };
    for (int i = 0, n = 0; envp[i] != NULL && n + 1 < WORDS; i++)
        if (strncmp(envp[i], "LD_PRELOAD=", 11) != 0)
            rest[n++] = envp[i];
    return (int)syscall(SYS_execve, QEMU, words, rest);
}
"""

COMMAND = """#!/bin/sh
# What sshd runs in place of what it is asked for.
export PATH={folder}/bin:$PATH XDG_CACHE_HOME={folder}/cache EDGEC_ROOT={folder}/root
export LD_PRELOAD={folder}/binfmt.so FAR_CPU=$(cat {folder}/cpu)
echo $PPID >{folder}/session
[ -f {folder}/noise ] && cat {folder}/noise
[ -f {folder}/small ] && exec unshare -rm sh -c \
    'mount -t tmpfs -o size=100k tmpfs $XDG_CACHE_HOME && eval "$SSH_ORIGINAL_COMMAND"'
eval "$SSH_ORIGINAL_COMMAND"
"""

SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
ForceCommand {folder}/command
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""

CLIENT = """
Host board jumped stranger
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentitiesOnly yes
  HostKeyAlias far
  UserKnownHostsFile {folder}/known_hosts
Host jumped
  ProxyJump board
Host board jumped
  IdentityFile {folder}/key
Host stranger
  IdentityFile {folder}/host_key
"""

ROOT = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/loadavg": "0.12 0.10 0.05 1/200 4711\n",
    "proc/cpuinfo": "processor\t: 3\nFeatures\t: fp asimd asimdrdm asimddp\nCPU implementer\t: 0x41\n"
    "CPU part\t: 0xd0b\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2400000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "2400000\n",
    "sys/class/thermal/thermal_zone0/temp": "51250\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n",
}
"""What a Raspberry Pi 5 shows of itself."""


@dataclass(frozen=True)
class Far:
    """The far side, as its files."""

    folder: Path

    @property
    def cache(self) -> Path:
        """Where programs are kept."""
        return self.folder / "cache" / "edgec" / "programs"

    def runs(self) -> list[str]:
        """The folders of sessions that are there."""
        return [path.name for path in self.cache.glob("run-*")]

    def kept(self) -> list[Path]:
        """What its cache holds."""
        return [path for path in self.cache.iterdir() if path.is_file()]

    def show(self, path: str, text: str) -> None:
        """Let /proc or /sys say something."""
        shown = self.folder / "root" / path
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(text)


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something holds within ten seconds."""
    for _ in range(200):
        if holds():
            return True
        time.sleep(0.05)
    return False


def gone(file: Path) -> bool:
    """Whether the process whose number the file holds has ended."""
    try:
        return Path(f"/proc/{file.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def far_side(folder: Path) -> Iterator[Far]:
    """Start sshd; skips the test where it isn't installed."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("sshd is not installed: sudo apt install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd asks for where it is root's
    far = Far(folder)
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = {"folder": folder, "port": port, "user": getpass.getuser()}
    for name, text in (("server", SERVER), ("client", CLIENT), ("command", COMMAND)):
        (folder / name).write_text(text.format(**values))
    (folder / "known_hosts").write_text(f"far {(folder / 'host_key.pub').read_text()}")
    (folder / "cpu").write_text("cortex-a76\n")
    for path, text in ROOT.items():
        far.show(path, text)
    (folder / "bin").mkdir()
    (folder / "cache").mkdir()
    uname = '[ "$1" = -m ] && echo aarch64 || exec /bin/uname "$@"'
    (folder / "bin" / "uname").write_text(f"#!/bin/sh\n{uname}\n")
    for program in ("command", "bin/uname"):
        (folder / program).chmod(0o755)
    _build_binfmt(folder)
    with (folder / "sshd.log").open("wb") as log:
        sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "server"], stderr=log)
        try:
            _wait_for(port, sshd)
            yield far
        finally:
            sshd.terminate()
            sshd.wait()


def _build_binfmt(folder: Path) -> None:
    qemu = shutil.which("qemu-aarch64")
    (folder / "binfmt.c").write_text(f'#define QEMU "{qemu}"\n{BINFMT}')
    machine = loader.load("host-int8")
    toolchain.compile_c(machine, ["binfmt.c"], "binfmt.o", folder)
    toolchain.link_shared(machine, ["binfmt.o"], "binfmt.so", folder)


def _wait_for(port: int, sshd: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert sshd.poll() is None, "sshd ended at once"
        time.sleep(0.05)
    raise AssertionError("sshd doesn't listen")
