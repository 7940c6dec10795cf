"""Write a folder aside and put it in place at once, so that no half of it is ever seen."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.errors import BundleError


@contextmanager
def aside(output: Path) -> Iterator[Path]:
    """Give a folder that takes the place of `output` if the block succeeds and vanishes if it doesn't.

    A killed process leaves `.OUTPUT.partial-PID` beside `output`; the next call for that output removes it.
    Raises BundleError where the folder can't be made.
    """
    mark = f".{output.name}.partial-"
    work = output.parent / f"{mark}{os.getpid()}"
    folder = work / "new"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for left in output.parent.iterdir():
            if left.name.startswith(mark) and not _alive(left.name.removeprefix(mark)):
                shutil.rmtree(left)
        folder.mkdir(parents=True)
    except OSError as error:
        raise BundleError(f"{output} can't be written: {error}") from None
    try:
        yield folder
        _replace(output, folder, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(output: Path, new: Path, old: Path) -> None:
    """Move what is there away first, and back if need be: a folder can't be renamed onto another."""
    if output.exists():
        output.rename(old)
    try:
        new.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise


def _alive(process: str) -> bool:
    """Whether the build that made a partial bundle still runs."""
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
