"""The notice board and the status read from it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from page_kit import fill, make_board, make_prediction, put
from runtime_kit import THRESHOLD, make_frame

from cada_edge.decision import decide
from cada_edge.errors import LineError
from cada_edge.runtime.host import Host
from cada_edge.runtime.status import POINTS_KEPT, REJECTS_KEPT, LineStatus, SourceStatus
from cada_edge.types import ImageSpec


def test_a_status_counts_verdicts_by_source_and_kind() -> None:
    """Every verdict is counted once, and the newest part of each source is known."""
    board = make_board()
    fill(board)
    put(board, 0.1, 9, source_id="cam2")
    status = board.snapshot()
    assert [(c.source, c.ok, c.ng, c.undecided) for c in status.verdicts] == [("cam1", 2, 2, 2), ("cam2", 1, 0, 0)]
    assert [(p.source, p.frame_id) for p in status.newest] == [("cam1", 5), ("cam2", 9)]
    assert status.latency.count == 7 == len(status.history)


def test_rejects_come_newest_first_and_history_oldest_first_within_their_limits() -> None:
    """A line that runs for years keeps 20 rejects and 500 points."""
    board = make_board()
    for number in range(POINTS_KEPT + 30):
        put(board, 0.9, number)
    status = board.snapshot()
    assert [p.frame_id for p in status.rejects] == list(range(POINTS_KEPT + 29, POINTS_KEPT + 29 - REJECTS_KEPT, -1))
    assert len(status.history) == POINTS_KEPT
    assert [p.t_unix_s for p in status.history] == sorted(p.t_unix_s for p in status.history)


def test_a_status_survives_the_wire() -> None:
    """What is read from JSON equals what was written."""
    board = make_board()
    fill(board)
    status = board.snapshot()
    assert LineStatus.from_json(status.to_json()) == status


def test_names_that_are_no_unicode_and_endless_messages_become_text_of_bounded_length() -> None:
    """A hostile file name cannot break the status for everybody else."""
    board = make_board()
    put(board, 0.9, name="\udcff.png", source_id="cam\udc80")
    board.update(sources=(SourceStatus("cam1", False, error="x" * 100_000),))
    read = LineStatus.from_json(board.snapshot().to_json())
    assert read.rejects[0].name == "?.png"
    assert read.history[0].source == "cam?"
    assert len(read.sources[0].error) == 300


def test_a_number_that_is_none_is_null() -> None:
    """NaN never reaches a reader of JSON."""
    board, frame = make_board(), make_frame()
    verdict = replace(decide(frame, make_prediction(0.9), THRESHOLD, 0), score=float("nan"))
    board.verdict(verdict, frame, None)
    assert json.loads(board.snapshot().to_json())["history"][0][2] is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"schema": 2}'])
def test_what_is_no_status_is_refused(data: bytes) -> None:
    """A sender of another version is told apart."""
    with pytest.raises(LineError, match="line status"):
        LineStatus.from_json(data)


def test_pictures_are_kept_by_reference_and_given_once() -> None:
    """The hot path copies nothing, and a reader never gets the same picture twice."""
    board = make_board()
    frames = [put(board, 0.1, number, source_id=source) for number, source in enumerate(("a", "b", "a"))]
    first, second = board.take_picture(), board.take_picture()
    assert first is not None
    assert second is not None
    assert first.image is frames[1].image
    assert second.image is frames[2].image
    assert board.take_picture() is None


def test_thumbnails_are_of_rejects_alone_and_few_wait() -> None:
    """A run of rejects does not hold on to all its pictures."""
    board = make_board()
    for number, score in enumerate((0.9, 0.1, 0.9, None)):
        put(board, score, number)
    taken = [board.take_thumbnail() for _ in range(3)]
    assert [None if one is None else one.part.frame_id for one in taken] == [2, 3, None]


def test_an_update_replaces_only_what_it_is_given() -> None:
    """Sources and links are known at different times."""
    board = make_board()
    fill(board)
    board.update(sources=())
    status = board.snapshot()
    assert status.sources == ()
    assert [link.kind for link in status.links] == ["modbus-server", "s7"]


def test_only_the_loop_gives_signs_of_life() -> None:
    """Reading the board, or telling it of links, does not make a hung line look alive."""
    board = make_board()
    before = board.snapshot().alive_mono_s
    board.update(links=())
    assert board.snapshot().alive_mono_s == before
    board.alive()
    assert before < board.snapshot().alive_mono_s <= time.monotonic()


def test_a_reload_changes_model_and_threshold_together() -> None:
    """The page never shows the threshold of another model."""
    board = make_board()
    spec = ImageSpec((64, 64))
    board.reload("other.cada", "cd" * 32, None, spec)
    put(board, 0.1)
    status, picture = board.snapshot(), board.take_picture()
    assert (status.bundle, status.threshold) == ("other.cada", None)
    assert picture is not None
    assert picture.spec is spec


def test_the_board_may_be_read_while_it_is_written() -> None:
    """No count is lost and no reader fails under a busy writer."""
    board = make_board()
    writer = threading.Thread(target=lambda: [put(board, 0.9, n) for n in range(3000)])
    writer.start()
    while writer.is_alive():
        status = board.snapshot()
        assert sum(c.ok + c.ng + c.undecided for c in status.verdicts) == status.latency.count
    assert board.snapshot().latency.count == 3000


def test_the_latency_histogram_holds_every_verdict_below_its_last_bound() -> None:
    """Buckets add up to the count, but for what took longer than the last bound."""
    board = make_board()
    put(board, 0.1)
    put(board, 0.1, t_capture_ns=time.monotonic_ns() - 10_000_000_000)
    latency = board.snapshot().latency
    assert (sum(latency.buckets), latency.count) == (1, 2)
    assert latency.p99_ms is not None
    assert latency.p99_ms > 9_000


def test_the_machine_is_read_from_its_files(tmp_path: Path) -> None:
    """Temperature is the warmest zone that is on; memory is in bytes."""
    for number, text in enumerate(("41500\n", "0\n", "62000\n", "-1 broken")):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8000 kB\nMemAvailable:   2000 kB\n")
    (tmp_path / "proc/loadavg").write_text("1.25 1.00 0.90 2/300 4242\n")
    status = Host(tmp_path, tmp_path).status()
    assert (status.temperature_c, status.load_1m) == (62.0, 1.25)
    assert (status.memory_bytes, status.memory_free_bytes) == (8_192_000, 2_048_000)
    assert status.process_bytes is None
    assert status.disk_bytes is not None
    assert status.disk_bytes > 0


def test_a_machine_that_tells_nothing_is_no_fault(tmp_path: Path) -> None:
    """Missing files and a missing disk are unknown, not errors."""
    status = Host(tmp_path / "gone", tmp_path).status()
    assert (status.temperature_c, status.load_1m, status.memory_bytes, status.disk_bytes) == (None, None, None, None)
