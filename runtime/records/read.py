"""Records read back: filters, a summary, rows for other programs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from cada_edge.errors import DataError
from cada_edge.runtime.records.rows import LAYOUT, TABLES, columns, iso_time
from cada_edge.types import Status

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_PERCENTILES = (50, 95, 99, 100)
_BUSY_S = 5.0
_STATUSES: tuple[str, ...] = get_args(Status)
_REJECT_COLUMNS = (
    "time_us", "station", "source_id", "frame_id", "part", "name", "status", "score", "threshold", "reason",
)  # fmt: skip
_JOINED = 2  # the version from which results name their part
# Of a part that was answered at its deadline and judged later there are two results: the one with a number was shown.
_WITH_RESULT = """LEFT JOIN results ON results.id = (
    SELECT id FROM results WHERE part = rows.part AND station = rows.station AND run = rows.run
    ORDER BY seq = 0, id LIMIT 1
)"""


@dataclass(frozen=True)
class Filter:
    """Which rows; ``None`` is every.

    Attributes:
        since_us: microseconds since 1970, UTC, inclusive.
        until_us: as above, exclusive.
        station: id of a station or of a source.
        status: ``ok``, ``ng`` or ``undecided``.
    """

    since_us: int | None = None
    until_us: int | None = None
    station: str | None = None
    status: str | None = None

    def where(self, table: str) -> tuple[str, list[object]]:
        """An SQL condition and the values it binds."""
        places = {"verdicts": ("station", "source_id"), "results": ("station",), "drift": ("source_id",)}[table]
        tests: list[tuple[str, object]] = [("time_us >= ?", self.since_us), ("time_us < ?", self.until_us)]
        if "status" in TABLES[table]:
            tests.append(("status = ?", self.status))
        chosen = [(test, value) for test, value in tests if value is not None]
        if self.station is not None:
            chosen.append((f"? IN ({', '.join(places)})", self.station))
        condition = " AND ".join(test for test, _ in chosen) or "1"
        return condition, [value for _, value in chosen]


@dataclass(frozen=True)
class Latency:
    """Milliseconds: median, 95th and 99th percentile, highest."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class RecordSummary:
    """What a file holds, under a filter.

    Attributes:
        first: time of the first verdict, UTC, ISO 8601; ``None`` where there is none.
        last: of the last.
        verdicts: status to count.
        places: (station, source) to status to count.
        drops: frames the sources lost.
        latency: capture to verdict; ``None`` without verdicts.
        shown: what PLCs were shown to count: ``PASS``, ``REJECT``, ``late``, ``not published``.
        published: trigger to publication; ``None`` without results.
        bundles: sha256 of those that judged, in order of first use.
        drifted: drift reports that say so.
        last_rejects: the newest verdicts that are not ``ok``, newest first, with `trigger_id` and `encoder` of the
            result of their part, ``None`` where there is none.
    """

    first: str | None
    last: str | None
    verdicts: dict[str, int]
    places: dict[tuple[str, str], dict[str, int]]
    drops: int
    latency: Latency | None
    shown: dict[str, int]
    published: Latency | None
    bundles: tuple[str, ...]
    drifted: int
    last_rejects: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        places = [
            {"station": station, "source_id": source, **counts} for (station, source), counts in self.places.items()
        ]
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "places"}
        figures = {name: asdict(value) if isinstance(value, Latency) else value for name, value in plain.items()}
        return {**figures, "places": places}


class RecordFile:
    """A file of records, opened for reading while a line may be writing it. A context manager.

    Raises:
        DataError: absent, damaged, no file of records, or written by a newer cada-edge.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "there is no such file"
            raise DataError(f"{path}: {found}; give the file that sinks.records.sqlite in line.yaml names")
        self._version = LAYOUT.version
        self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        self._connection.row_factory = sqlite3.Row
        try:
            self._check()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def rows(self, table: str, chosen: Filter, newest: int | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries with ``bundle_sha256`` and ``version`` of their run, oldest first.

        With `newest`, so many at most, newest first. What a file of an older version does not have is ``None``.
        Raises `DataError`.
        """
        condition, values = chosen.where(table)
        there = columns(table, self._version)
        names = ", ".join(["id", *(name if name in there else f"NULL AS {name}" for name in TABLES[table])])
        order = f"ORDER BY id DESC LIMIT {int(newest)}" if newest is not None else "ORDER BY id"
        query = (
            f"SELECT rows.*, runs.bundle_sha256, runs.version FROM "  # noqa: S608  # names of ours, values bound
            f"(SELECT {names}, run FROM {table} WHERE {condition} {order}) AS rows JOIN runs ON runs.id = rows.run "
            f"ORDER BY rows.id {'DESC' if newest is not None else ''}"
        )
        for row in self._query(query, values):
            yield {name: row[name] for name in row.keys() if name != "run"}  # noqa: SIM118  # a Row iterates values

    def summary(self, chosen: Filter, last_rejects: int = 10) -> RecordSummary:
        """Counts, rates' numerators, latencies. Raises `DataError`."""
        try:
            return self._summary(chosen, last_rejects)
        except (TypeError, ValueError, OverflowError, OSError) as error:  # SQLite lets any column hold anything
            raise DataError(f"{self._path}: a row holds what no line writes: {error}; is the file damaged?") from error

    def _summary(self, chosen: Filter, last_rejects: int) -> RecordSummary:
        places = self._places(chosen)
        first_us, last_us, drops = self._ends(chosen)
        return RecordSummary(
            first=None if first_us is None else iso_time(first_us),
            last=None if last_us is None else iso_time(last_us),
            verdicts=_totals(places),
            places=places,
            drops=drops or 0,
            latency=self._latency("verdicts", "latency_ms", chosen),
            shown=self._counts("results", "shown", chosen),
            published=self._latency("results", "published_ms", chosen),
            bundles=self._bundles(chosen),
            drifted=self._drifted(chosen),
            last_rejects=tuple(self._rejects(chosen, last_rejects)),
        )

    def _check(self) -> None:
        (version,) = self._one("PRAGMA user_version")
        (application_id,) = self._one("PRAGMA application_id")
        if application_id != LAYOUT.application_id:
            raise DataError(f"{self._path}: is no file of records; give the one that sinks.records.sqlite names")
        if version > LAYOUT.version:
            raise DataError(
                f"{self._path}: has version {version}, this cada-edge reads up to {LAYOUT.version}; install a newer one"
            )
        self._one("PRAGMA trusted_schema = OFF")
        self._version = version

    def _places(self, chosen: Filter) -> dict[tuple[str, str], dict[str, int]]:
        condition, values = chosen.where("verdicts")
        query = (
            "SELECT station, source_id, status, count(*) FROM verdicts "  # noqa: S608  # as in `rows`
            f"WHERE {condition} GROUP BY station, source_id, status ORDER BY station, source_id, status"
        )
        places: dict[tuple[str, str], dict[str, int]] = {}
        for station, source, status, count in self._query(query, values):
            places.setdefault((station, source), {})[status] = count
        return places

    def _ends(self, chosen: Filter) -> tuple[int | None, int | None, int | None]:
        condition, values = chosen.where("verdicts")
        query = f"SELECT min(time_us), max(time_us), sum(drops) FROM verdicts WHERE {condition}"  # noqa: S608  # as in `rows`
        first, last, drops = self._one(query, values)
        return first, last, drops

    def _counts(self, table: str, column: str, chosen: Filter) -> dict[str, int]:
        condition, values = chosen.where(table)
        query = f"SELECT {column}, count(*) FROM {table} WHERE {condition} GROUP BY {column}"  # noqa: S608  # as in `rows`
        return dict(tuple(row) for row in self._query(query, values))

    def _latency(self, table: str, column: str, chosen: Filter) -> Latency | None:
        condition, values = chosen.where(table)
        query = f"SELECT {column} FROM {table} WHERE {condition} AND {column} IS NOT NULL"  # noqa: S608  # as in `rows`
        figures = np.fromiter((row[0] for row in self._query(query, values)), np.float64)
        if not len(figures):
            return None
        return Latency(*(round(float(value), 3) for value in np.percentile(figures, _PERCENTILES)))

    def _bundles(self, chosen: Filter) -> tuple[str, ...]:
        condition, values = chosen.where("verdicts")
        query = (
            "SELECT bundle_sha256 FROM runs WHERE id IN "  # noqa: S608  # as in `rows`
            f"(SELECT DISTINCT run FROM verdicts WHERE {condition}) ORDER BY id"
        )
        return tuple(dict.fromkeys(row[0] for row in self._query(query, values)))

    def _drifted(self, chosen: Filter) -> int:
        condition, values = chosen.where("drift")
        query = f"SELECT count(*) FROM drift WHERE (drifted OR feature_drifted) AND {condition}"  # noqa: S608  # as in `rows`
        return int(self._one(query, values)[0])

    def _rejects(self, chosen: Filter, count: int) -> Iterator[dict[str, Any]]:
        if chosen.status == "ok":
            return
        condition, values = chosen.where("verdicts")
        trigger, join = "results.trigger_id, results.encoder", _WITH_RESULT
        if self._version < _JOINED:
            trigger, join = "NULL AS trigger_id, NULL AS encoder", ""
        newest = f"SELECT * FROM verdicts WHERE status != 'ok' AND {condition} ORDER BY id DESC LIMIT {int(count)}"  # noqa: S608  # as in `rows`
        names = ", ".join(f"rows.{name}" for name in _REJECT_COLUMNS)
        query = f"SELECT {names}, {trigger} FROM ({newest}) AS rows {join} ORDER BY rows.id DESC"  # noqa: S608  # as in `rows`
        for row in self._query(query, values):
            found = dict(row)
            yield {"time": iso_time(found.pop("time_us")), **found}

    def _one(self, query: str, values: list[object] | None = None) -> tuple[Any, ...]:
        rows = list(self._query(query, values))
        return tuple(rows[0]) if rows else ()

    def _query(self, query: str, values: list[object] | None = None) -> Iterator[sqlite3.Row]:
        try:
            yield from self._connection.execute(query, values or [])
        except sqlite3.Error as error:
            raise DataError(
                f"{self._path}: cannot read the records: {error}; is it a whole file of records?"
            ) from error


def _totals(places: dict[tuple[str, str], dict[str, int]]) -> dict[str, int]:
    totals = {status: sum(counts.get(status, 0) for counts in places.values()) for status in _STATUSES}
    return {status: count for status, count in totals.items() if count}
