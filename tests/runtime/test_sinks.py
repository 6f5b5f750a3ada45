from __future__ import annotations

import csv
import io
import json
import os
import threading
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_kit import SPEC, THRESHOLD, make_bundle, make_frame, wait_until

from cada_edge.errors import SinkError
from cada_edge.imaging import read_image
from cada_edge.protocols import Sink
from cada_edge.runtime.judge import Judge, Judgement
from cada_edge.runtime.log import make_logger
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.runtime.sinks.archive import ArchiveOptions, ImageArchive
from cada_edge.runtime.sinks.courier import Courier
from cada_edge.runtime.sinks.images import RejectImages, safe_name
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.runtime.sinks.log import LogSink
from cada_edge.runtime.sinks.outbox import Outbox, Parcel
from cada_edge.runtime.sinks.outbox_sink import OutboxSink
from cada_edge.runtime.sinks.records import RecordSink
from cada_edge.runtime.sinks.table import COLUMNS, TableSink
from cada_edge.types import Frame, Prediction, Verdict


def judged(level: int, frame_id: int = 0, name: str = "part.png") -> Judgement:
    """A judgement on a picture of brightness `level`."""
    return Judge(OrtRunner(make_bundle(), 1), THRESHOLD).judge(make_frame(level, frame_id, name=name))


def send(sink: Sink, judgement: Judgement) -> None:
    """Hand a judgement to a sink."""
    sink.send(judgement.verdict, judgement.frame, judgement.prediction)


class Slow:
    """A sink that waits for a sign before each verdict, and can be told to fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go, self.got, self.closed, self._error = threading.Event(), 0, False, error

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Wait, then fail or count."""
        self.go.wait(30)
        if self._error:
            raise self._error
        self.got += 1

    def healthy(self) -> bool:
        """False if it fails."""
        return self._error is None

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def test_csv_has_a_header_and_a_row_a_verdict(tmp_path: Path) -> None:
    """Rows can be read back; opening again appends without a second header."""
    for level in (0, 255):
        sink = TableSink(tmp_path / "v.csv", "csv")
        send(sink, judged(level))
        sink.close()
    rows = list(csv.DictReader((tmp_path / "v.csv").open()))
    assert [row["status"] for row in rows] == ["ok", "ng"]
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[1]["score"]) == pytest.approx(1.0)


def test_json_lines_hold_the_same_columns(tmp_path: Path) -> None:
    """Each line is one object; an undecided one has null scores."""
    sink = TableSink(tmp_path / "v.jsonl", "jsonl")
    send(sink, judged(255))
    lost = Judge(OrtRunner(make_bundle(), 1), THRESHOLD).judge(make_frame(image=None))
    send(sink, lost)
    first, second = (json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines())
    assert tuple(first) == COLUMNS
    assert (second["status"], second["score"], second["u"]) == ("undecided", None, None)


def test_names_cannot_break_a_table(tmp_path: Path) -> None:
    """Commas, quotes, newlines and spreadsheet formulas in a file name stay text in one cell."""
    sink = TableSink(tmp_path / "v.csv", "csv")
    for name in ('a,"b"\nc', "=cmd|' /C calc'!A0"):
        send(sink, judged(0, name=name))
    rows = list(csv.DictReader((tmp_path / "v.csv").open(newline="")))
    assert [row["name"] for row in rows] == ['a,"b"\nc', "'=cmd|' /C calc'!A0"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_name_that_is_no_text_costs_no_verdict(tmp_path: Path, form: Literal["csv", "jsonl"]) -> None:
    """A file name with bytes that are no UTF-8 is recorded with those bytes escaped."""
    sink = TableSink(tmp_path / "v", form)
    send(sink, judged(0, name=os.fsdecode(b"part\xff.png")))
    assert "part\\udcff.png" in (tmp_path / "v").read_text()


def test_a_full_disk_is_told() -> None:
    """No space left: an error that names the file, and health falls."""
    sink = TableSink(Path("/dev/full"), "jsonl")
    with pytest.raises(SinkError, match=r"/dev/full.*No space left"):
        send(sink, judged(0))
    assert not sink.healthy()
    sink.close()


def test_a_table_in_an_absent_folder_is_refused(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(SinkError, match="absent"):
        TableSink(tmp_path / "absent" / "v.csv", "csv")


def test_the_log_has_one_json_line_a_verdict() -> None:
    """Passes are info, rejects are warnings; both carry score and frame."""
    stream = io.StringIO()
    sink = LogSink(make_logger(stream))
    send(sink, judged(0, 4))
    send(sink, judged(255, 5))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["level"], line["status"], line["frame"]) for line in lines] == [
        ("info", "ok", 4),
        ("warning", "ng", 5),
    ]


def test_a_closed_log_is_told() -> None:
    """A stream that takes no more lines is a sink error, not a crash."""
    stream = io.StringIO()
    sink = LogSink(make_logger(stream))
    stream.close()
    with pytest.raises(SinkError):
        send(sink, judged(0))
    assert not sink.healthy()


def test_rejects_are_saved_with_their_heatmap(tmp_path: Path) -> None:
    """A reject leaves its original, bit for bit, and a panel; a pass leaves nothing."""
    sink = RejectImages(tmp_path / "rejects", SPEC)
    send(sink, judged(0, 1))
    reject = judged(255, 2)
    send(sink, reject)
    original, heatmap = sorted((tmp_path / "rejects").iterdir())
    assert (original.name, heatmap.name) == (
        "reject-00000001-cam1-2-part-panel.png",
        "reject-00000001-cam1-2-part.png",
    )
    assert reject.frame.image is not None
    assert np.array_equal(read_image(heatmap), reject.frame.image)


def test_the_oldest_rejects_go_first(tmp_path: Path) -> None:
    """Beyond the limit its own oldest files are deleted, others never; a restart goes on counting."""
    (tmp_path / "mine.png").write_bytes(b"keep me")
    for frame_id in range(5):
        send(RejectImages(tmp_path, SPEC, max_files=4), judged(255, frame_id))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) == 5
    assert "mine.png" in names
    assert {name.split("-")[1] for name in names if name.startswith("reject")} == {"00000004", "00000005"}


def test_rejects_stay_within_their_bytes(tmp_path: Path) -> None:
    """The folder never grows beyond `max_bytes` after a reject."""
    sink = RejectImages(tmp_path, SPEC, max_bytes=20_000)
    for frame_id in range(8):
        send(sink, judged(255, frame_id))
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 20_000


def test_hostile_names_stay_in_the_folder(tmp_path: Path) -> None:
    """Path tricks in a frame's name become plain letters."""
    sink = RejectImages(tmp_path / "rejects", SPEC)
    for name in ("../../etc/passwd", "/abs.png", "a\0b", "..", "", "-rf *;$(x)"):
        send(sink, judged(255, name=name))
    assert {p.name for p in tmp_path.iterdir()} == {"rejects"}
    assert len(list((tmp_path / "rejects").iterdir())) == 12


@given(st.text())
def test_a_safe_name_is_always_plain(text: str) -> None:
    """Whatever the text: 1 to 60 letters, digits, ``_`` or ``-``."""
    name = safe_name(text)
    assert 1 <= len(name) <= 60
    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in name)


def test_a_rejects_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The error names the setting."""
    (tmp_path / "x").write_text("")
    with pytest.raises(SinkError, match=r"sinks\.rejects\.dir"):
        RejectImages(tmp_path / "x", SPEC)


def test_a_failing_sink_is_told_and_nothing_else() -> None:
    """Its error goes to `on_error`; `send` does not raise; health falls."""
    errors: list[str] = []
    slow = Slow(SinkError("disk full"))
    slow.go.set()
    sink = IsolatedSink(slow, "csv", lambda name, error: errors.append(f"{name}: {error}"))
    send(sink, judged(0))
    sink.close()
    assert errors == ["csv: disk full"]
    assert (sink.failures, sink.healthy(), slow.closed) == (1, False, True)


def test_a_slow_sink_loses_its_own_verdicts_only() -> None:
    """A sink that hangs fills its queue and never blocks the sender; how many were lost is told, and what to do."""
    errors: list[str] = []
    slow, judgement = Slow(), judged(0)
    sink = IsolatedSink(slow, "rejects", lambda name, error: errors.append(str(error)), depth=2)
    for _ in range(50):
        send(sink, judgement)
    assert not sink.healthy()
    slow.go.set()
    sink.close()
    assert slow.got + sink.failures == 50
    counts = [1, 10, sink.failures]
    assert [error.split(" records")[0] for error in errors] == [f"rejects is too slow: {count}" for count in counts]
    assert all("its queue of 2 was full; give it a faster disk" in error for error in errors)


def test_closing_lets_waiting_verdicts_through() -> None:
    """What was handed over before `close` arrives."""
    slow, judgement = Slow(), judged(0)
    sink = IsolatedSink(slow, "csv", lambda *_: None)
    for _ in range(20):
        send(sink, judgement)
    slow.go.set()
    sink.close()
    assert slow.got == 20
    with pytest.raises(SinkError, match="closed"):
        send(sink, judgement)
    wait_until(lambda: slow.closed)


@pytest.mark.parametrize("kind", ["archive", "rejects", "records", "csv", "outbox"])
def test_a_sink_at_work_is_not_a_failing_one(kind: str, tmp_path: Path) -> None:
    """However often somebody looks while it writes: only a write that failed counts."""
    sink, over, seen = open_sink(kind, tmp_path), threading.Event(), set[bool]()

    def look() -> None:
        while not over.is_set():
            seen.add(sink.healthy())

    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(40):
        send(sink, judged(255, number))
    over.set()
    watcher.join()
    sink.close()
    assert seen == {True}


def open_sink(kind: str, folder: Path) -> Sink:
    """A sink of each kind that keeps records."""
    if kind == "archive":
        return ImageArchive(folder / "archive", make_bundle(), ArchiveOptions(min_free_bytes=0))
    if kind == "rejects":
        return RejectImages(folder / "rejects", SPEC)
    if kind == "records":
        return RecordSink(folder / "r.sqlite", "0" * 64, print)
    if kind == "csv":
        return TableSink(folder / "v.csv", "csv")
    outbox = Outbox(folder / "o.sqlite", 100, print)
    return OutboxSink(outbox, Courier(outbox, _Nowhere(), print))


class _Nowhere:
    """A way that leads to nobody."""

    def deliver(self, _parcels: list[Parcel]) -> int:
        """Takes none."""
        raise SinkError("nobody is there")

    def tend(self) -> None:
        """Nothing."""

    def hang_up(self) -> None:
        """Nothing."""
