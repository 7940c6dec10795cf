"""Mistakes a user can make. Each prints as one line that says what, where and what to do; exit code 2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class EdgecError(Exception):
    """Base of every error that is the user's to mend; anything else is a bug in edgec."""


class ModelError(EdgecError):
    """The model file can't be read, or its shapes aren't known."""


class TargetError(EdgecError):
    """No such target, or a descriptor that doesn't make sense."""


class CalibrationError(EdgecError):
    """Calibration data don't fit the model's inputs."""


class UnsupportedError(EdgecError):
    """Nodes that can't be compiled; the message lists every one with its operator and the reason."""


class ToolchainError(EdgecError):
    """A compiler, linker or archiver is missing or failed."""


class LimitError(EdgecError):
    """A model needs more flash or RAM than the build was allowed."""


class DeviceError(EdgecError):
    """A device or emulator is missing, unreachable, or refused to run the bundle."""


class BundleError(EdgecError):
    """A bundle is missing, incomplete or was changed after it was built."""


class DataError(EdgecError):
    """Arrays given to a bundle don't fit its inputs."""


class TuningError(EdgecError):
    """A budget or a file of tuning records doesn't make sense, or can't be written."""


class PackageError(EdgecError):
    """A Python package of one of edgec's extras isn't installed."""


@contextmanager
def reported() -> Iterator[None]:
    """Within it, a user's mistake is one line on stderr and exit code 2, Ctrl-C exit code 130."""
    try:
        yield
    except EdgecError as error:
        print(f"edgec: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
