"""The cache keeps what was used last, within its limit, whatever other builds do to it at the same time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgec import cache

ENTRY_BYTES = 10_000
"""Three blocks of 4 KiB with its hash."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edgec"


def put(path: Path, used: int, size: int = ENTRY_BYTES) -> Path:
    """An entry that was used so many seconds after 1970."""
    cache.write(path, bytes(size))
    os.utime(path, (used, used))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_below_the_limit_nothing_is_removed(folder: Path) -> None:
    for number in range(8):
        put(folder / "objects" / f"{number}.o", number)
    cache.trim(8 * 3 * 4096)
    assert len(names(folder)) == 8


def test_what_was_used_longest_ago_is_removed_until_a_quarter_is_free(folder: Path) -> None:
    for number in range(8):
        put(folder / ("nodes" if number % 2 else "objects") / f"{number}.o", number)
    assert cache.read(folder / "objects" / "0.o") == bytes(ENTRY_BYTES)  # and is now used last
    cache.trim(8 * 3 * 4096 - 1)
    assert names(folder) == {"0.o", "3.o", "4.o", "5.o", "6.o", "7.o"} - {"3.o"}


def test_verdicts_count_as_the_blocks_that_they_take(folder: Path) -> None:
    for number in range(8):
        put(folder / "nodes" / str(number), number, 0)
    cache.trim(4 * 4096)
    assert names(folder) == {"5", "6", "7"}


def test_what_is_no_entry_stays(folder: Path) -> None:
    plugin = put(folder / "qemu-counter-0.so", 0)
    library = put(folder / "zig" / "o" / "libc.a", 0)
    entry = put(folder / "objects" / "0.o", 1)
    cache.trim(0)
    assert (plugin.is_file(), library.is_file(), entry.is_file()) == (True, True, False)


def test_a_cache_that_is_not_there_is_small_enough(folder: Path) -> None:
    cache.trim(0)
    assert not folder.exists()


WORK = """
import sys
from edgec import cache
for round in range(40):
    for number in range(10):
        path = cache.folder() / "objects" / f"{number}.o"
        content = bytes([number]) * 5000
        found = cache.read(path)
        assert found in (None, content), (len(found), number)
        if found is None:
            cache.write(path, content)
    cache.trim(5 * 8192)
"""


def test_builds_at_the_same_time_read_whole_entries_or_none(folder: Path) -> None:
    command = [sys.executable, "-c", WORK]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert ([process.returncode for process in processes], said) == ([0] * 3, [""] * 3)
    cache.trim(5 * 8192)
    assert 1 <= len(names(folder)) <= 5
    assert all(name.endswith(".o") for name in names(folder)), "and leave no litter"
