"""A camera that shows the past: what it saw before a trigger is not given for the part after it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import write_line

from cada_edge.runtime.assembly import open_feeds
from cada_edge.runtime.check.sources import _delay_unsaid
from cada_edge.runtime.config import load_config
from cada_edge.runtime.feed import Demand

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


@pytest.mark.parametrize(
    ("unsaid", "source", "mode"),
    [
        (True, {"uri": "rtsp://camera/x"}, "triggered"),
        (True, {"uri": "v4l2:///dev/video0"}, "triggered"),
        (False, {"uri": "rtsp://camera/x", "latency_ms": 120.0}, "triggered"),
        (False, {"uri": "rtsp://camera/x"}, "free-run"),
        (False, {"uri": "aravis://GV01"}, "triggered"),
        (False, {"uri": "folder:images"}, "triggered"),
    ],
)
def test_a_triggered_camera_of_unknown_delay_is_found(
    tmp_path: Path, unsaid: bool, source: dict[str, Any], mode: str
) -> None:
    """`cada-edge check` warns of pictures that carry no time of exposure, where a PLC triggers and nobody gave it."""
    stations = [{"id": "st1", "mode": mode}]
    links = [{"kind": "modbus-server", "port": 0}]
    config = load_config(write_line(tmp_path, sources=[source], stations=stations, links=links))
    assert _delay_unsaid(config, config.sources[0]) is unsaid
