from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from link_kit import free_port
from modbus_peer import Memory
from runtime_kit import make_bundle, make_frame, picture, write_line

from cada_edge.errors import ConfigError
from cada_edge.imaging import write_png
from cada_edge.runtime.check.dial import Dial, dial_all
from cada_edge.runtime.check.finding import Finding, LineReport, failed
from cada_edge.runtime.check.line import check_line
from cada_edge.runtime.check.links import blind_ms
from cada_edge.runtime.check.sources import _judged
from cada_edge.runtime.control import CONTROL_WORDS, ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.links.config import ModbusRtuConfig, ModbusTcpConfig

FEW = {"frames": 2, "timeout_s": 6.0}


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield int(listener.getsockname()[1])


def row(report: LineReport, area: str, word: str = "") -> Finding:
    """The one row of an area whose name holds `word`."""
    (found,) = [one for one in report.findings if one.area == area and word in one.what]
    return found


def checked(tmp_path: Path, **settings: Any) -> LineReport:
    """The report on a line of pictures with these settings."""
    return check_line(write_line(tmp_path, **settings), **FEW)  # type: ignore[arg-type]  # two numbers


def writer(port: int, **more: Any) -> dict[str, Any]:
    """A link that writes into a PLC."""
    return {"kind": "modbus-tcp", "host": "127.0.0.1", "port": port, "timeout_ms": 500, **more}


def test_a_good_line_is_ready_and_says_what_it_has(tmp_path: Path) -> None:
    """Bundle, input size, threshold, frames and their size are told, and nothing failed."""
    report = checked(tmp_path, links=[{"kind": "modbus-server", "port": 0}])
    assert report.ready, report.to_json()
    assert "32x32 px" in row(report, "model").found
    assert "threshold 0.5" in row(report, "model").found
    assert "2 frames, 32x32 px, grey" in row(report, "source").found


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """A check makes no file and no folder, not even those the line would make."""
    sinks = {"records": {"sqlite": "r.sqlite", "csv": "r.csv"}, "archive": {"dir": "kept", "min_free_bytes": 0}}
    path = write_line(tmp_path, sinks=sinks)
    before = sorted(tmp_path.rglob("*"))
    assert check_line(path, **FEW).ready  # type: ignore[arg-type]  # two numbers
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plc_is_read_and_never_written(tmp_path: Path) -> None:
    """The control block of a real PLC is shown; its status registers stay as they were."""
    port = free_port()
    memory = Memory("modbus-tcp", f"127.0.0.1:{port}")
    memory.control(encode_control(ControlBlock(ControlFlag.TRIGGER_ENABLE, heartbeat=7)))
    found = row(checked(tmp_path, links=[writer(port)]), "link")
    assert (found.state, "TRIGGER_ENABLE, heartbeat 7" in found.found) == ("ok", True), found
    assert "nothing written" in found.found
    assert set(memory.status()) == {0}


def test_a_plc_that_is_not_there_fails_and_the_rest_is_still_tried(tmp_path: Path) -> None:
    """A dead port costs its own row alone."""
    report = checked(tmp_path, links=[writer(free_port())])
    assert not report.ready
    assert row(report, "link").state == "fail"
    assert row(report, "source").state == row(report, "model").state == "ok"


def test_a_port_that_is_held_says_by_whom_it_may_be(tmp_path: Path, silent_port: int) -> None:
    """A running line holds its ports, and the advice says so."""
    report = checked(tmp_path, links=[{"kind": "modbus-server", "port": silent_port}], page={"port": silent_port})
    assert "wanted twice" in row(report, "link").found
    alone = checked(tmp_path, links=[{"kind": "modbus-server", "port": silent_port}])
    assert row(alone, "link").state == "fail"
    assert "if this line runs already" in row(alone, "link").advice


def test_a_page_needs_its_port(tmp_path: Path, silent_port: int) -> None:
    """The page's address is tried as the servers' are."""
    pytest.importorskip("h11")
    assert row(checked(tmp_path, page={"port": silent_port}), "page").state == "fail"
    assert row(checked(tmp_path, page={"port": 0}), "page").state == "ok"


def test_a_missing_folder_of_pictures_fails(tmp_path: Path) -> None:
    """What the source itself says is shown."""
    found = row(checked(tmp_path, sources=[{"uri": "folder:nowhere"}]), "source")
    assert (found.state, "nowhere" in found.found) == ("fail", True)


def test_a_camera_that_hangs_does_not_hang_the_check(tmp_path: Path, silent_port: int) -> None:
    """A camera that accepts and then says nothing fails; the other one is looked at all the same."""
    hanging = {"uri": f"rtsp://127.0.0.1:{silent_port}/x", "id": "hangs", "stall_s": 600}
    path = write_line(tmp_path, sources=[hanging, {"uri": "folder:images", "id": "works"}])
    report = check_line(path, frames=2, timeout_s=1.0)
    assert row(report, "source", "hangs").state == "fail"
    assert row(report, "source", "works").state == "ok"


def test_a_frozen_source_is_told(tmp_path: Path) -> None:
    """Pictures that repeat fail the quality that the line asks for, with the reason."""
    line = write_line(tmp_path, sources=[{"uri": "folder:same", "quality": {"frozen": True, "min_brightness": 0}}])
    (tmp_path / "same").mkdir()
    for index in range(3):
        write_png(tmp_path / "same" / f"{index}.png", picture(90))
    found = row(check_line(line, frames=3, timeout_s=6.0), "source")
    assert (found.state, "2 x" in found.found) == ("fail", True), found


def test_a_camera_that_repeats_itself_fails_without_a_quality_section() -> None:
    """Noise makes every picture of a sensor new: equal ones are a frozen stream."""
    frames = [make_frame(90, index) for index in range(2)]
    assert _judged(frames, 2, live=True)[0] == "fail"
    assert _judged(frames, 2, live=False)[0] == "ok"


def test_fewer_frames_than_wanted_are_a_warning(tmp_path: Path) -> None:
    """A folder of four pictures cannot give nine."""
    found = row(check_line(write_line(tmp_path), frames=9, timeout_s=6.0), "source")
    assert (found.state, "4 frames" in found.found) == ("warn", True)


def test_a_bundle_without_a_threshold_fails(tmp_path: Path) -> None:
    """Its line would reject every part."""
    found = row(checked(tmp_path, bundle=make_bundle(threshold=None)), "model")
    assert (found.state, "no threshold" in found.found) == ("fail", True)


def test_a_recipe_that_is_no_bundle_fails_beside_a_good_bundle(tmp_path: Path) -> None:
    """Every recipe is loaded, not only the model of the start."""
    (tmp_path / "other.cada").write_bytes(b"no bundle")
    report = checked(tmp_path, recipes={3: "other.cada"})
    assert row(report, "model", "recipe 3").state == "fail"
    assert row(report, "model", "bundle").state == "ok"


def test_a_deadline_that_the_model_cannot_keep_fails(tmp_path: Path) -> None:
    """A thousandth of a millisecond is too short for any model."""
    assert "slower than the deadline" in row(checked(tmp_path, deadline_ms=0.001), "model").found


class Slow:
    """A link whose PLC takes its time."""

    def __init__(self, read_s: float) -> None:
        self._read_s = read_s

    def open(self) -> None:
        """At once."""

    def read_control(self) -> list[int]:
        """In a while."""
        time.sleep(self._read_s)
        return [0] * CONTROL_WORDS

    def close(self) -> None:
        """At once."""


TRIGGERED = [{"id": "st1", "mode": "triggered"}]
SERIAL = {"kind": "modbus-rtu", "device": "/dev/ttyS9"}


@pytest.mark.parametrize(
    ("read_s", "link", "state"),
    [
        (0.0, {}, "ok"),
        (0.09, {}, "warn"),  # two reads are quick enough, but the supervisor writes between them
        (0.2, {"poll_ms": 1000}, "ok"),  # it was told to look that seldom
        (0.0, {**SERIAL, "baud": 115_200}, "ok"),
        (0.0, {**SERIAL, "baud": 300}, "warn"),  # a serial line is as slow as its bits
    ],
)
def test_a_link_too_slow_for_triggers_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_s: float, link: dict[str, Any], state: str
) -> None:
    """Between two looks with a write among them passes more time than the line trusts what it then finds."""
    monkeypatch.setattr("cada_edge.runtime.check.links.make_link", lambda _link: Slow(read_s))
    section = link if "kind" in link else writer(free_port(), **link)
    found = row(checked(tmp_path, links=[section], stations=TRIGGERED), "link")
    assert (found.state, "counts as missed" in found.advice) == (state, state == "warn"), found


def test_a_slow_link_without_triggers_is_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A free-running station misses none, and a link that only shows drives none."""
    monkeypatch.setattr("cada_edge.runtime.check.links.make_link", lambda _link: Slow(0.2))
    slow = writer(free_port())
    assert row(checked(tmp_path, links=[slow]), "link").state == "ok"
    links = [{**slow, "control": False}, {"kind": "modbus-server", "port": 0}]
    assert row(checked(tmp_path, links=links, stations=TRIGGERED), "link", "modbus-tcp").state == "ok"


@pytest.mark.parametrize(
    ("read_ms", "baud", "write_ms"),
    [(103.0, 4800, 185.5), (103.0, 115_200, 106.4), (3.0, None, 6.0)],
)
def test_a_write_is_foretold_from_a_read(read_ms: float, baud: int | None, write_ms: float) -> None:
    """On a serial line from bytes and speed (measured at 4800 baud: 103 ms and 186 ms), else twice a read."""
    serial = ModbusRtuConfig(kind="modbus-rtu", device="/dev/ttyS9", baud=baud or 300)
    link = serial if baud else ModbusTcpConfig(kind="modbus-tcp", host="h")
    between_ms = max(read_ms, link.poll_ms) + write_ms + read_ms
    assert blind_ms(link, read_ms) == pytest.approx(between_ms, abs=0.1)


@pytest.mark.parametrize(
    "settings", [{"links": [{"kind": "modbus-server", "port": 0}]}, {"sinks": {"modbus": {"port": 0}}}]
)
def test_a_free_running_station_without_a_deadline_is_a_warning(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Its PLC would take a verdict for current however late it came; what to set, and up to what, is said."""
    found = row(checked(tmp_path, **settings), "station")
    assert (found.state, "however late" in found.found) == ("warn", True), found
    assert "set deadline_ms" in found.advice
    assert "at most stale_ms (1000)" in found.advice


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"deadline_ms": 400}, "free-run, answers within 400 ms of the picture"),
        ({"stations": [{"id": "st1", "deadline_ms": 300}]}, "free-run, answers within 300 ms of the picture"),
        ({"stations": [{"id": "st1", "mode": "triggered"}]}, "triggered, answers within 1000 ms of the trigger"),
    ],
)
def test_a_station_with_a_deadline_is_told_with_it(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    """That of the line counts, and a triggered station always has one."""
    found = row(checked(tmp_path, links=[{"kind": "modbus-server", "port": 0}], **settings), "station")
    assert (found.state, found.found) == ("ok", told)


def test_a_line_without_a_plc_needs_no_deadline(tmp_path: Path) -> None:
    """Records say when a verdict was given; nobody acts on it."""
    assert not [one for one in checked(tmp_path).findings if one.area == "station"]


def test_records_need_their_folder(tmp_path: Path) -> None:
    """The line makes no folder for records, and the check says so."""
    found = row(checked(tmp_path, sinks={"records": {"csv": "nowhere/r.csv"}}), "sink")
    assert (found.state, "make it" in found.advice) == ("fail", True)


def test_an_archive_needs_its_free_space(tmp_path: Path) -> None:
    """Below min_free_bytes nothing would be kept; below max_bytes it cannot grow as allowed."""
    sinks = {"archive": {"dir": "kept", "min_free_bytes": 1 << 60}}
    assert row(checked(tmp_path, sinks=sinks), "sink").state == "fail"
    sinks = {"archive": {"dir": "kept", "min_free_bytes": 0, "max_bytes": 1 << 60}}
    assert row(checked(tmp_path, sinks=sinks), "sink").state == "warn"


def test_a_webhook_is_dialled_and_nothing_is_posted(tmp_path: Path) -> None:
    """The receiver sees a connection without a request."""
    asked: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)

    with ExitStack() as stack:
        server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Receiver))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}/records"
        report = checked(tmp_path, sinks={"webhook": {"url": url}})
    states = {one.what: one.state for one in report.findings if one.area == "sink"}
    assert states == {"webhook.outbox": "ok", "webhook": "ok"}
    assert asked == []


def test_a_broker_that_is_not_there_or_silent_fails(tmp_path: Path, silent_port: int) -> None:
    """Neither a dead port nor one that says nothing passes for a broker."""
    pytest.importorskip("paho.mqtt")
    for port in (free_port(), silent_port):
        sinks = {"mqtt": {"host": "127.0.0.1", "port": port, "timeout_s": 0.5}}
        assert row(checked(tmp_path, sinks=sinks), "sink", "mqtt 127").state == "fail"


def test_a_certificate_that_is_none_fails(tmp_path: Path) -> None:
    """The real OPC UA server is started where no PLC looks, with its certificate."""
    pytest.importorskip("asyncua")
    link = {"kind": "opcua-server", "port": 0, "certificate": "c.pem", "private_key": "k.pem"}
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("no certificate")
    found = row(checked(tmp_path, links=[link]), "link")
    assert (found.state, "c.pem" in found.found) == ("fail", True), found


def test_clock_and_watchdog_are_hints(tmp_path: Path) -> None:
    """A line by hand without a unit still can run."""
    report = checked(tmp_path)
    assert row(report, "host", "watchdog").state in ("ok", "warn")
    assert "UTC" in row(report, "host", "clock").found
    assert not [one for one in report.findings if one.what == "priority"]  # there is no PLC to hurry for


def test_a_line_that_may_not_be_urgent_is_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this user would get, and what to do where it is nothing; silent on request."""
    links = [{"kind": "modbus-server", "port": 0}]
    for granted, state in (("SCHED_FIFO 10", "ok"), ("", "warn")):
        monkeypatch.setattr("cada_edge.runtime.check.host.probe", lambda _wanted, granted=granted: granted)
        found = row(checked(tmp_path, links=links), "host", "priority")
        assert (found.state, "cada-edge service" in found.advice) == (state, state == "warn"), found
    assert row(checked(tmp_path, links=links, plc_priority=0), "host", "priority").state == "ok"


def test_a_wrong_line_is_refused_before_anything_is_dialled(tmp_path: Path) -> None:
    """There is nothing to dial in a file with a spelling mistake."""
    with pytest.raises(ConfigError, match="bundel"):
        checked(tmp_path, bundel="x")


def test_a_dial_that_hangs_or_raises_costs_its_own_row() -> None:
    """Whatever a driver does, every dial has a finding, in their order."""

    def raises() -> Finding:
        raise ZeroDivisionError("driver")

    def hangs() -> Finding:
        never.wait()
        return good

    never, good = threading.Event(), Finding("link", "good", "ok", "there")
    dials = [
        Dial("link", "hangs", 0.2, hangs),
        Dial("link", "raises", 5, raises),
        Dial("link", "good", 5, lambda: good),
    ]
    hung, raised, fine = dial_all(dials)
    never.set()
    assert (hung.state, raised.state, fine.state) == ("fail", "fail", "ok")
    assert "ZeroDivisionError: driver" in raised.found


def test_a_refusal_is_split_into_what_and_what_to_do() -> None:
    """Our messages end with the advice; one without a semicolon is all finding."""
    assert failed("link", "x", ConfigError("port 5 is taken; use 6")).advice == "use 6"
    assert failed("link", "x", ConfigError("port 5 is taken")).advice == ""
    assert failed("link", "x", TimeoutError()).found == "TimeoutError"


def test_the_report_can_be_read_by_scripts() -> None:
    """JSON holds every field, and whether the line is ready."""
    facts = json.loads(json.dumps(LineReport((Finding("link", "x", "warn", "y"),)).to_json()))
    assert (facts["ready"], facts["findings"][0]["state"]) == (True, "warn")
