"""Dials side by side, each within its time: one that hangs is left behind and told of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cada_edge.errors import CadaEdgeError
from cada_edge.runtime.check.finding import Finding, failed


@dataclass(frozen=True)
class Dial:
    """One thing to try.

    Attributes:
        area: as of a `Finding`.
        what: as of a `Finding`.
        limit_s: after which it counts as hanging, > 0.
        look: tries it; may block for good, and may raise anything.
    """

    area: str
    what: str
    limit_s: float
    look: Callable[[], Finding]


class _Attempt:
    """A dial in a thread of its own, which nothing waits for longer than its time."""

    def __init__(self, dial: Dial) -> None:
        self._dial, self._begun_s = dial, time.monotonic()
        self._finding: Finding | None = None
        self._thread = threading.Thread(target=self._run, name=f"cada-edge-check-{dial.what}", daemon=True)
        self._thread.start()

    def result(self) -> Finding:
        dial = self._dial
        self._thread.join(max(0.0, self._begun_s + dial.limit_s - time.monotonic()))
        if (finding := self._finding) is not None:
            return finding
        return Finding(
            dial.area,
            dial.what,
            "fail",
            f"no answer within {dial.limit_s:g} s: it hangs",
            "look at the device and its cable or network, or allow more with --timeout-s",
            dial.limit_s,
        )

    def _run(self) -> None:
        dial = self._dial
        try:
            finding = dial.look()
        except CadaEdgeError as error:
            finding = failed(dial.area, dial.what, error)
        except Exception as error:  # noqa: BLE001  # a driver may raise anything; the other dials go on
            finding = failed(dial.area, dial.what, RuntimeError(f"{type(error).__name__}: {error}"))
        self._finding = replace(finding, seconds=round(time.monotonic() - self._begun_s, 3))


def dial_all(dials: Sequence[Dial]) -> list[Finding]:
    """Try them all at once; a finding for each, in their order, whatever happens. Never raises for a dial."""
    attempts = [_Attempt(dial) for dial in dials]
    return [attempt.result() for attempt in attempts]


def dial_in_turn(dials: Sequence[Dial]) -> list[Finding]:
    """The same, one after the other: for what would slow each other down."""
    return [_Attempt(dial).result() for dial in dials]
