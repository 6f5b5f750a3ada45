"""Entry point of the ``cada-edge`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the ``runtime`` extra, say how to get it."""
    try:
        from cada_edge.cli.app import run  # noqa: PLC0415  # typer is an optional dependency
    except KeyboardInterrupt:  # before anything of ours has begun
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("cada_edge"):
            raise
        sys.exit(f"error: the command line needs {error.name!r}; install it with: pip install 'cada-edge[runtime]'")
    run()


if __name__ == "__main__":
    main()
