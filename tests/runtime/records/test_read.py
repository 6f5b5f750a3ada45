from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from records_kit import fill, judged, result, send, small_disk
from typer.testing import CliRunner

from cada_edge.cli.app import build
from cada_edge.errors import DataError
from cada_edge.runtime.records.parquet import export_parquet
from cada_edge.runtime.records.read import Filter, RecordFile
from cada_edge.runtime.sinks.records import RecordSink

CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[3])
SHA = "c" * 64


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve verdicts of two sources (three rejects, one without a picture), three results."""
    file = tmp_path_factory.mktemp("records") / "r.sqlite"
    sink = RecordSink(file, SHA, print, stations={"cam1": "s1", "cam2": "s2"})
    for frame_id in range(12):
        source = "cam2" if frame_id % 4 == 3 else "cam1"
        changes = {"image": None} if frame_id == 5 else {}
        send(sink, judged(255 if frame_id in {2, 7} else 0, frame_id, source_id=source, drops=1, **changes))
    sink.result(result(1))
    sink.result(result(2, result=2, t_published_ns=10**9 + 19_000_000))
    sink.result(result(3, t_published_ns=None))
    sink.close()
    return file


def test_a_summary_counts_and_times(path: Path) -> None:
    """Statuses, places, what PLCs were shown, latencies, and the last rejects newest first."""
    with RecordFile(path) as records:
        summary = records.summary(Filter(), last_rejects=2)
    assert summary.verdicts == {"ok": 9, "ng": 2, "undecided": 1}
    assert summary.places == {("s1", "cam1"): {"ng": 1, "ok": 7, "undecided": 1}, ("s2", "cam2"): {"ng": 1, "ok": 2}}
    assert summary.shown == {"PASS": 1, "REJECT": 1, "not published": 1}
    assert summary.published is not None
    assert (summary.published.p50_ms, summary.published.max_ms) == (14.0, 19.0)
    assert summary.latency is not None
    assert summary.latency.p50_ms <= summary.latency.p99_ms <= summary.latency.max_ms
    assert [row["frame_id"] for row in summary.last_rejects] == [7, 5]
    assert (summary.bundles, summary.drops) == ((SHA,), 12)


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        (Filter(station="s2"), 3),
        (Filter(station="cam2"), 3),
        (Filter(status="ng"), 2),
        (Filter(since_us=1 << 60), 0),
        (Filter(until_us=1 << 60), 12),
        (Filter(station="x' OR 1 --"), 0),
    ],
)
def test_filters_choose(path: Path, chosen: Filter, count: int) -> None:
    """By station or source, status and time; text from outside is never SQL."""
    with RecordFile(path) as records:
        assert sum(records.summary(chosen).verdicts.values()) == len(list(records.rows("verdicts", chosen))) == count


def test_rows_name_their_bundle(path: Path) -> None:
    """Oldest first, or so many of the newest."""
    with RecordFile(path) as records:
        rows = list(records.rows("verdicts", Filter()))
        newest = [row["frame_id"] for row in records.rows("verdicts", Filter(), newest=2)]
    assert [row["frame_id"] for row in rows] == list(range(12))
    assert {row["bundle_sha256"] for row in rows} == {SHA}
    assert newest == [11, 10]


def test_a_file_can_be_read_while_a_line_writes_it(tmp_path: Path) -> None:
    """The reader sees what was committed and stops nobody."""
    sink = RecordSink(tmp_path / "r.sqlite", SHA, print)
    send(sink, judged(0, 1))
    with RecordFile(tmp_path / "r.sqlite") as records:
        send(sink, judged(0, 2))
        assert records.summary(Filter()).verdicts == {"ok": 2}
    sink.close()


@pytest.mark.parametrize("content", [b"", b"nothing of the kind" * 50, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_what_is_no_file_of_records_is_refused(tmp_path: Path, content: bytes) -> None:
    """An error that names the path, never a traceback."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match="x: "), RecordFile(tmp_path / "x") as records:
        records.summary(Filter())


def test_an_absent_file_is_not_made(tmp_path: Path) -> None:
    """Reading makes no file."""
    with pytest.raises(DataError, match="no such file"):
        RecordFile(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_a_cell_of_the_wrong_kind_is_an_error(path: Path, tmp_path: Path) -> None:
    """SQLite lets a time be a text; the reader does not."""
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(copy)) as other, other:
        other.execute("UPDATE verdicts SET latency_ms = 'soon', time_us = 'noon'")
    with pytest.raises(DataError, match="what no line writes"), RecordFile(copy) as records:
        records.summary(Filter())


def test_parquet_holds_every_row(path: Path, tmp_path: Path) -> None:
    """Types are those a data frame wants: UTC times, integers, nulls, booleans."""
    parquet = pytest.importorskip("pyarrow.parquet")
    with RecordFile(path) as records:
        assert export_parquet(records, tmp_path / "v.parquet") == 12
        assert export_parquet(records, tmp_path / "r.parquet", "results") == 3
        assert export_parquet(records, tmp_path / "ng.parquet", chosen=Filter(status="ng")) == 2
    verdicts, results = (parquet.read_table(tmp_path / f"{name}.parquet") for name in "vr")
    assert str(verdicts.schema.field("time").type) == "timestamp[us, tz=UTC]"
    assert verdicts.column("frame_id").to_pylist() == list(range(12))
    assert verdicts.column("score").null_count == 1
    assert results.column("late").to_pylist() == [False] * 3
    assert results.column("part").to_pylist() == [11, 12, 13]
    assert results.column("encoder").to_pylist() == [5001, 5002, 5003]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ng.parquet", "r.parquet", "v.parquet"]


def test_parquet_is_whole_or_not_at_all(path: Path, tmp_path: Path) -> None:
    """On a full disk the export fails, and the file that was there is untouched."""
    pytest.importorskip("pyarrow")
    with small_disk(tmp_path / "disk") as disk, RecordFile(path) as records:
        export_parquet(records, disk / "v.parquet")
        before = (disk / "v.parquet").read_bytes()
        fill(disk)
        with pytest.raises(DataError, match="No space left"):
            export_parquet(records, disk / "v.parquet")
        assert (disk / "v.parquet").read_bytes() == before
        assert not list(disk.glob(".*"))


@pytest.fixture
def triggered(tmp_path: Path) -> Path:
    """Two runs, each with a part 11 seen by two cameras; that of the second was answered before its verdict came."""
    for run, trigger_id in ((1, 711), (2, 722)):
        sink = RecordSink(tmp_path / "t.sqlite", str(run) * 64, print, stations={"cam1": "s1", "cam2": "s1"})
        for source in ("cam1", "cam2"):
            send(sink, judged(255, run, source_id=source, part=11, name=f"{run}-{source}.png"))
        now_ns = time.monotonic_ns()
        times = {"t_trigger_ns": now_ns, "t_decided_ns": now_ns, "t_published_ns": now_ns}
        sink.result(result(1, result=10, trigger_id=trigger_id, **times))
        if run == 2:
            sink.result(result(0, result=10, trigger_id=0, encoder=0, part=11, **{**times, "t_published_ns": None}))
        sink.close()
    return tmp_path / "t.sqlite"


def test_rejects_name_the_trigger_of_their_part(triggered: Path) -> None:
    """Every view has the trigger id and encoder that the PLC gave for its part, of its own run and no other."""
    with RecordFile(triggered) as records:
        rejects = records.summary(Filter()).last_rejects
    found = [(one["name"], one["trigger_id"], one["encoder"]) for one in rejects]
    assert found == [(f"{run}-cam{n}.png", 700 + 11 * run, 5001) for run in (2, 1) for n in (2, 1)]
    assert "722" in command(str(triggered))


def test_the_query_in_the_documentation_leads_from_a_trigger_to_its_pictures(triggered: Path) -> None:
    """As it stands there: the PLC's number in, what it was shown and a picture per camera out."""
    text = (CHECKOUT / "docs" / "records.md").read_text(encoding="utf-8")
    (query,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    with closing(sqlite3.connect(triggered)) as connection:
        rows = connection.execute(query, {"trigger_id": 711}).fetchall()
    assert [row[:5] for row in rows] == [(711, 5001, "REJECT", f"cam{n}", 1) for n in (1, 2)]
    assert [row[5] for row in rows] == ["1-cam1.png", "1-cam2.png"]


def command(*arguments: str) -> str:
    """Standard output of ``cada-edge records``; errors are raised."""
    done = CliRunner().invoke(build("records"), ["records", *arguments], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output


def test_the_command_shows_people_and_scripts_the_same(path: Path, tmp_path: Path) -> None:
    """A table for the one, JSON for the other, Parquet where asked for."""
    shown = command(str(path), "--since", "1h")
    assert "9 ok (75.00 %)" in shown
    assert "incomplete" in shown
    out = json.loads(command(str(path), "--json", "--station", "s1", "--parquet", str(tmp_path / "v.parquet")))
    assert out["verdicts"] == {"ok": 7, "ng": 1, "undecided": 1}
    assert out["parquet_rows"] == 9
    assert out["latency"]["p99_ms"] >= out["latency"]["p50_ms"]


@pytest.mark.parametrize(("since", "count"), [("2000-01-01", 12), ("2000-01-01T00:00:00Z", 12), ("9999-01-01", 0)])
def test_times_are_understood(path: Path, since: str, count: int) -> None:
    """A date, or a time with its zone."""
    assert sum(json.loads(command(str(path), "--json", "--since", since))["verdicts"].values()) == count


@pytest.mark.parametrize("since", ["yesterday", "5y", "", "2026-99-01"])
def test_times_that_are_none_are_refused(path: Path, since: str) -> None:
    """The message names the option and gives examples."""
    done = CliRunner().invoke(build("records"), ["records", str(path), "--since", since])
    assert done.exit_code == 2
    assert f"error: --since: got {since!r}, expected such as" in done.stderr


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    """A line that judged nothing leaves nothing to count."""
    RecordSink(tmp_path / "r.sqlite", SHA, print).close()
    assert command(str(tmp_path / "r.sqlite")) == "No records.\n"


def test_a_result_without_a_verdict_is_recorded(tmp_path: Path) -> None:
    """A trigger that no frame answered has neither a score nor a time of decision."""
    sink = RecordSink(tmp_path / "r.sqlite", SHA, print)
    nothing = replace(result(1), score=None, threshold=None, t_decided_ns=None, status="undecided", note="no frame")
    sink.result(nothing)
    sink.close()
    with RecordFile(tmp_path / "r.sqlite") as records:
        (row,) = records.rows("results", Filter(status="undecided"))
    assert (row["decided_ms"], row["score"], row["note"]) == (None, None, "no frame")
