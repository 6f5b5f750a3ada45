"""What a line counted and what went wrong with it."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cada_edge.runtime.judge import Judgement

_LATENCIES_KEPT = 10_000
_KINDS_KEPT = 500  # messages hold numbers and names: a line that runs for months must not keep every one
_OTHERS = "other problems"
# A number that stands alone is a count, a size or a frame's; one in a name, an address or a code says what it was.
_NUMBER = re.compile(r"(?<![\w.:/#-])(?<!HTTP )(?<!Errno )(?<!code )\d+(?:\.\d+)?(?![\w:/-])")


@dataclass(frozen=True)
class LineSummary:
    """One run of a line.

    Attributes:
        frames: verdicts given: one per frame.
        ok: of these passed.
        ng: of these rejected by their score.
        undecided: of these rejected for want of a decision.
        late: of these undecided because of the deadline.
        drops: frames the sources lost.
        seconds: from going online to stopping.
        latency_p50_ms: median of capture to verdict over the last 10,000 frames.
        latency_p99_ms: 99th percentile of the same.
        stopped_by: ``end``, ``max_frames``, ``SIGINT``, ``SIGTERM`` or ``stop``.
        problems: what went wrong, each kind once, with how often.
        source_errors: of these, sources that broke.
    """

    frames: int
    ok: int
    ng: int
    undecided: int
    late: int
    drops: int
    seconds: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    stopped_by: str
    problems: tuple[str, ...] = ()
    source_errors: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


class Tally:
    """Counts judgements. For one thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES_KEPT)

    @property
    def frames(self) -> int:
        """Verdicts so far."""
        return self._counts["frames"]

    def add(self, judgement: Judgement) -> None:
        """Count one."""
        verdict, frame = judgement.verdict, judgement.frame
        self._counts.update(("frames", verdict.status))
        self._counts["late"] += frame.status == "late"
        self._counts["drops"] += frame.drops
        self._latencies_ms.append((verdict.t_decided_ns - frame.t_capture_ns) / 1e6)

    def summary(self, seconds: float, stopped_by: str, problems: Problems) -> LineSummary:
        """The counts so far."""
        latencies = np.percentile(self._latencies_ms, (50, 99)) if self._latencies_ms else (None, None)
        p50, p99 = (None if value is None else round(float(value), 3) for value in latencies)
        counts = self._counts
        return LineSummary(
            frames=counts["frames"],
            ok=counts["ok"],
            ng=counts["ng"],
            undecided=counts["undecided"],
            late=counts["late"],
            drops=counts["drops"],
            seconds=round(seconds, 3),
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            stopped_by=stopped_by,
            problems=problems.lines(),
            source_errors=problems.lines("source"),
        )


class Problems:
    """Faults that did not stop the line: counted by kind, and told at the 1st, 10th, 100th time.

    Messages that differ in a number alone, such as how many records wait, are of one kind.

    Args:
        tell: called with the component (``source cam1``), the message and its count; what it raises is dropped.
    """

    def __init__(self, tell: Callable[[str, str, int], None]) -> None:
        self._tell, self._lock = tell, threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._newest: dict[tuple[str, str], str] = {}

    def note(self, component: str, error: Exception) -> None:
        """Record one fault. Safe from any thread. Kinds beyond the first 500 are told, and counted together."""
        message = str(error) or type(error).__name__
        kind = component, _NUMBER.sub("#", message)
        with self._lock:
            new = kind not in self._counts
            kept = (component, _OTHERS) if new and len(self._counts) >= _KINDS_KEPT else kind
            self._counts[kept] += 1
            self._newest[kept] = _OTHERS if kept != kind else message
            count = 1 if new else self._counts[kept]
        if str(count).strip("0") == "1":
            # The fault is counted and in the summary: that nobody can be told must not become the next fault.
            with contextlib.suppress(Exception):
                self._tell(component, message, count)

    def lines(self, prefix: str = "") -> tuple[str, ...]:
        """Each kind once, in order of appearance, in its newest words; only components that start with `prefix`."""
        with self._lock:
            counts = [(c, self._newest[c, k], n) for (c, k), n in self._counts.items() if c.startswith(prefix)]
        return tuple(f"{c}: {m}" + (f" ({n} times)" if n > 1 else "") for c, m, n in counts)
