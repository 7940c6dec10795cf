"""Files of the user's, read and written so that none can hang, flood or half-write anything.

Only regular files are read, never a pipe or a device, and never more than a stated size. What is written is
written aside, in the same folder, and put in place at once.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edgec.errors import EdgecError, OutputError

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link that leads nowhere",
}

_OPENING = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"))
"""How files are opened, of what the system has: as bytes, for no child and no terminal, and without waiting
for the other end of a pipe, which the file may have become."""


@contextmanager
def opened(path: Path, error: type[EdgecError], limit: int) -> Iterator[BinaryIO]:
    """Open a regular file of at most `limit` bytes to read; raises `error`, also where reading it fails."""
    try:
        _check_kind(path, Path(path).stat().st_mode, error)
    except OSError as problem:
        raise _unreadable(path, error, problem) from problem
    except ValueError as problem:  # NUL, or what the file system's encoding lacks
        raise error(f"{path}: can't be read: no name of a file") from problem
    try:
        descriptor = os.open(path, os.O_RDONLY | _OPENING)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_kind(path, status.st_mode, error)
            if status.st_size > limit:
                raise error(f"{path}: {_size(status.st_size)}, and edgec reads {_size(limit)} at most")
            yield file
    except OSError as problem:
        raise _unreadable(path, error, problem) from problem


def read(path: Path, error: type[EdgecError], limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; raises `error`."""
    with opened(path, error, limit) as file:
        content = file.read(limit + 1)
    if len(content) > limit:  # it grew, or is one of the kernel's, whose size says nothing
        raise error(f"{path}: edgec reads {_size(limit)} at most")
    return content


def read_text(path: Path, error: type[EdgecError], limit: int) -> str:
    """Return the text of a regular file in UTF-8; raises `error`."""
    try:
        return read(path, error, limit).decode()
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not text in UTF-8 (byte {problem.start})") from problem


def write(path: Path, content: bytes, error: type[EdgecError] = OutputError) -> None:
    """Write a file, all of it or nothing, in place of a file that is there; raises `error`.

    A link stays, and what it leads to is replaced.
    """
    target = _target(path, error)
    aside = target.with_name(f".edgec-{os.urandom(8).hex()}.partial")
    try:
        try:
            aside.write_bytes(content)
            aside.replace(target)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise
    except OSError as problem:
        raise error(f"{path}: can't be written: {problem.strerror or problem}") from problem


def check_writable(path: Path, error: type[EdgecError] = OutputError) -> None:
    """Raise `error` where `write` would: before the work, whose result would be lost."""
    folder = _target(path, error).parent
    if not folder.is_dir():
        raise error(f"{path}: can't be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise error(f"{path}: can't be written: no permission, or a read-only file system")


def _target(path: Path, error: type[EdgecError]) -> Path:
    """Return where links lead; raises `error` for what isn't a file, for no device may be replaced by one."""
    try:
        target = Path(os.path.realpath(path))
        with suppress(FileNotFoundError):
            _check_kind(path, target.lstat().st_mode, error)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "no name of a file"
        raise error(f"{path}: can't be written: {reason}") from problem
    return target


def _check_kind(path: Path, mode: int, error: type[EdgecError]) -> None:
    if not stat.S_ISREG(mode):
        raise error(f"{path}: not a file but {_KINDS.get(stat.S_IFMT(mode), 'something else')}")


def _unreadable(path: Path, error: type[EdgecError], problem: OSError) -> EdgecError:
    if isinstance(problem, FileNotFoundError):
        return error(f"{path}: no such file")
    return error(f"{path}: can't be read: {problem.strerror or problem}")


def _size(count: int) -> str:
    for unit, name in ((GIBIBYTE, "GiB"), (MEBIBYTE, "MiB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
