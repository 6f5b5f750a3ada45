from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from plc_kit import options
from runtime_kit import (
    THRESHOLD,
    Plc,
    make_bundle,
    make_frame,
    picture,
    tiny_model,
    wait_until,
    write_line,
)

from cada_edge.bundle import MODEL, Bundle
from cada_edge.errors import BundleIntegrityError, EngineError, SourceError
from cada_edge.imaging import write_png
from cada_edge.protocols import Source
from cada_edge.runtime.assembly import how
from cada_edge.runtime.config import load_config
from cada_edge.runtime.feed import Demand, Feeds
from cada_edge.runtime.health import LineSummary, Problems
from cada_edge.runtime.judge import Judge
from cada_edge.runtime.line import Line, run_line
from cada_edge.runtime.links.config import ModbusServerConfig
from cada_edge.runtime.model import Model
from cada_edge.runtime.plc.wire import Setup, StationSetup
from cada_edge.runtime.registers import OfflineReason, ResultFlag, StatusFlag
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.runtime.stations import Stations
from cada_edge.types import Frame, Prediction, UInt8Array, Verdict

REST = {"id": "b", "sources": ["x"]}
Connect = Callable[[int], Plc]


def quiet(*_: object) -> None:
    """Problems are read from the summary here."""


def run(config: Path) -> tuple[LineSummary, list[Verdict]]:
    """The summary and every verdict of a line.yaml."""
    verdicts: list[Verdict] = []
    return run_line(load_config(config), verdicts.append, quiet), verdicts


class Scripted:
    """A source that plays frames and then ends, breaks or waits."""

    def __init__(self, frames: list[Frame], then: Exception | threading.Event | None = None) -> None:
        self._frames, self._then, self.lost = frames, then, False

    def frames(self) -> Iterator[Frame]:
        """Play them."""
        yield from self._frames
        if isinstance(self._then, Exception):
            raise self._then
        if self._then is not None:
            self.lost = True
            self._then.wait(30)

    def healthy(self) -> bool:
        """True until it waits."""
        return not self.lost

    def close(self) -> None:
        """Stop waiting."""
        if isinstance(self._then, threading.Event):
            self._then.set()


class Paused(Scripted):
    """A source that is healthy while it waits for its first frame, until closed."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__(frames)
        self._go = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """Wait, then play them."""
        self._go.wait(30)
        yield from self._frames

    def go(self) -> None:
        """Play."""
        self._go.set()

    def close(self) -> None:
        """Stop waiting."""
        self.go()


class Hanging(OrtRunner):
    """A runner whose device hangs on bright pictures until told to go on."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, 1)
        self.go = threading.Event()

    def infer(self, batch: UInt8Array) -> Prediction:
        """Wait at a bright picture."""
        if batch.max() == 255:
            self.go.wait(30)
        return super().infer(batch)


class Counting(Hanging):
    """A runner that hangs on bright pictures and keeps how many came in each call."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.sizes = list[int]()

    def infer(self, batch: UInt8Array) -> Prediction:
        """Note it first."""
        self.sizes.append(len(batch))
        return super().infer(batch)


def line(*sources: Source, runner: OrtRunner | None = None, **settings: Any) -> Line:
    """A line over sources made here."""
    judge = Judge(runner or OrtRunner(make_bundle(), 1), THRESHOLD)
    named = [(f"cam{index}", source) for index, source in enumerate(sources)]
    return Line(Model(judge), Feeds(named), problems=Problems(quiet), **settings)


def frames(*levels: int) -> list[Frame]:
    """Frames of the given brightness."""
    return [make_frame(level, index) for index, level in enumerate(levels)]


def test_a_line_judges_a_folder(tmp_path: Path) -> None:
    """Each picture gets one verdict, in order, and every record agrees with it."""
    config = write_line(
        tmp_path, sinks={"records": {"jsonl": "v.jsonl", "csv": "v.csv"}, "rejects": {"dir": "rejects"}}
    )
    summary, verdicts = run(config)
    assert [v.status for v in verdicts] == ["ok", "ng", "ok", "ng"]
    records = [json.loads(text) for text in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(r["frame_id"], r["status"], r["score"]) for r in records] == [
        (v.frame_id, v.status, v.score) for v in verdicts
    ]
    assert (summary.frames, summary.ok, summary.ng, summary.stopped_by, summary.problems) == (4, 2, 2, "end", ())
    assert len(list((tmp_path / "rejects").iterdir())) == 4


def test_a_broken_picture_is_a_reject_not_the_end(tmp_path: Path) -> None:
    """A damaged file in the folder is undecided; its neighbours are judged."""
    config = write_line(tmp_path)
    (tmp_path / "images" / "1.png").write_bytes(b"")
    _, verdicts = run(config)
    assert [v.status for v in verdicts] == ["ok", "undecided", "ok", "ng"]


def test_without_a_threshold_no_part_passes(tmp_path: Path) -> None:
    """An uncalibrated bundle runs, and every verdict is undecided."""
    summary, _ = run(write_line(tmp_path, make_bundle(threshold=None)))
    assert (summary.ok, summary.ng, summary.undecided) == (0, 0, 4)


def test_a_model_without_numbers_passes_nothing(tmp_path: Path) -> None:
    """NaN scores are undecided throughout."""
    summary, _ = run(write_line(tmp_path, make_bundle(tiny_model(nan=True))))
    assert summary.undecided == 4


def test_an_impossible_deadline_passes_nothing(tmp_path: Path) -> None:
    """With a deadline no computer meets, every verdict is late and undecided."""
    summary, _ = run(write_line(tmp_path, deadline_ms=0.0001))
    assert (summary.ok, summary.undecided, summary.late) == (0, 4, 4)


def test_a_line_stops_after_max_frames(tmp_path: Path) -> None:
    """An endless source is cut off at the number asked for."""
    config = write_line(tmp_path, max_frames=7, sources=[{"uri": "folder:images?loop=1"}])
    summary, verdicts = run(config)
    assert (summary.frames, len(verdicts), summary.stopped_by) == (7, 7, "max_frames")


def test_several_sources_are_judged_to_their_ends(tmp_path: Path) -> None:
    """Two folders are both judged, every picture of each."""
    sources = [{"uri": "folder:images", "id": "top"}, {"uri": "folder:images", "id": "side"}]
    _, verdicts = run(write_line(tmp_path, sources=sources))
    assert sorted(v.source_id for v in verdicts) == ["side"] * 4 + ["top"] * 4


def test_several_sources_take_turns(tmp_path: Path) -> None:
    """Of two folders that never end neither waits for the other."""
    sources = [{"uri": "folder:images?loop=1", "id": "top"}, {"uri": "folder:images?loop=1", "id": "side"}]
    _, verdicts = run(write_line(tmp_path, sources=sources, max_frames=200))
    assert {v.source_id for v in verdicts} == {"top", "side"}


def test_what_waits_of_several_sources_is_judged_in_one_call() -> None:
    """While the model is at one picture, two cameras bring theirs: the next call takes both, and no more."""
    shots = [[make_frame(level, name=f"cam{index}")] for index, level in enumerate((255, 0, 128))]
    first, second, third = Scripted(shots[0]), Paused(shots[1]), Paused(shots[2])
    runner, feeds = Counting(make_bundle()), Feeds([("cam0", first), ("cam1", second), ("cam2", third)])
    verdicts = list[Verdict]()
    one = Line(Model(Judge(runner, THRESHOLD), batch=2), feeds, problems=Problems(quiet), on_verdict=verdicts.append)
    running = threading.Thread(target=one.run)
    running.start()
    wait_until(lambda: len(runner.sizes) > len(warm := [2, 2, 1, 1]) and runner.sizes[: len(warm)] == warm)
    second.go()
    third.go()
    wait_until(lambda: feeds.waiting >= 2)
    runner.go.set()
    running.join()
    assert runner.sizes[4:] == [1, 2]
    assert sorted((one.name, one.status) for one in verdicts) == [("cam0", "ng"), ("cam1", "ok"), ("cam2", "ng")]


@pytest.mark.parametrize(
    ("settings", "batch"),
    [
        ({}, 1),
        ({"stations": [{"id": "a", "mode": "triggered"}]}, 1),
        ({"batch": 2, "stations": [{"id": "a", "mode": "triggered", "sources": ["cam0", "cam1"]}, REST]}, 2),
        ({"stations": [{"id": one, "sources": [one]} for one in ("cam0", "cam1", "x")]}, 1),
        ({"backend": "openvino", "stations": [{"id": "a", "mode": "triggered"}]}, 1),
        ({"backend": "tensorrt"}, 3),
        ({"batch": 8}, 8),
        ({"backend": "tensorrt", "batch": 2}, 2),
    ],
)
def test_how_many_are_judged_in_one_call(tmp_path: Path, settings: dict[str, Any], batch: int) -> None:
    """On a processor one, on an engine those of every source; what the line says, anywhere."""
    sources = [{"uri": "folder:images", "id": one} for one in ("cam0", "cam1", "x")]
    links = [{"kind": "modbus-server", "port": 0, "station": one["id"]} for one in settings.get("stations", [])]
    path = write_line(tmp_path, **{"sources": sources, "links": links, **settings})
    assert how(load_config(path)).batch == batch


def test_a_sink_on_a_full_disk_harms_no_other(tmp_path: Path) -> None:
    """JSON lines cannot be written; CSV holds every verdict and the summary names the problem."""
    config = write_line(tmp_path, sinks={"records": {"jsonl": "/dev/full", "csv": "v.csv"}})
    summary, verdicts = run(config)
    assert [v.status for v in verdicts] == ["ok", "ng", "ok", "ng"]
    assert len((tmp_path / "v.csv").read_text().splitlines()) == 5
    assert any("No space left" in problem and "4 times" in problem for problem in summary.problems)


def test_a_callback_that_fails_harms_nothing(tmp_path: Path) -> None:
    """An error in the user's own code is noted; every frame is judged."""

    def fail(_: Verdict) -> None:
        raise ZeroDivisionError("user code")

    summary = run_line(load_config(write_line(tmp_path)), fail, quiet)
    assert summary.frames == 4
    assert summary.problems == ("on_verdict: user code (4 times)",)


def test_a_source_that_breaks_is_told_and_the_other_goes_on() -> None:
    """One camera's error ends that camera; the summary says which, the rest is judged."""
    summary = line(Scripted(frames(0), SourceError("cable pulled")), Scripted(frames(0, 255, 0))).run()
    assert (summary.frames, summary.stopped_by) == (4, "end")
    assert summary.source_errors == ("source cam0: cable pulled",)


def test_a_warm_up_that_fails_never_goes_online() -> None:
    """A runner that cannot run is an error at start, not a stream of rejects."""
    runner = OrtRunner(make_bundle(), 1)
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        line(Scripted(frames(0)), runner=runner).run()


def test_a_changed_bundle_never_runs(tmp_path: Path) -> None:
    """One flipped byte in the bundle stops the line before anything is opened."""
    config = write_line(tmp_path)
    data = bytearray((tmp_path / "line.cada").read_bytes())
    at = data.find(make_bundle().files[MODEL]) + 100
    data[at] ^= 1
    (tmp_path / "line.cada").write_bytes(bytes(data))
    with pytest.raises(BundleIntegrityError):
        run(config)


def test_no_frame_is_judged_twice_or_forgotten(tmp_path: Path) -> None:
    """A hundred frames give a hundred verdicts with ids in order."""
    config = write_line(tmp_path)
    for index in range(100):
        write_png(tmp_path / "images" / f"x{index:03d}.png", picture(index))
    summary, verdicts = run(config)
    assert [v.frame_id for v in verdicts] == list(range(104))
    assert summary.ok + summary.ng + summary.undecided == summary.frames == 104


Open = Callable[..., Stations]


@pytest.fixture
def modbus() -> Iterator[Open]:
    """Opens a free-running station of one camera on a free Modbus port; closed at the end."""
    with ExitStack() as stack:

        def start(stale_ms: int = 60_000) -> Stations:
            station = StationSetup("st1", options(stale_ms), sources=("cam0",))
            setup = Setup((station,), (ModbusServerConfig(kind="modbus-server", port=0),), linger_ms=0)
            stations = Stations(setup, nobody, quiet)
            stack.callback(stations.close)
            return stations

        yield start


def nobody(_source: str, _demand: Demand) -> None:
    """There are no triggers here."""


def port(stations: Stations) -> int:
    """Of the Modbus server."""
    return stations.ports[0] or 0


def test_a_hung_inference_looks_dead_to_the_plc(plc: Connect, modbus: Open) -> None:
    """While the model hangs, the earlier PASS gives way to the safe state; later it recovers."""
    runner, link = Hanging(make_bundle()), modbus(stale_ms=1000)
    view, released = plc(port(link)), threading.Event()
    running = threading.Thread(
        target=line(Scripted(frames(0, 255, 0), released), runner=runner, stations=link, max_frames=3).run
    )
    running.start()
    wait_until(lambda: view.block().offline == OfflineReason.PIPELINE_STALLED)
    assert view.block().seq == 1
    assert view.block().result == ResultFlag.UNKNOWN | ResultFlag.REJECT
    runner.go.set()
    running.join()


def test_a_lost_camera_takes_the_line_offline(plc: Connect, modbus: Open) -> None:
    """A camera that gives nothing any more: heartbeat goes on, Online and PASS fall."""
    link, over = modbus(), threading.Event()
    view, one = plc(port(link)), line(Scripted(frames(0), over), stations=link)
    running = threading.Thread(target=one.run)
    running.start()
    wait_until(lambda: view.block().offline == OfflineReason.SOURCE_LOST)
    block = view.block()
    assert (block.seq, block.result) == (1, ResultFlag.UNKNOWN | ResultFlag.REJECT)
    assert StatusFlag.ONLINE not in block.flags
    wait_until(lambda: view.block().heartbeat > block.heartbeat)
    one.stop()
    running.join()


def test_a_broken_source_takes_the_line_offline(plc: Connect, modbus: Open) -> None:
    """While a source of another place still lives, the PLC sees that its own is gone."""
    link, waiting = modbus(), Paused(frames(0))
    view, one = plc(port(link)), line(Scripted(frames(0), SourceError("cable pulled")), waiting, stations=link)
    running = threading.Thread(target=one.run)
    running.start()
    wait_until(lambda: view.block().offline == OfflineReason.SOURCE_LOST)
    assert StatusFlag.ONLINE not in view.block().flags
    one.stop()
    running.join()


def test_nobody_to_tell_a_fault_does_not_stop_the_line() -> None:
    """With standard error gone the frames are judged and the fault is in the summary."""

    def gone(*_: object) -> None:
        raise BrokenPipeError

    judge = Judge(OrtRunner(make_bundle(), 1), THRESHOLD)
    broken, whole = Scripted([], SourceError("cable pulled")), Scripted(frames(0, 255))
    summary = Line(Model(judge), Feeds([("a", broken), ("b", whole)]), problems=Problems(gone)).run()
    assert (summary.frames, summary.source_errors) == (2, ("source a: cable pulled",))


def test_a_plc_process_that_dies_does_not_stop_the_line(modbus: Open) -> None:
    """With the PLC process killed every frame is still judged, and the summary tells."""
    link = modbus()
    link._plc._process.kill()
    link._plc._process.wait(10)
    summary = line(Scripted(frames(0, 255, 0)), stations=link).run()
    assert summary.frames == 3
    assert any(problem.startswith("PLC: the PLC process") for problem in summary.problems)
