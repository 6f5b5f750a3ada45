"""Verdicts as rows of a CSV file or lines of JSON, appended one whole line at a time."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from cada_edge.errors import SinkError
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
        self._path, self._form, self._failed = path, form, False
        try:
            self._handle: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SinkError(f"{path}: cannot open the records: {error.strerror}; check the folder") from error
        if form == "csv" and os.fstat(self._handle).st_size == 0:
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
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _append(self, line: str) -> None:
        if self._handle is None:
            raise SinkError(f"{self._path}: the records are closed")
        # A file name that is no UTF-8 is no reason to lose the verdict.
        data, self._failed = line.encode(errors="backslashreplace"), True
        try:
            written = os.write(self._handle, data)
            if written < len(data):  # a full disk takes a part of the line: take it back
                os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
        except OSError as error:
            raise SinkError(f"{self._path}: record not written: {error.strerror}; free some space") from error
        if written < len(data):
            raise SinkError(f"{self._path}: record not written: only {written} of {len(data)} bytes fit; free space")
        self._failed = False


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
