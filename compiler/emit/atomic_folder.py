"""Write a folder aside and put it in place at once, so that no half of it is ever seen."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgec import processes
from edgec.errors import BundleError

_HERE = -100
"""AT_FDCWD of fcntl.h: paths start from the current folder."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of linux/fs.h: two names change places at once."""
_NAME_BYTES = 100
"""How much of the output's name is in that of the folder aside, which must stay under a file system's 255."""


@contextmanager
def aside(output: Path) -> Iterator[Path]:
    """Give a folder that takes the place of `output` if the block succeeds and vanishes if it doesn't.

    At every moment `output` is what it was or what it will be. A killed process leaves
    `.OUTPUT.partial-PID` beside it; the next call for that output removes it. Raises BundleError where the
    folder can't be written, for what the block couldn't write too.
    """
    output = Path(os.path.realpath(output)) if output.is_symlink() else output
    with _work(output) as work:
        folder = work / "new"
        folder.mkdir()
        yield folder
        _replace(output, folder, work / "old")


def check_writable(output: Path) -> None:
    """Raise BundleError where `aside` would: before the work, whose result would be lost."""
    with _work(output):
        pass


@contextmanager
def _work(output: Path) -> Iterator[Path]:
    """Give a hidden folder beside `output`; it is gone afterwards, and so are folders made for it in vain."""
    mark = f".{os.fsdecode(os.fsencode(output.name)[:_NAME_BYTES])}.partial-"
    work = output.parent / f"{mark}{os.getpid()}"
    try:
        made = [folder for folder in output.parents if not folder.exists()]
        try:
            work.mkdir(parents=True)
            for left in output.parent.iterdir():
                if left.name.startswith(mark) and _dead(left.name.removeprefix(mark)):
                    shutil.rmtree(left)
            output.is_dir()  # raises where the name is too long
            yield work
        finally:
            _remove(work)
            with suppress(OSError):  # not empty, where all went well
                for folder in made:
                    folder.rmdir()
    except OSError as error:
        raise BundleError(f"{output} can't be written: {error.strerror or error}") from error


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:  # a signal, once: what follows within seconds is ignored
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _replace(output: Path, new: Path, old: Path) -> None:
    """Put `new` in the place of `output`, in one step where the system can exchange two folders."""
    if not output.exists():
        new.rename(output)
    elif not _exchange(new, output):
        output.rename(old)
        try:
            new.rename(output)
        except BaseException:
            old.rename(output)
            raise


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places; False where the system or the file system doesn't know how."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    paths = os.fsencode(first), os.fsencode(second)
    return bool(rename(_HERE, paths[0], _HERE, paths[1], _EXCHANGE) == 0)


def _dead(process: str) -> bool:
    """Whether the build that made a partial bundle is gone; what no build made is left alone."""
    return process.isdecimal() and not processes.alive(int(process))
