"""The page's process, polite from its first import on: the line always goes first."""

import os

_NICENESS = 10

if __name__ == "__main__":
    os.nice(_NICENESS)
    from cada_edge.runtime.page.server import main

    raise SystemExit(main())
