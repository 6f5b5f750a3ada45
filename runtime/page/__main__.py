"""The page's process, polite from its first import on: the line always goes first, and it goes last."""

import os
import signal

_NICENESS = 10

if __name__ == "__main__":
    os.nice(_NICENESS)
    for one in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group they reach the pipeline, which closes the pipe
        signal.signal(one, signal.SIG_IGN)
    from cada_edge.runtime.page.server import main

    raise SystemExit(main())
