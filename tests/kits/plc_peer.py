"""A PLC to write into, as a program of its own: ``python plc_peer.py KIND PLACE``, lines of JSON in and out.

In: ``"status"``, ``"watch"``, ``"watched"`` or the 16 words of a control block. Out: first ``"ready"``, then one
answer per line. A process of its own can be frozen and killed as a PLC is switched off.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

HEAD, TAIL = 3, 31
_COUNTERS = (5, 17, 19, 21, 23)  # low words that `link_kit.pattern` sets to the sequence number


class Memory(Protocol):
    """The memory of a PLC that is being served; made with the place to serve it at."""

    def status(self) -> Sequence[int]:
        """The 32 words as they are at this moment."""

    def control(self, words: Sequence[int]) -> None:
        """The PLC's program sets its 16 words."""


# kind -> module beside this one, whose `Memory` serves it
KINDS = {
    "modbus-tcp": "modbus_peer",
    "modbus-rtu": "modbus_peer",
    "s7": "s7_peer",
    "opcua": "opcua_peer",
    "logix": "logix_peer",
    "ads": "ads_peer",
}


class Watch:
    """Reads the memory without a pause, as a PLC's program does, and looks for halves of two blocks."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._on = memory, True
        self._samples, self._seen, self._unseen, self._numbers = 0, 0, 0, set[int]()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, object]:
        """Samples taken; of these torn with head and tail unlike, torn with both alike; sequence numbers seen."""
        self._on = False
        self._thread.join()
        return {
            "samples": self._samples,
            "torn": self._seen,
            "unseen": self._unseen,
            "numbers": sorted(self._numbers),
        }

    def _run(self) -> None:
        while self._on:
            words = self._memory.status()
            self._samples += 1
            self._numbers.add(words[HEAD])
            if words[HEAD] != words[TAIL]:
                self._seen += 1
            elif any(words[at] != words[HEAD] for at in _COUNTERS):
                self._unseen += 1


def serve(memory: Memory) -> None:
    """Answer until the pipe is closed."""
    watch: Watch | None = None
    _say("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        if asked == "status":
            _say(list(memory.status()))
        elif asked == "watch":
            watch = Watch(memory)
            _say("watching")
        elif asked == "watched" and watch is not None:
            _say(watch.stop())
        else:
            memory.control(asked)
            _say("set")


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _kind, _place = sys.argv[1:]
    serve(import_module(KINDS[_kind]).Memory(_kind, _place))
