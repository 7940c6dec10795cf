"""The C compiler's own cache: parts of the C library for every target, some 20 MiB each."""

import atexit
import functools
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from edgec import cache

LIMIT = cache.LIMIT
"""Bytes of it: all targets in the versions of some compilers."""
_WANTED = 64 << 20
"""Free bytes without which it is of no use: what one target may take."""
_USED = "used"
"""A file in it whose date is that of the last call."""


@functools.cache
def folder(users: Path, call_seconds: float) -> Path:
    """Return the user's cache; where that can't be written, a folder for this process alone.

    That costs the time to compile parts of the C library again, and not the build. It is tried here, as the
    compiler itself would try for ever in /proc. One that has grown beyond the limit begins anew: its entries
    need each other, and no call may take longer than `call_seconds`, so that none is reading them when the
    last one began before that.
    """
    inner = (users / name for name in ("h", "o", "tmp", "z"))
    try:
        _begin_anew(users, call_seconds)
        users.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=users):
            pass
        writable = all(os.access(folder, os.W_OK | os.X_OK) for folder in inner if folder.exists())
        if writable and shutil.disk_usage(users).free >= _WANTED:
            return users
    except OSError:
        pass
    own = tempfile.mkdtemp(prefix="edgec-cache-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return Path(own)


def use(users: Path) -> None:
    """Note that a call begins."""
    with suppress(OSError):
        (users / _USED).touch()


def _begin_anew(users: Path, call_seconds: float) -> None:
    """Remove a cache that is too large and that nobody uses; the next call makes a new one."""
    with suppress(FileNotFoundError):
        if time.time() - (users / _USED).stat().st_mtime <= call_seconds or _size(users) <= LIMIT:
            return
        aside = Path(tempfile.mkdtemp(prefix="old-", dir=users.parent))
        users.rename(aside / users.name)  # at once: nobody finds a half of it
        shutil.rmtree(aside, ignore_errors=True)


def _size(tree: Path) -> int:
    total = 0
    for path in tree.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
