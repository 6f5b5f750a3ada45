"""Entry point of the ``cada-edge`` command."""

from __future__ import annotations

import sys

from cada_edge.interrupts import forget_put_off, is_interrupt, note_interrupts


def main() -> None:
    """Run the command line; without the ``runtime`` extra, say how to get it."""
    note_interrupts()
    try:
        _run()
    except BaseException as error:
        if isinstance(error, SystemExit) or not is_interrupt(error):
            raise
        forget_put_off()
        sys.stderr.write("interrupted\n")  # before the command line could say so
        sys.exit(130)


def _run() -> None:
    try:
        from cada_edge.cli.app import run  # noqa: PLC0415  # typer is an optional dependency
    except ModuleNotFoundError as error:
        if is_interrupt(error) or (error.name and error.name.startswith("cada_edge")):
            raise
        sys.exit(f"error: the command line needs {error.name!r}; install it with: pip install 'cada-edge[runtime]'")
    run()


if __name__ == "__main__":
    main()
