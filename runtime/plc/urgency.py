"""A core at once for the PLC process, also while a pipeline uses every core there is."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

NICENESS = -10


def take(priority: int) -> str:
    """Have this thread, and those it starts, run before ordinary ones, as far as the system allows it.

    A PLC that polls costs a fraction of a millisecond each time, and between two polls the process sleeps. Clients
    that ask without pause keep it busy, though, and then it takes a core from the pipeline: a flood slows judging more
    than with priority 0, which shares the cores fairly. The kernel leaves 5 % of the time to ordinary threads.

    Args:
        priority: of SCHED_FIFO, 1 to 99; 0: stay ordinary.

    Returns:
        What it got: ``SCHED_FIFO 10``, else ``niceness -10``, else nothing.
    """
    if not priority:
        return ""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        return f"SCHED_FIFO {priority}"
    with suppress(OSError):  # where the kernel gives control groups no real time, as some of NVIDIA's do
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        return f"niceness {NICENESS}"
    return ""


def probe(priority: int) -> str:
    """What `take` would get; changes nothing."""
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(take(priority)))
    thread.start()
    thread.join()
    return got[0]
