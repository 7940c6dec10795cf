"""`edgec` as if on another operating system: what that lacks is hidden, and what differs behaves as there.

    python tests/other_system.py Windows COMMANDS.json     ->  [[exit code, stdout, stderr], ...] on stdout

It shows that edgec asks for nothing that isn't there. What TVM, ONNX Runtime and the C compiler do there it
can't show.
"""

import contextlib
import ctypes
import importlib
import importlib.abc
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

LIBRARIES = (
    *("numpy", "onnx", "onnxruntime", "onnxscript", "platformdirs", "tempfile", "tvm", "tvm.relax", "typer"),
    *("rich.console", "rich.progress", "rich.status", "rich.table"),
)
"""They look where they are when they are imported: before that is hidden."""
MACHINES = {"Darwin": "arm64", "Windows": "AMD64"}
LINUX = {
    "modules": [],
    "os": ["sched_getaffinity", "sched_setaffinity", "memfd_create", "posix_fadvise", "O_PATH"],
    "signal": ["SIGSTKFLT", "SIGPWR", "SIGRTMIN", "SIGRTMAX"],
}
POSIX = {
    "modules": ["fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"],
    "os": [
        *(
            "fork",
            "forkpty",
            "getuid",
            "geteuid",
            "getgid",
            "getpgid",
            "setsid",
            "killpg",
            "getloadavg",
            "mkfifo",
        ),
        *("uname", "chown", "fchmod", "O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW"),
        *("O_NONBLOCK", "WIFSIGNALED", "WTERMSIG", "pread", "posix_spawn", "sysconf", "sync"),
    ],
    "signal": [
        *("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU"),
        *("SIGXFSZ", "alarm", "pthread_kill", "setitimer", "sigwait"),
    ],
}
"""What Linux alone has of the three, and what it and macOS have."""


class _Hidden(importlib.abc.MetaPathFinder):
    def __init__(self, modules: set[str]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        del path, target
        if name in self._modules:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def become(system: str) -> None:
    """Hide what `system` lacks."""
    platform.system = lambda: system
    platform.machine = lambda: MACHINES[system]
    if system == "Darwin":
        sys.platform = "darwin"
    modules: set[str] = set()
    for lacking in (LINUX, POSIX) if system == "Windows" else (LINUX,):
        modules |= set(lacking["modules"])
        for module, names in ((os, lacking["os"]), (signal, lacking["signal"])):
            for name in names:
                if hasattr(module, name):
                    delattr(module, name)
    if system == "Windows":
        sys.platform = "win32"
    for name in modules:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Hidden(modules))
    _without_library_calls(system)
    _without_kernel_files()
    if system == "Windows":
        _with_windows_calls()


def _without_library_calls(system: str) -> None:
    class Library(ctypes.CDLL):
        def __init__(self, name: str | None, *arguments: object, **options: object) -> None:
            if name is None and system == "Windows":
                raise TypeError("bad argument type for built-in operation")
            super().__init__(name, *arguments, **options)

        def __getattr__(self, name: str) -> object:
            if name == "renameat2":
                raise AttributeError(name)
            return super().__getattr__(name)

    ctypes.CDLL = Library


def _without_kernel_files() -> None:
    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir"):
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
            if path.startswith(("/proc/", "/sys/")):
                raise FileNotFoundError(2, "no such file", path)

    sys.addaudithook(watch)


def _with_windows_calls() -> None:
    rename, write_text, kill = os.rename, Path.write_text, os.kill

    def onto_nothing(source: str, target: str) -> None:
        if os.path.lexists(target):
            raise FileExistsError(183, "Cannot create a file when that file already exists", str(target))
        rename(source, target)

    def told_newlines(
        path: Path, data: str, encoding: object = None, errors: object = None, newline: object = None
    ) -> int:
        assert encoding is not None, f"{path}: in what encoding?"
        assert newline == "\n", f"{path}: lines would end with two characters"
        return write_text(path, data, encoding, errors, newline)

    def ending(number: int, _signal: int) -> None:
        raise AssertionError(f"process {number} would be ended")

    os.rename, os.kill, Path.write_text = onto_nothing, ending, told_newlines
    subprocess.Popen.kill = lambda process: process.poll() is None and kill(process.pid, 9)
    shutil._use_fd_functions = False


def run(arguments: list[str]) -> tuple[object, str, str]:
    """Return exit code, stdout and stderr of an `edgec` command."""
    from edgec.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["edgec", *arguments]
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    warnings.filterwarnings("error", category=EncodingWarning, module="edgec")
    become(sys.argv[1])
    commands = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    print(json.dumps([run(command) for command in commands]))
