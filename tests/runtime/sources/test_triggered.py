from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from runtime_kit import picture, wait_until

from cada_edge.errors import ConfigError, SourceError
from cada_edge.protocols import Source
from cada_edge.runtime.feed import Arrival, Demand, Feed
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.device import CameraSettings, Shot
from cada_edge.runtime.sources.triggered import HardwareTriggeredSource, SoftwareTriggeredSource
from cada_edge.runtime.sources.uri import open_source
from cada_edge.types import Frame

QUICK = CameraOptions(stall_s=0.4, back_off_s=0.01, back_off_max_s=0.02)
MS = 1_000_000


class Bench:
    """Cameras on a bench: their pictures are put by the test, or made by `answer` at each trigger."""

    def __init__(self, answer: Callable[[Bench], None] | None = None) -> None:
        self.shots: queue.Queue[Shot | None] = queue.Queue()
        self.answer, self.opened, self.closed, self.triggers, self.away = answer, 0, 0, 0, False

    def open(self) -> Bench:
        """Open, with nothing left of what was before."""
        if self.away:
            raise SourceError("still away")
        self.shots, self.opened = queue.Queue(), self.opened + 1
        return self

    def put(self, level: int = 50, captured_ns: int | None = None, *, clock: bool = False, fault: str = "") -> None:
        """A picture arrives now."""
        now_ns = time.monotonic_ns()
        device_ns = 1 if clock else None
        self.shots.put(Shot(lambda: picture(level), now_ns, captured_ns or now_ns, device_ns, fault=fault))

    def lose(self) -> None:
        """The camera is gone at the next read."""
        self.shots.put(None)

    def grab(self, timeout_s: float) -> Shot | None:
        """As a device."""
        try:
            shot = self.shots.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if shot is None:
            raise SourceError("the cable was pulled")
        return shot

    def trigger(self) -> None:
        """As a device."""
        self.triggers += 1
        if self.answer is not None:
            self.answer(self)

    def close(self) -> None:
        """As a device."""
        self.closed += 1


@pytest.fixture
def start() -> Iterator[Callable[[Bench], SoftwareTriggeredSource]]:
    """Open a source on a bench; closed at the end."""
    opened: list[SoftwareTriggeredSource] = []

    def begin(bench: Bench) -> SoftwareTriggeredSource:
        opened.append(SoftwareTriggeredSource(bench.open, "bench", "cam1", QUICK))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def level(frame: Frame) -> int:
    """The picture's grey."""
    assert frame.image is not None
    return int(frame.image[0, 0, 0])


def test_each_trigger_gives_one_frame_exposed_after_it(start: Callable[[Bench], SoftwareTriggeredSource]) -> None:
    """Ten triggers, ten pictures, each its own, none dropped."""
    source = start(Bench(lambda bench: bench.put(bench.triggers)))
    frames, seen = source.frames(), []
    for _ in range(10):
        before_ns = time.monotonic_ns()
        source.trigger()
        seen.append(next(frames))
        assert seen[-1].t_capture_ns >= before_ns
    assert [level(frame) for frame in seen] == list(range(1, 11))
    assert [(frame.frame_id, frame.drops) for frame in seen] == [(index, 0) for index in range(10)]
    assert isinstance(source, Source)


def test_a_picture_without_a_trigger_is_never_given(start: Callable[[Bench], SoftwareTriggeredSource]) -> None:
    """What a camera sends unasked is a drop; the trigger gets the picture taken for it."""
    bench = Bench(lambda bench: bench.put(99))
    source = start(bench)
    bench.put(1)
    bench.put(2)
    wait_until(bench.shots.empty)
    time.sleep(0.1)  # the picture is off the queue; let it be put aside
    source.trigger()
    frame = next(source.frames())
    assert (level(frame), frame.drops) == (99, 2)


def test_a_picture_exposed_before_the_trigger_is_never_given_for_it(
    start: Callable[[Bench], SoftwareTriggeredSource],
) -> None:
    """One that arrives after the trigger, but that the camera's clock dates before it, shows another part."""

    def stale_then_own(bench: Bench) -> None:
        now_ns = time.monotonic_ns()
        bench.put(1, now_ns - 20 * MS, clock=True)
        bench.put(2, now_ns, clock=True)

    source = start(Bench(stale_then_own))
    source.trigger()
    assert level(next(source.frames())) == 2


def test_a_picture_is_as_old_as_its_trigger(start: Callable[[Bench], SoftwareTriggeredSource]) -> None:
    """However late it arrives, a picture never looks young enough for a part triggered after its own."""
    bench = Bench()
    source = start(bench)
    before_ns = time.monotonic_ns()
    source.trigger()
    after_ns = time.monotonic_ns()
    time.sleep(0.1)
    bench.put(1)
    frame = next(source.frames())
    assert before_ns <= frame.t_capture_ns <= after_ns < frame.t_arrival_ns


def test_a_late_picture_never_reaches_the_next_part_of_a_line(
    start: Callable[[Bench], SoftwareTriggeredSource],
) -> None:
    """A part whose picture comes after the next part was triggered has lost it; the next part waits for its own."""
    bench, inbox = Bench(), queue.Queue[Arrival]()
    feed = Feed(start(bench), "cam1", inbox)
    feed.ask(Demand(1, time.monotonic_ns()))
    wait_until(lambda: bench.triggers == 1)
    feed.ask(Demand(2, time.monotonic_ns()))
    bench.put(1)
    wait_until(lambda: bench.triggers == 2)
    bench.put(2)
    arrival = inbox.get(timeout=10)
    feed.close()
    assert arrival.frame is not None
    assert (arrival.frame.part, level(arrival.frame)) == (2, 2)


def test_an_unanswered_trigger_is_incomplete_and_its_picture_never_comes_later(
    start: Callable[[Bench], SoftwareTriggeredSource],
) -> None:
    """A camera that misses a trigger is opened anew; what it sends late is nobody's."""
    bench = Bench()
    source = start(bench)
    frames = source.frames()
    source.trigger()
    frame = next(frames)
    assert (frame.status, frame.image) == ("incomplete", None)
    assert "no picture within 0.4 s" in frame.note
    bench.put(1)
    wait_until(source.healthy)
    assert (bench.opened, bench.closed) == (2, 1)
    bench.answer = lambda bench: bench.put(2)
    source.trigger()
    assert level(next(frames)) == 2


def test_a_trigger_in_haste_gets_its_own_picture(start: Callable[[Bench], SoftwareTriggeredSource]) -> None:
    """With two triggers under way and a camera without clock, the first picture is the first trigger's."""
    bench = Bench()
    source = start(bench)
    source.trigger()
    source.trigger()
    bench.put(1)
    bench.put(2)
    frame = next(source.frames())
    assert (level(frame), frame.drops) == (2, 1)


def test_an_answer_nobody_fetched_is_not_kept_for_the_next_part(
    start: Callable[[Bench], SoftwareTriggeredSource],
) -> None:
    """A line that answered its part without the picture gets the next part's picture next."""
    bench = Bench(lambda bench: bench.put(bench.triggers))
    source = start(bench)
    source.trigger()
    time.sleep(0.2)  # the answer lies ready by now, and whether or not, it must not come
    source.trigger()
    assert level(next(source.frames())) == 2


def test_a_broken_picture_answers_its_trigger(start: Callable[[Bench], SoftwareTriggeredSource]) -> None:
    """Lost packets make the part undecided at once; the camera stays open."""
    bench = Bench(lambda bench: bench.put(fault="3 packets lost"))
    source = start(bench)
    source.trigger()
    frame = next(source.frames())
    assert (frame.status, frame.note, bench.opened) == ("incomplete", "3 packets lost", 1)


def test_a_trigger_finds_no_camera_and_is_answered(start: Callable[[Bench], SoftwareTriggeredSource]) -> None:
    """A trigger while the camera is away is answered at once, with the reason."""
    bench = Bench()
    source = start(bench)
    bench.away = True
    bench.lose()
    wait_until(lambda: not source.healthy())
    source.trigger()
    frame = next(source.frames())
    assert frame.status == "incomplete"
    assert frame.note in {"the cable was pulled", "still away"}


def test_a_driver_that_raises_answers_the_trigger(start: Callable[[Bench], SoftwareTriggeredSource]) -> None:
    """Whatever a driver raises at a trigger is an incomplete frame; a picture exposed all the same is nobody's."""

    def fail(bench: Bench) -> None:
        bench.put(1)
        raise RuntimeError("write_register timeout")

    bench = Bench(fail)
    source = start(bench)
    frames = source.frames()
    source.trigger()
    assert next(frames).note == "write_register timeout"
    wait_until(source.healthy)
    bench.answer = lambda bench: bench.put(2)
    source.trigger()
    assert level(next(frames)) == 2
    assert bench.opened == 2


def test_hardware_triggers_give_every_picture_in_order() -> None:
    """Pictures wait for each other, none is left out; silence is no loss."""
    bench = Bench()
    source = HardwareTriggeredSource(bench.open, "bench", "cam1", QUICK)
    for index in range(5):
        bench.put(index, time.monotonic_ns() + 1000 * MS)
    assert [level(frame) for frame in itertools.islice(source.frames(), 5)] == list(range(5))
    time.sleep(0.6)  # longer than the stall of a free-running camera
    assert source.healthy()
    assert bench.opened == 1
    source.close()


def test_what_a_wire_asked_for_before_the_line_ran_is_not_judged() -> None:
    """Pictures of parts that passed while the model was loading are drops; the first one after them is given."""
    bench, inbox = Bench(), queue.Queue[Arrival]()
    source = HardwareTriggeredSource(bench.open, "bench", "cam1", QUICK)
    feed = Feed(source, "cam1", inbox, keeps_every=True)
    for index in range(3):
        bench.put(index)
    wait_until(lambda: source._keeper._next_id == 3)
    feed.ask()
    bench.put(3, time.monotonic_ns() + 1000 * MS)
    frame = inbox.get(timeout=10).frame
    feed.close()
    assert frame is not None
    assert (level(frame), frame.drops) == (3, 3)


def test_the_first_picture_of_a_wire_at_a_triggered_station_is_given() -> None:
    """The PLC triggers the station, then the camera: the first part has its picture however soon it was taken."""
    bench, inbox = Bench(), queue.Queue[Arrival]()
    feed = Feed(HardwareTriggeredSource(bench.open, "bench", "cam1", QUICK), "cam1", inbox, keeps_every=True)
    trigger_ns = time.monotonic_ns()
    bench.put(7, trigger_ns)
    feed.ask(Demand(part=1, after_ns=trigger_ns))
    frame = inbox.get(timeout=10).frame
    feed.close()
    assert frame is not None
    assert (level(frame), frame.part, frame.drops) == (7, 1, 0)


def test_what_a_wire_asked_for_after_a_loss_is_not_judged_before_the_line_runs() -> None:
    """Nor are pictures that a camera, back from a loss, queued before anybody asked: the next one is given."""
    bench, inbox = Bench(), queue.Queue[Arrival]()
    source = HardwareTriggeredSource(bench.open, "bench", "cam1", QUICK)
    bench.away = True
    bench.lose()
    wait_until(lambda: not source.healthy())
    feed = Feed(source, "cam1", inbox, keeps_every=True)
    bench.away = False
    wait_until(source.healthy)
    for index in range(4):
        bench.put(index)
    wait_until(lambda: source._keeper._next_id == 5)  # the loss and four pictures
    feed.ask()
    bench.put(9, time.monotonic_ns() + 1000 * MS)
    frame = inbox.get(timeout=10).frame
    feed.close()
    assert frame is not None
    assert (frame.status, level(frame)) == ("ok", 9)


def test_a_loss_that_is_over_is_not_the_answer_to_a_trigger() -> None:
    """A wire's camera was lost and is back while no part came: the next part gets its picture, the first one."""
    bench, inbox = Bench(), queue.Queue[Arrival]()
    source = HardwareTriggeredSource(bench.open, "bench", "cam1", QUICK)
    feed = Feed(source, "cam1", inbox, keeps_every=True)
    bench.lose()
    wait_until(lambda: bench.opened == 2 and source.healthy())
    trigger_ns = time.monotonic_ns()
    feed.ask(Demand(part=1, after_ns=trigger_ns))
    bench.put(7, trigger_ns)
    frame = inbox.get(timeout=10).frame
    feed.close()
    assert frame is not None
    assert (frame.status, level(frame), frame.part) == ("ok", 7, 1)


@pytest.mark.parametrize("kind", [HardwareTriggeredSource, SoftwareTriggeredSource])
def test_a_camera_that_is_off_at_the_start_is_looked_for(kind: type[HardwareTriggeredSource]) -> None:
    """Where the line may run without it, it counts as lost until it is there; a wrong setting is still an error."""
    bench, patient = Bench(), replace(QUICK, required=False)
    bench.away = True
    with pytest.raises(SourceError, match="still away"):
        kind(bench.open, "bench", "cam1", QUICK)
    source = kind(bench.open, "bench", "cam1", patient)
    assert not source.healthy()
    bench.away = False
    wait_until(source.healthy)
    source.close()

    def refuse() -> Bench:
        raise ConfigError("no such line")

    with pytest.raises(ConfigError, match="no such line"):
        kind(refuse, "bench", "cam1", patient)


def test_a_lost_hardware_triggered_camera_is_told_once_and_opened_anew() -> None:
    """The loss is one incomplete frame; then pictures come again."""
    bench = Bench()
    source = HardwareTriggeredSource(bench.open, "bench", "cam1", QUICK)
    bench.lose()
    frames = source.frames()
    assert next(frames).note == "the cable was pulled"
    wait_until(source.healthy)
    bench.put(7)
    assert level(next(frames)) == 7
    source.close()


def test_pictures_nobody_fetches_give_way_and_are_counted() -> None:
    """At most eight wait; deliveries and drops add up."""
    bench = Bench()
    source = HardwareTriggeredSource(bench.open, "bench", "cam1", QUICK)
    for index in range(21):
        bench.put(index, time.monotonic_ns() + 1000 * MS)
    wait_until(lambda: source._keeper._next_id == 21)
    with source._keeper._lock:
        pass  # the last one lies ready
    frames = list(itertools.islice(source.frames(), 8))
    assert [level(frame) for frame in frames] == list(range(13, 21))
    assert sum(1 + frame.drops for frame in frames) == 21
    source.close()


def test_a_camera_that_cannot_be_opened_is_refused() -> None:
    """The error says why."""
    bench = Bench()
    bench.away = True
    with pytest.raises(SourceError, match="still away"):
        SoftwareTriggeredSource(bench.open, "bench", "cam1", QUICK)


def test_closing_ends_a_source_that_waits() -> None:
    """`close` is noticed while no trigger comes, and the camera is released."""
    bench = Bench()
    source = SoftwareTriggeredSource(bench.open, "bench", "cam1", QUICK)
    source.close()
    assert list(source.frames()) == []
    wait_until(lambda: bench.closed == 1)
    assert not source.healthy()


def test_a_source_that_cannot_be_triggered_says_so(tmp_path: Path) -> None:
    """A trigger asked of a folder or a stream is a wrong setting, not a silent free run."""
    for uri in (str(tmp_path), "rtsp://host/stream", "gst://videotestsrc"):
        with pytest.raises(ConfigError, match="trigger cannot be set"):
            open_source(uri, settings=CameraSettings(trigger="software"))
