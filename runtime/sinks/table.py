"""Verdicts as rows of a CSV file or lines of JSON, appended one whole line at a time."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from cada_edge.runtime.sinks.append import LineFile
from cada_edge.types import Frame, Prediction, Verdict

COLUMNS = (
    "time", "source_id", "frame_id", "name", "status", "score", "threshold",
    "u", "gamma", "latency_ms", "drops", "reason",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class TableSink:
    """Appends each verdict to a file: all of its line, or none of it.

    ``csv`` starts with a header line; ``jsonl`` holds one object a line. Both have the
    same columns. Existing lines are kept. No rotation: use logrotate with copytruncate.

    Args:
        path: the file; its folder must exist.
        form: ``csv`` or ``jsonl``.

    Raises:
        SinkError: the file cannot be opened or, in `send`, the disk is full.
    """

    def __init__(self, path: Path, form: Literal["csv", "jsonl"]) -> None:
        self._form, self._failed, self._file = form, False, LineFile(path)
        if form == "csv" and self._file.empty():
            self._append(_csv_line(COLUMNS))

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Append one line and hand it to the operating system. Raises `SinkError`."""
        row = record(verdict, frame, prediction)
        self._append(_csv_line([_cell(row[c]) for c in COLUMNS]) if self._form == "csv" else json.dumps(row) + "\n")

    def healthy(self) -> bool:
        """False after a line that could not be written, until one can be."""
        return not self._failed

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()

    def _append(self, line: str) -> None:
        written = False
        try:
            self._file.append(line)
            written = True
        finally:
            self._failed = not written  # not before it is known: others look meanwhile


def record(verdict: Verdict, frame: Frame, prediction: Prediction | None) -> dict[str, str | int | float | None]:
    """One verdict under the names of `COLUMNS`; ``time`` is UTC, ISO 8601."""
    usable = prediction is not None and verdict.score is not None
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "source_id": verdict.source_id,
        "frame_id": verdict.frame_id,
        "name": verdict.name,
        "status": verdict.status,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "u": float(prediction.u[0]) if usable and prediction else None,
        "gamma": float(prediction.gamma[0]) if usable and prediction else None,
        "latency_ms": round((verdict.t_decided_ns - verdict.t_capture_ns) / 1e6, 3),
        "drops": frame.drops,
        "reason": verdict.reason,
    }


def _csv_line(cells: tuple[str, ...] | list[str | int | float | None]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _cell(value: str | float | None) -> str | float | None:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
