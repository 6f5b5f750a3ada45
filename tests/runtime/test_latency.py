"""A camera that shows the past: what it saw before a trigger is not given for the part after it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import write_line

from cada_edge.runtime.assembly import open_feeds
from cada_edge.runtime.check import sources
from cada_edge.runtime.check.line import check_line
from cada_edge.runtime.check.sources import delay_advice
from cada_edge.runtime.config import load_config
from cada_edge.runtime.feed import Demand
from cada_edge.runtime.sources.clock import DeviceClock

NS_PER_MS = 1_000_000


@pytest.mark.parametrize("latency_ms", [0.0, 60.0])
def test_what_arrives_within_the_latency_after_a_trigger_is_passed_over(tmp_path: Path, latency_ms: float) -> None:
    """Of a source as line.yaml describes it, the first picture given for a part arrived at least that long after."""
    config = load_config(write_line(tmp_path, sources=[{"uri": "folder:images?loop=1", "latency_ms": latency_ms}]))
    with ExitStack() as stack:
        feeds = open_feeds(config, stack)
        trigger_ns = time.monotonic_ns()
        feeds.ask("cam1", Demand(7, trigger_ns))
        (arrival,) = feeds.take(20.0)
    assert arrival.frame is not None
    assert arrival.frame.part == 7
    assert arrival.frame.t_capture_ns - trigger_ns >= latency_ms * NS_PER_MS


RTSP, V4L2, GIGE = {"uri": "rtsp://camera/x"}, {"uri": "v4l2:///dev/video0"}, {"uri": "aravis://GV01"}
ASIDE = "or 1 where parts stand still"
TRIGGER = "trigger: software or hardware"


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        (RTSP, ASIDE),
        (V4L2, ASIDE),
        ({"uri": "csi://0"}, ASIDE),
        ({"uri": "gst://videotestsrc"}, ASIDE),
        (GIGE, TRIGGER),
        ({"uri": "pylon://24012345"}, TRIGGER),
        ({"uri": "gentl:maker.cti"}, TRIGGER),
    ],
)
def test_a_camera_that_runs_freely_at_a_triggered_station_is_warned_of(
    tmp_path: Path, source: dict[str, Any], advice: str
) -> None:
    """Whatever clock it has, its constant delay is unknown: `cada-edge check` says to trigger it, or to give that."""
    told = advised(tmp_path, source)
    assert "exposure, readout and transfer" in told
    assert advice in told


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        ({**RTSP, "latency_ms": 120.0}, "triggered"),
        ({**GIGE, "latency_ms": 60.0}, "triggered"),
        ({**GIGE, "trigger": "software"}, "triggered"),
        ({**GIGE, "trigger": "hardware", "trigger_line": "Line1"}, "triggered"),
        (RTSP, "free-run"),
        (GIGE, "free-run"),
        ({"uri": "folder:images"}, "triggered"),
        ({"uri": "video:clip.mp4"}, "triggered"),
    ],
)
def test_no_other_source_is_warned_of(tmp_path: Path, source: dict[str, Any], mode: str) -> None:
    """A delay that was given, a camera that is triggered, free run, and files: nothing to say."""
    assert advised(tmp_path, source, mode) == ""


def advised(folder: Path, source: dict[str, Any], mode: str = "triggered") -> str:
    """What is said of a source at a station of that mode."""
    stations, links = [{"id": "st1", "mode": mode}], [{"kind": "modbus-server", "port": 0}]
    config = load_config(write_line(folder, sources=[source], stations=stations, links=links))
    return delay_advice(config, config.sources[0])


def test_what_is_said_of_the_delay_stands_beside_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of a source is a warning with both, also where fewer frames came than were wanted."""
    monkeypatch.setattr(sources, "delay_advice", lambda _config, _source: "set latency_ms")
    found = [one for one in check_line(write_line(tmp_path), frames=9, timeout_s=6.0).findings if one.area == "source"]
    assert [one.state for one in found] == ["warn"]
    assert "9 were wanted" in found[0].found
    assert "trigger: free without latency_ms" in found[0].found
    assert found[0].advice.endswith("; set latency_ms")


def test_a_constant_delay_cannot_be_seen_by_the_clock_of_a_camera() -> None:
    """Each picture arrives 60 ms after its exposure: what is called capture is the arrival, not the exposure."""
    clock, delay_ns = DeviceClock(), 60 * NS_PER_MS
    for exposed_ns in range(10**12, 10**12 + 40 * 50 * NS_PER_MS, 50 * NS_PER_MS):
        device_ns, arrived_ns = exposed_ns - 10**9, exposed_ns + delay_ns
        assert clock.capture_ns(device_ns, arrived_ns) == arrived_ns
