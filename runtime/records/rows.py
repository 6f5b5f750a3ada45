"""What is recorded of a part: columns, and how verdicts and results become rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from cada_edge.runtime.drift import DriftReport
from cada_edge.runtime.records.database import Layout
from cada_edge.runtime.registers import ResultFlag
from cada_edge.types import Frame, Prediction, Verdict

Row = Mapping[str, str | int | float | None]

# Types as SQLite and Parquet name them; a column is added in a new step of LAYOUT only.
VERDICT_COLUMNS = {
    "time_us": "INTEGER", "station": "TEXT", "source_id": "TEXT", "frame_id": "INTEGER", "name": "TEXT",
    "part": "INTEGER", "status": "TEXT", "reason": "TEXT", "score": "REAL", "threshold": "REAL", "u": "REAL",
    "gamma": "REAL", "novelty": "REAL", "frame_status": "TEXT", "drops": "INTEGER", "transfer_ms": "REAL",
    "judged_ms": "REAL", "latency_ms": "REAL",
}  # fmt: skip
_RESULT_COLUMNS_1 = {
    "time_us": "INTEGER", "station": "TEXT", "seq": "INTEGER", "trigger_id": "INTEGER", "result": "INTEGER",
    "shown": "TEXT", "status": "TEXT", "score": "REAL", "threshold": "REAL", "decided_ms": "REAL",
    "published_ms": "REAL", "late": "INTEGER", "note": "TEXT",
}  # fmt: skip
_RESULT_COLUMNS_2 = {"part": "INTEGER", "encoder": "INTEGER"}
RESULT_COLUMNS = {**_RESULT_COLUMNS_1, **_RESULT_COLUMNS_2}
DRIFT_COLUMNS = {
    "time_us": "INTEGER", "source_id": "TEXT", "n": "INTEGER", "n_calibration": "INTEGER", "distance": "REAL",
    "p_value": "REAL", "drifted": "INTEGER", "median": "REAL", "median_calibration": "REAL",
    "novelty_median": "REAL", "novelty_limit": "REAL", "feature_drifted": "INTEGER",
}  # fmt: skip
RUN_COLUMNS = {"time_us": "INTEGER", "bundle_sha256": "TEXT", "version": "TEXT"}
TABLES = {"verdicts": VERDICT_COLUMNS, "results": RESULT_COLUMNS, "drift": DRIFT_COLUMNS}


def _create(table: str, columns: Mapping[str, str], run: bool = True) -> str:
    named = [f"{name} {kind}" for name, kind in columns.items()]
    if run:
        named.append("run INTEGER NOT NULL REFERENCES runs (id)")
    return f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(named)});"


def _add(table: str, columns: Mapping[str, str]) -> str:
    return "".join(f"ALTER TABLE {table} ADD COLUMN {name} {kind};" for name, kind in columns.items())


_STEP_1 = (
    _create("runs", RUN_COLUMNS, run=False)
    + _create("verdicts", VERDICT_COLUMNS)
    + _create("results", _RESULT_COLUMNS_1)
    + _create("drift", DRIFT_COLUMNS)
    + "CREATE INDEX verdicts_time ON verdicts (time_us);"
    + "CREATE INDEX results_time ON results (time_us);"
)
# Results in free run, and those of version 1, have no part: they cost the index nothing.
_STEP_2 = _add("results", _RESULT_COLUMNS_2) + (
    "CREATE INDEX results_part ON results (part, station, run) WHERE part IS NOT NULL;"
)
LAYOUT = Layout(0x43414452, "records of a line", (_STEP_1, _STEP_2))  # "CADR"


def columns(table: str, version: int) -> frozenset[str]:
    """Of those of `TABLES`, what a file of this version has."""
    later = _RESULT_COLUMNS_2 if table == "results" and version < 2 else {}
    return frozenset(TABLES[table]) - frozenset(later)


@dataclass(frozen=True)
class ResultRecord:
    """What became of one part at a station, as its PLC could see it.

    Attributes:
        station: id of the station.
        seq: ResultSeq of the block, 1..65535.
        trigger_id: of the PLC, UINT32; 0 in free run.
        result: bits of word 2, see `ResultFlag`.
        status: ``ok``, ``ng`` or ``undecided``.
        score: of the worst view, or ``None``.
        threshold: compared with, or ``None``.
        t_trigger_ns: monotonic time of the trigger, of capture in free run.
        t_decided_ns: monotonic time of the verdict, or ``None`` where none came.
        t_published_ns: monotonic time at which the block changed, or ``None``: never shown.
        late: the verdict came after the deadline; its PASS was not shown.
        note: why, in words; may be empty.
        part: number of its trigger since the line started, as its verdicts have it; ``None`` in free run.
        encoder: of the PLC at the trigger, UINT32; 0 in free run.
    """

    station: str
    seq: int
    trigger_id: int
    result: int
    status: str
    score: float | None
    threshold: float | None
    t_trigger_ns: int
    t_decided_ns: int | None
    t_published_ns: int | None
    late: bool = False
    note: str = ""
    part: int | None = None
    encoder: int = 0

    @property
    def shown(self) -> str:
        """What the PLC could see: ``PASS``, ``REJECT``, ``late`` (a REJECT for want of time) or ``not published``."""
        if self.t_published_ns is None:
            return "not published"
        if self.late:
            return "late"
        return "PASS" if self.result & ResultFlag.PASS and not self.result & ResultFlag.REJECT else "REJECT"


def verdict_row(verdict: Verdict, frame: Frame, prediction: Prediction | None, station: str = "") -> Row:
    """One verdict under the names of `VERDICT_COLUMNS`; times as latencies, the wall clock in UTC."""
    trusted = prediction if prediction is not None and len(prediction) == 1 and prediction.finite()[0] else None
    return {
        "time_us": wall_us(verdict.t_decided_ns),
        "station": station,
        "source_id": verdict.source_id,
        "frame_id": verdict.frame_id,
        "name": verdict.name,
        "part": frame.part,
        "status": verdict.status,
        "reason": verdict.reason,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "u": float(trusted.u[0]) if trusted else None,
        "gamma": float(trusted.gamma[0]) if trusted else None,
        "novelty": float(trusted.novelty[0]) if trusted else None,
        "frame_status": frame.status,
        "drops": frame.drops,
        "transfer_ms": _ms(frame.t_capture_ns, frame.t_arrival_ns),
        "judged_ms": _ms(frame.t_arrival_ns, verdict.t_decided_ns),
        "latency_ms": _ms(frame.t_capture_ns, verdict.t_decided_ns),
    }


def result_row(record: ResultRecord) -> Row:
    """One result under the names of `RESULT_COLUMNS`."""
    known_ns = record.t_published_ns or record.t_decided_ns or record.t_trigger_ns
    return {
        "time_us": wall_us(known_ns),
        "station": record.station,
        "seq": record.seq,
        "trigger_id": record.trigger_id,
        "result": int(record.result),
        "shown": record.shown,
        "status": record.status,
        "score": record.score,
        "threshold": record.threshold,
        "decided_ms": _ms(record.t_trigger_ns, record.t_decided_ns),
        "published_ms": _ms(record.t_trigger_ns, record.t_published_ns),
        "late": int(record.late),
        "note": record.note,
        "part": record.part,
        "encoder": record.encoder,
    }


def drift_row(report: DriftReport) -> Row:
    """One report of drift under the names of `DRIFT_COLUMNS`."""
    figures = {k: int(v) if isinstance(v, bool) else v for k, v in asdict(report).items()}
    return {"time_us": wall_us(time.monotonic_ns()), **figures}


def run_row(bundle_sha256: str, version: str) -> Row:
    """The start of a run, or of a new bundle within one, under the names of `RUN_COLUMNS`."""
    return {"time_us": wall_us(time.monotonic_ns()), "bundle_sha256": bundle_sha256, "version": version}


def wall_us(monotonic_ns: int) -> int:
    """Microseconds since 1970, UTC, of a monotonic time of this boot."""
    return (time.time_ns() - (time.monotonic_ns() - monotonic_ns)) // 1000


def iso_time(time_us: int) -> str:
    """``2026-11-24T00:30:00.123Z``."""
    moment = datetime.fromtimestamp(time_us / 1e6, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def message(kind: str, row: Row, **more: Any) -> dict[str, Any]:
    """A row for other programs: its kind, the time as text, and whatever comes with it."""
    values = {name: value for name, value in row.items() if name != "time_us"}
    return {"kind": kind, "time": iso_time(int(row["time_us"] or 0)), **more, **values}


def _ms(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else round((end_ns - start_ns) / 1e6, 3)
