"""`edgec`, and `python -m edgec`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until `reported` listens, Ctrl-C ends the process without a word, and not with Python's traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from typing import NoReturn

from edgec.errors import reported


def main() -> NoReturn:
    """Run the command line; importing it takes a moment, in which a signal may come already."""
    with reported():
        from edgec import cli

        cli.main()


if __name__ == "__main__":
    main()
