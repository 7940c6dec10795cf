"""What this user's builds keep for the next: compiled kernels, verdicts on nodes, QEMU's plugin.

An entry is a file with its own hash at its end: what is damaged is none. Several builds may read, write and
remove entries at once; each is written aside and put in place, and one that vanishes is made again.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import platformdirs

from edgec import files
from edgec.errors import OutputError

LIMIT = files.GIBIBYTE
"""Bytes of all entries: the kernels of some hundred models."""
_KEPT = 0.75
"""Share of the limit that is left once it was exceeded: else every build would have to look for what to
remove."""
_BLOCK = 4096
"""Bytes that a file takes at least: a verdict has 32."""
_HASH_BYTES = hashlib.sha256().digest_size
_LARGEST = 256 * files.MEBIBYTE
"""Bytes of an entry: a thousand times the largest kernel."""
_TRIMMED = ("objects", "nodes")
"""Folders of entries; what else lies in the cache is small, or another program's."""


def folder() -> Path:
    """Return where this user's cache lies."""
    return platformdirs.user_cache_path("edgec")


def read(path: Path) -> bytes | None:
    """Return what was written to `path`, now the entry used last, or None where that isn't there any more."""
    try:
        data = files.read(path, OutputError, _LARGEST)
    except OutputError:
        return None
    content, digest = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    with suppress(OSError):
        os.utime(path)
    return content


def write(path: Path, content: bytes) -> None:
    """Write an entry.

    A cache that can't be written (a full disk, a read-only home) costs time, not the build.
    """
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content + hashlib.sha256(content).digest())


def trim(limit: int = LIMIT) -> None:
    """Remove the entries that were used longest ago, where all of them take more than `limit` bytes."""
    entries = []
    for name in _TRIMMED:
        with suppress(OSError):
            for entry in os.scandir(folder() / name):
                with suppress(OSError):  # another build has removed it
                    status = entry.stat(follow_symlinks=False)
                    entries.append((status.st_mtime_ns, -(-status.st_size // _BLOCK) * _BLOCK, entry.path))
    total = sum(size for _, size, _ in entries)
    if total <= limit:
        return
    for _, size, path in sorted(entries):
        if total <= limit * _KEPT:
            return
        with suppress(OSError):
            Path(path).unlink()
        total -= size
