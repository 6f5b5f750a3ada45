"""Games of ``cada-edge plc-sim`` against a station that answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from plc_kit import Place
from typer.testing import CliRunner

from cada_edge.cli.app import build
from cada_edge.runtime.registers import ResultFlag


@contextmanager
def answering(
    station: Place, after_s: float = 0.0, most: int = 1 << 30, results: Sequence[ResultFlag] = (ResultFlag.PASS,)
) -> Iterator[None]:
    """Every trigger, or the first `most`, gets the next of these results, so much later."""
    over, told = threading.Event(), cycle(results)

    def answer() -> None:
        done = 0
        while not over.is_set():
            if done < min(len(station.asked), most):
                time.sleep(after_s)
                station.answer(station.asked[done].part, next(told))
                done += 1
            time.sleep(0.001)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def play(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and facts of a game of twenty parts."""
    command = ["plc-sim", "--cycles", "20", "--deadline-ms", "5000", "--json", *arguments]
    done = CliRunner().invoke(build("plc-sim"), command)
    assert done.stdout, (done.output, done.exception)
    return done.exit_code, json.loads(done.stdout)
