"""`edgec`, and `python -m edgec`."""

from typing import NoReturn

from edgec.errors import reported


def main() -> NoReturn:
    """Run the command line; importing it takes a moment, in which a signal may come already."""
    with reported():
        from edgec import cli

        cli.main()


if __name__ == "__main__":
    main()
