"""``cada-edge run`` with a runner and a wall clock that a test can break: ``campaign_entry.py SWITCH ARGUMENTS``.

The file SWITCH holds 16 bytes: what the runner does, then what the wall clock is off by, in
seconds. Nothing of this is in the product: it is put into its modules from here.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

SWITCH = struct.Struct(">qq")
WORKS, HANGS, RAISES, CRAWLS, NANS = range(5)
PLAIN = 6  # grey levels that a part's picture spans at most


def set_switch(path: Path, runner: int = WORKS, wall_off_s: int = 0) -> None:
    """Tell a running line."""
    path.write_bytes(SWITCH.pack(runner, wall_off_s))


def read_switch(path: Path) -> tuple[int, int]:
    """What is told now; all well while it is being written."""
    data = path.read_bytes()
    return SWITCH.unpack(data) if len(data) == SWITCH.size else (WORKS, 0)


def step_clocks(path: Path) -> None:
    """Put the wall clock where the switch says; the monotonic one stays."""
    wall_s: Callable[[], float] = time.time
    wall_ns: Callable[[], int] = time.time_ns
    time.time = lambda: wall_s() + read_switch(path)[1]
    time.time_ns = lambda: wall_ns() + read_switch(path)[1] * 10**9


def break_runner(path: Path) -> None:
    """Have ONNX Runtime's runner do what the switch says.

    Parts are plain, and the tiny model looks only at their brightest cell: what is not plain is given
    the worst score, as by any model that has seen its parts.
    """
    import numpy as np

    from cada_edge.runtime.runners.ort import OrtRunner
    from cada_edge.types import Prediction, UInt8Array

    infer = OrtRunner.infer

    def broken(self: OrtRunner, batch: UInt8Array) -> Prediction:
        found = infer(self, batch)
        strange = np.ptp(batch.reshape(len(batch), -1), axis=1) > PLAIN
        found = replace(found, score=np.where(strange, np.float32(1), found.score))
        while read_switch(path)[0] == HANGS:
            time.sleep(0.01)
        wrong = read_switch(path)[0]
        if wrong == RAISES:
            raise RuntimeError("the device is lost")
        if wrong == CRAWLS:
            time.sleep(0.7)
        if wrong == NANS:
            return replace(found, score=found.score * np.float32("nan"))
        return found

    OrtRunner.infer = broken  # type: ignore[method-assign, assignment]  # that is the point


if __name__ == "__main__":
    switch = Path(sys.argv[1])
    step_clocks(switch)
    break_runner(switch)
    from cada_edge.__main__ import main

    sys.argv = ["cada-edge", *sys.argv[2:]]
    main()
