"""The C compiler's cache begins anew when it is too large, and only where nobody can be reading it."""

import os
import time
from pathlib import Path

import pytest

from edgec.compiler.native import c_cache

HOUR = 3600.0


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(c_cache, "LIMIT", 10_000)
    c_cache.folder.cache_clear()
    users = tmp_path / "edgec" / "zig"
    (users / "o").mkdir(parents=True)
    (users / "o" / "libc.a").write_bytes(bytes(20_000))
    return users


def used(users: Path, seconds_ago: float) -> None:
    c_cache.use(users)
    then = time.time() - seconds_ago
    os.utime(users / "used", (then, then))


def test_what_has_grown_too_large_is_removed_at_rest(users: Path) -> None:
    used(users, 2 * HOUR)
    assert c_cache.folder(users, HOUR) == users
    assert list(users.iterdir()) == []
    assert list(users.parent.iterdir()) == [users]


@pytest.mark.parametrize("seconds_ago", [0, HOUR / 2])
def test_nothing_is_taken_from_a_call_that_may_still_run(users: Path, seconds_ago: float) -> None:
    used(users, seconds_ago)
    assert c_cache.folder(users, HOUR) == users
    assert (users / "o" / "libc.a").is_file()


def test_what_is_small_enough_stays(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_cache, "LIMIT", 30_000)
    used(users, 2 * HOUR)
    assert c_cache.folder(users, HOUR) == users
    assert (users / "o" / "libc.a").is_file()


def test_one_that_nobody_dated_stays(users: Path) -> None:
    assert c_cache.folder(users, HOUR) == users
    assert (users / "o" / "libc.a").is_file()
