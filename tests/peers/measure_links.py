"""Measures every writer link against its PLC on loopback: ``python tests/peers/measure_links.py [KIND ...]``.

Writes 500 blocks after 50 that warm up and prints a row of a table per kind: p50 and p99 of one write, and how
long a supervised link takes to show the present block after the PLC was frozen for 2 s and after it was killed
and started again, from the moment at which the PLC can be reached.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kits"))

import numpy as np
import pytest
from link_kit import Plc, pattern
from link_plcs import PLCS

from cada_edge.runtime.links.assembly import make_link
from cada_edge.runtime.links.link import Link
from cada_edge.runtime.links.supervisor import LinkState, LinkSupervisor

_WARM_UP, _WRITES, _FROZEN_S = 50, 500, 2.0
_HEAD = "| PLC | write p50 ms | write p99 ms | after 2 s frozen, s | after kill and restart, s |\n|---|---|---|---|---|"


def main(kinds: list[str]) -> None:
    """Print the table."""
    sys.stdout.write(_HEAD + "\n")
    for param in PLCS:
        if kinds and param.id not in kinds:
            continue
        with ExitStack() as stack:
            try:
                plc: Plc = param.values[0](stack)  # type: ignore[operator]  # each makes a PLC
            except pytest.skip.Exception as reason:
                sys.stdout.write(f"| {param.id} | not measured: {reason} | | | |\n")
                continue
            stack.callback(plc.kill)
            plc.start()
            sys.stdout.write(f"| {param.id} | {_row(plc)} |\n")
            sys.stdout.flush()


def _row(plc: Plc) -> str:
    link = make_link(plc.config)
    link.open()
    p50, p99 = np.percentile(_writes_ms(link), [50, 99])
    link.close()
    return f"{p50:.2f} | {p99:.2f} | {_recovery_s(plc, kill=False):.2f} | {_recovery_s(plc, kill=True):.2f}"


def _writes_ms(link: Link) -> list[float]:
    taken: list[float] = []
    for seq in range(1, _WARM_UP + _WRITES + 1):
        words, start_ns = pattern(seq), time.perf_counter_ns()
        link.write_status(words)
        taken.append((time.perf_counter_ns() - start_ns) / 1e6)
    return taken[_WARM_UP:]


def _recovery_s(plc: Plc, kill: bool) -> float:
    supervisor = LinkSupervisor(make_link(plc.config), plc.config.kind, lambda _words: None)
    supervisor.show(pattern(1), 1, None)
    supervisor.start()
    _until(lambda: supervisor.health.state is LinkState.UP)
    (plc.kill if kill else plc.freeze)()
    supervisor.show(pattern(2), 2, None)
    _until(lambda: supervisor.health.state is LinkState.DOWN)
    time.sleep(_FROZEN_S)
    (plc.start if kill else plc.thaw)()
    start_s = time.monotonic()
    _until(lambda: supervisor.health.state is LinkState.UP)
    taken_s = time.monotonic() - start_s
    supervisor.close()
    return taken_s


def _until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s, "not within 30 s"
        time.sleep(0.002)


if __name__ == "__main__":
    main(sys.argv[1:])
