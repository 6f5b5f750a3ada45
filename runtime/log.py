"""One JSON object a line on standard error: what the line has to tell people and collectors."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from cada_edge.runtime.changes import Change
    from cada_edge.runtime.model import Model

_WINDOW_S = 60.0


def make_logger(stream: TextIO | None = None) -> Any:
    """A structlog logger writing JSON lines to `stream`, standard error by default.

    Standard output is left to results that a script reads. There is no log file: under
    systemd the journal takes standard error, keeps it within its limits and rotates it.
    """
    return structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str),
        ],
    )


def log_reload(before: Model, after: Model, stream: TextIO | None = None) -> None:
    """Log one change of the model: what judged until now, and what judges from now on."""
    old, new = _named(before), _named(after)
    pairs = {f"{name}_{when}": facts[name] for name in old for when, facts in (("before", old), ("after", new))}
    make_logger(stream).info("reload", **pairs)


def _named(model: Model) -> dict[str, object]:
    """File, digest, what the PLC sees of it, and the threshold."""
    bundle = model.bundle
    threshold = bundle.manifest.threshold if bundle else None
    return {
        "bundle": model.name,
        "sha256": bundle.sha256 if bundle else None,
        "checksum": model.checksum,
        "recipe": model.recipe,
        "threshold": threshold.value if threshold else None,
    }


class ProblemLog:
    """Logs faults that did not stop the line; for `cada_edge.runtime.health.Problems`.

    That one counts equal messages and tells the 1st, 10th, 100th. Messages that differ each
    time, by a name in them, would still flood the journal: no component gets more than
    `per_minute` lines a minute. The next line says how many were left out.

    Args:
        per_minute: lines of one component, > 0.
        stream: as of `make_logger`.
        clock: monotonic, s.
    """

    def __init__(
        self, per_minute: int = 20, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._allowance = make_logger(stream), _Allowance(per_minute, clock)

    def __call__(self, component: str, message: str, count: int) -> None:
        """Log one fault, or count it. Safe from any thread."""
        if (more := self._allowance.take(component)) is not None:
            self._logger.error("problem", component=component, message=message, count=count, **more)


class ChangeLog:
    """Logs what goes away and comes back, no more often than faults: see `ProblemLog`, whose arguments it takes."""

    def __init__(
        self, per_minute: int = 20, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._allowance = make_logger(stream), _Allowance(per_minute, clock)

    def __call__(self, change: Change) -> None:
        """Log one change, or count it. Safe from any thread."""
        if (more := self._allowance.take(change.component)) is not None:
            log = self._logger.info if change.well else self._logger.warning
            log(change.event, **change.facts, **more)


def hush_opencv() -> None:
    """Keep OpenCV and FFmpeg, which write plain text, out of the log; before a source is opened.

    What they would say of a camera, its `SourceError` says. Whoever sets ``OPENCV_LOG_LEVEL`` or
    ``OPENCV_FFMPEG_LOGLEVEL`` gets their text all the same.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when FFmpeg is first used
    if "OPENCV_LOG_LEVEL" not in os.environ:  # read as OpenCV is loaded, which may have been before
        import cv2  # noqa: PLC0415  # takes a while, and not every command needs it

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class _Allowance:
    """So many lines a minute for each component. Safe from any thread."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._lock, self._windows = threading.Lock(), dict[str, _Window]()

    def take(self, component: str) -> dict[str, int] | None:
        """``None`` where a line is to be left out; else what to say in it of those left out before."""
        with self._lock:
            window = self._windows.setdefault(component, _Window(self._clock()))
            if self._clock() - window.since_s >= _WINDOW_S:
                window.since_s, window.lines = self._clock(), 0
            if window.lines >= self._per_minute:
                window.left_out += 1
                return None
            window.lines, left_out, window.left_out = window.lines + 1, window.left_out, 0
        return {"left_out": left_out} if left_out else {}


@dataclass
class _Window:
    since_s: float
    lines: int = 0
    left_out: int = 0
