"""A feed on a camera that is lost and comes back."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from runtime_kit import picture, wait_until

from cada_edge.errors import ConfigError, SourceError
from cada_edge.runtime.feed import Arrival, Demand, Feed, Feeds
from cada_edge.runtime.sources.camera import CameraOptions, CameraSource
from cada_edge.runtime.sources.device import Shot

QUICK = CameraOptions(stall_s=0.4, back_off_s=0.01, back_off_max_s=0.02)


class Camera:
    """A camera of a hundred pictures a second whose cable the test pulls."""

    def __init__(self) -> None:
        self.plugged, self.frozen, self.opened = True, False, 0

    def open(self) -> Camera:
        """As what opens a device."""
        if not self.plugged:
            raise SourceError("nobody answers")
        self.opened += 1
        return self

    def grab(self, timeout_s: float) -> Shot | None:
        """As a device."""
        time.sleep(min(timeout_s, 0.01))
        if not self.plugged:
            raise SourceError("the cable was pulled")
        if self.frozen:
            return None
        now_ns = time.monotonic_ns()
        return Shot(lambda: picture(7), now_ns, now_ns)

    def trigger(self) -> None:
        """As a device: it runs by itself."""
        raise SourceError("it runs by itself")

    def close(self) -> None:
        """As a device."""


@pytest.fixture
def camera() -> Camera:
    """One that is plugged in."""
    return Camera()


@pytest.fixture
def inbox() -> queue.Queue[Arrival]:
    """Of a line."""
    return queue.Queue()


@pytest.fixture
def feed(camera: Camera, inbox: queue.Queue[Arrival]) -> Iterator[Feed]:
    """One that looks through the camera."""
    one = Feed(CameraSource(camera.open, "bench", "cam1", QUICK), "cam1", inbox)
    yield one
    one.close()


def test_a_lost_camera_comes_back_although_nobody_asks_for_a_picture(
    camera: Camera, feed: Feed, inbox: queue.Queue[Arrival]
) -> None:
    """A station without its camera takes no trigger; the camera is opened again without one, and the next is served."""
    camera.plugged = False
    feed.ask(Demand(1, time.monotonic_ns()))
    lost = inbox.get(timeout=10).frame
    assert lost is not None
    assert (lost.status, lost.part) == ("incomplete", 1)
    assert not feed.healthy()
    camera.plugged = True
    wait_until(feed.healthy)
    assert inbox.empty()  # what came meanwhile is nobody's
    asked_ns = time.monotonic_ns()
    feed.ask(Demand(2, asked_ns))
    frame = inbox.get(timeout=10).frame
    assert frame is not None
    assert (frame.status, frame.part) == ("ok", 2)
    assert frame.t_capture_ns >= asked_ns


def test_a_feed_whose_camera_stays_away_can_be_closed(camera: Camera, feed: Feed, inbox: queue.Queue[Arrival]) -> None:
    """Closing ends the waiting for a camera that never comes back."""
    camera.plugged = False
    feed.ask()
    inbox.get(timeout=10)
    feed.close()
    end = inbox.get(timeout=10)
    assert end.frame is None
    assert end.error is None


@pytest.mark.parametrize("how", ["pulled", "frozen"])
def test_a_camera_lost_while_nobody_asks_is_known_and_looked_for(
    camera: Camera, feed: Feed, inbox: queue.Queue[Arrival], how: str
) -> None:
    """A station that waits for a trigger shall not promise to be ready without its camera."""
    wait_until(feed.healthy)
    camera.plugged, camera.frozen = how != "pulled", how == "frozen"
    wait_until(lambda: not feed.healthy())
    wait_until(
        lambda: feed.trouble == {"pulled": "the cable was pulled", "frozen": "no picture for 0.4 s (stall_s)"}[how]
    )
    camera.plugged, camera.frozen = True, False
    wait_until(feed.healthy)
    assert inbox.empty()
    asked_ns = time.monotonic_ns()
    feed.ask(Demand(1, asked_ns))
    frame = inbox.get(timeout=10).frame
    assert frame is not None
    assert (frame.status, frame.part) == ("ok", 1)
    assert frame.t_capture_ns >= asked_ns


def test_a_camera_that_is_off_at_the_start_is_looked_for(camera: Camera, inbox: queue.Queue[Arrival]) -> None:
    """Where the line may run without it, it counts as lost until it gives its first picture."""
    camera.plugged = False
    with pytest.raises(SourceError, match="nobody answers"):
        CameraSource(camera.open, "bench", "cam1", QUICK)
    feed = Feed(CameraSource(camera.open, "bench", "cam1", replace(QUICK, required=False)), "cam1", inbox)
    assert not feed.healthy()
    camera.plugged = True
    wait_until(feed.healthy)
    feed.ask(Demand(1, time.monotonic_ns()))
    frame = inbox.get(timeout=10).frame
    feed.close()
    assert frame is not None
    assert (frame.status, frame.part) == ("ok", 1)


def test_a_wrong_setting_is_an_error_at_the_start_all_the_same() -> None:
    """It will not come right by itself."""

    def refuse() -> Camera:
        raise ConfigError("no such pixel format")

    with pytest.raises(ConfigError, match="no such pixel format"):
        CameraSource(refuse, "bench", "cam1", replace(QUICK, required=False))


def test_a_signal_at_the_end_of_a_time_out_leaves_nobody_waiting() -> None:
    """A line that is told to stop, or to read its model again, must not stand still for ever."""
    feeds = Feeds([])
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        for _ in range(200):  # with CPython 3.11's SimpleQueue a few dozen were enough
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            assert feeds.take(0.001) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Single(Camera):
    """A camera that gives one picture whenever the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.shots: queue.Queue[Shot] = queue.Queue()

    def put(self) -> None:
        """A picture arrives now."""
        self.shots.put(super().grab(0) or pytest.fail("no picture"))

    def grab(self, timeout_s: float) -> Shot | None:
        """As a device."""
        with suppress(queue.Empty):
            return self.shots.get(timeout=timeout_s)
        return None


def grabbers() -> int:
    """Threads that read a camera."""
    return sum(thread.name == "cada-edge-grabber" for thread in threading.enumerate())


def test_the_picture_by_which_a_camera_comes_back_answers_a_trigger_before_it(
    inbox: queue.Queue[Arrival],
) -> None:
    """A part was triggered while the lost camera was looked for: its first picture is the part's."""
    camera = Single()
    camera.put()
    feed = Feed(CameraSource(camera.open, "bench", "cam1", replace(QUICK, first_s=10.0)), "cam1", inbox)
    wait_until(lambda: camera.opened == 2 and grabbers() == 1)  # it stood still, and is being read anew
    asked_ns = time.monotonic_ns()
    feed.ask(Demand(1, asked_ns))
    camera.put()
    frame = inbox.get(timeout=10).frame
    feed.close()
    assert frame is not None
    assert (frame.status, frame.part) == ("ok", 1)


def test_the_reason_of_a_loss_is_forgotten_with_it(camera: Camera, feed: Feed, inbox: queue.Queue[Arrival]) -> None:
    """Another loss has another reason."""
    wait_until(feed.healthy)
    camera.plugged = False
    wait_until(lambda: feed.trouble == "the cable was pulled")
    camera.plugged = True
    wait_until(feed.healthy)
    feed.ask(Demand(1, time.monotonic_ns()))
    inbox.get(timeout=10)
    assert not feed.trouble
