"""Promises of the log about cameras, stations and links: each loss once with its reason, each return once."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from runtime_kit import python_env

from cada_edge.runtime.changes import Change, Changes
from cada_edge.runtime.log import ChangeLog
from cada_edge.runtime.plc.wire import Health
from cada_edge.runtime.status import LinkStatus, SourceStatus, StationStatus

S = 1_000_000_000
UP = LinkStatus("s7", "10.0.0.3:102", up=True)


def station(reason: str = "") -> StationStatus:
    """A station, offline for this reason or online."""
    return StationStatus("st1", "triggered", "READY", online=not reason, offline_reason=reason)


class Watcher:
    """Looks once a second and keeps what was told."""

    def __init__(self) -> None:
        self.told: list[Change] = []
        self._changes, self._now_ns = Changes(self.told.append), 0

    def look(self, *sources: SourceStatus, stations: tuple[StationStatus, ...] = (), links: Any = ()) -> None:
        """One second later."""
        self._now_ns += S
        self._changes.look(self._now_ns, sources, Health(stations, tuple(links)))

    def events(self) -> list[tuple[str, dict[str, object]]]:
        """What was told."""
        return [(change.event, change.facts) for change in self.told]


def test_a_camera_that_goes_and_comes_back_is_told_twice() -> None:
    """Lost with the reason, back with the seconds it was away, however often one looks meanwhile."""
    watcher = Watcher()
    well, ill = SourceStatus("cam1", healthy=True), SourceStatus("cam1", healthy=False, error="stands still")
    for seen in (well, well, ill, ill, ill, well, well):
        watcher.look(seen)
    assert watcher.events() == [
        ("source lost", {"source": "cam1", "reason": "stands still"}),
        ("source back", {"source": "cam1", "away_s": 3.0}),
    ]


def test_a_loss_waits_half_a_second_for_its_reason() -> None:
    """The picture that says why comes a moment after the camera is found lost."""
    told: list[Change] = []
    changes = Changes(told.append)
    changes.look(S, [SourceStatus("cam1", healthy=False)])
    assert told == []
    changes.look(S + 1, [SourceStatus("cam1", healthy=False, error="unplugged")])
    assert told[0].facts["reason"] == "unplugged"
    changes.look(S, [SourceStatus("cam2", healthy=False)])
    changes.look(2 * S, [SourceStatus("cam2", healthy=False)])
    assert told[1].facts["reason"] == "it gives no pictures"


def test_a_station_is_told_offline_for_each_reason_and_online() -> None:
    """That it starts is no news; why it is offline later on is, and so is another reason."""
    watcher = Watcher()
    for reason in ("STARTING", "", "SOURCE_LOST", "SOURCE_LOST", "REQUESTED", ""):
        watcher.look(stations=(station(reason),), links=[UP])
    assert watcher.events() == [
        ("station offline", {"station": "st1", "reason": "SOURCE_LOST"}),
        ("station offline", {"station": "st1", "reason": "REQUESTED"}),
        ("station online", {"station": "st1", "away_s": 3.0}),
    ]


def test_a_link_that_never_comes_up_is_told_once() -> None:
    """With what the first attempt failed with; not before it was made."""
    watcher = Watcher()
    for error in ("", "refused", "timed out", "refused"):
        watcher.look(stations=(station(),), links=[LinkStatus("s7", "10.0.0.3:102", up=False, error=error), UP])
    watcher.look(stations=(station(),), links=[UP, UP])
    where = {"kind": "s7", "address": "10.0.0.3:102"}
    assert watcher.events() == [("link down", {**where, "error": "refused"}), ("link up", {**where, "away_s": 3.0})]


def test_the_plc_process_is_told_instead_of_all_that_is_in_it() -> None:
    """While it is away nobody knows how stations and links are."""
    watcher = Watcher()
    watcher.look(stations=(station(),), links=[UP])
    watcher.look(links=[LinkStatus("s7", "10.0.0.3:102", up=False, error="the PLC process is away")])
    watcher.look(stations=(station(),), links=[UP])
    assert [event for event, _ in watcher.events()] == ["PLC process away", "PLC process back"]


def test_changes_are_lines_of_json_and_never_a_flood() -> None:
    """A link that flaps gets so many lines a minute, and the next tells of the others."""
    stream, now_s = io.StringIO(), [0.0]
    log = ChangeLog(4, stream, lambda: now_s[0])
    for number in range(10):
        log(Change("link up" if number % 2 else "link down", "link 0 s7", bool(number % 2), {"kind": "s7"}))
    now_s[0] = 61.0
    log(Change("link up", "link 0 s7", well=True, facts={"away_s": 2.5}))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["warning", "info", "warning", "info", "info"]
    assert lines[-1]["left_out"] == 6
    assert (lines[-1]["event"], lines[-1]["away_s"]) == ("link up", 2.5)


@pytest.mark.parametrize(
    ("wanted", "silent"), [({}, True), ({"OPENCV_LOG_LEVEL": "INFO", "OPENCV_FFMPEG_LOGLEVEL": "48"}, False)]
)
def test_opencv_and_ffmpeg_write_nothing_between_the_lines(wanted: dict[str, str], silent: bool) -> None:
    """A camera that refuses the connection leaves standard error to the log, unless somebody asks for more."""
    program = (
        "from cada_edge.runtime.log import hush_opencv\n"
        "import cv2\n"
        "hush_opencv()\n"
        "from cada_edge.runtime.sources.opencv import open_stream\n"
        "assert not open_stream('rtsp://127.0.0.1:1/cam').isOpened()\n"
    )
    usual = {name: value for name, value in python_env().items() if not name.startswith("OPENCV_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**usual, **wanted}, capture_output=True, text=True, check=True
    )
    assert (not done.stderr) == silent, done.stderr
