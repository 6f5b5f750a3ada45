"""Camera to signal through the real line: its sources, threads, PLC process and registers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from cada_edge.bundle import Bundle
from cada_edge.errors import ConfigError, SourceError
from cada_edge.protocols import Source
from cada_edge.runtime.assembly import open_feeds, open_sinks, open_stations
from cada_edge.runtime.benchmark.inspection import Progress, Target
from cada_edge.runtime.benchmark.result import TOTAL, Samples
from cada_edge.runtime.benchmark.runner import TimedRunner, open_runner, threshold_of
from cada_edge.runtime.benchmark.setting import Setting
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.drift import DriftMonitor, Reference
from cada_edge.runtime.feed import Feeds
from cada_edge.runtime.health import Problems
from cada_edge.runtime.judge import Judge
from cada_edge.runtime.line import Line
from cada_edge.runtime.model import Model
from cada_edge.runtime.records.rows import ResultRecord
from cada_edge.runtime.registers import model_checksum
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.runtime.sources.folder import FolderSource
from cada_edge.runtime.sources.uri import parse
from cada_edge.types import Frame, Prediction, Verdict

FIRST_FRAME_S = 15.0


class ScheduledSource:
    """A folder's pictures, each captured at its time of a fixed schedule, however late it is fetched."""

    def __init__(self, source: FolderSource, rate_fps: float) -> None:
        self._source, self._period_ns = source, round(1e9 / rate_fps)
        self._stop = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """The pictures, for ever."""
        start_ns, frames = time.monotonic_ns(), self._source.frames()
        for number in itertools.count(1):
            due_ns = start_ns + number * self._period_ns
            if self._stop.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9)):
                return
            frame = next(frames, None)  # read after it was due: that takes part of its time
            if frame is None:
                return
            yield replace(frame, t_capture_ns=due_ns, t_arrival_ns=max(time.monotonic_ns(), due_ns))

    def healthy(self) -> bool:
        """Until `close`."""
        return not self._stop.is_set()

    def close(self) -> None:
        """End `frames`."""
        self._stop.set()
        self._source.close()


class Notebook:
    """A sink that keeps the times of every frame."""

    def __init__(self) -> None:
        self.frames: list[tuple[Verdict, int]] = []
        self.shown_ns: dict[int, int | None] = {}

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Keep when the frame came and was decided."""
        del prediction
        self.frames.append((verdict, frame.t_arrival_ns))

    def result(self, record: ResultRecord) -> None:
        """Keep when the registers showed it."""
        if record.t_decided_ns is not None:
            self.shown_ns[record.t_decided_ns] = record.t_published_ns

    def drift(self, report: object) -> None:
        """Nothing to keep."""

    def healthy(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Nothing is open."""


def measure_line(config: LineConfig, target: Target, progress: Progress) -> Samples:
    """Run the line of `config` for so many frames and say how long each took.

    Raises:
        ConfigError: the line has no PLC, waits for triggers, or its source is slower than the rate asked for.
        SourceError: no frame came.
        CadaEdgeError: as `run_line`.
    """
    setting = target.setting
    _check(config, setting)
    threshold_of(target.bundle, target.path)
    total = setting.warmup + setting.n
    notebook, problems = Notebook(), Problems(lambda _component, _message, _count: None)
    with ExitStack() as opened:
        runner = TimedRunner(open_runner(setting, target.bundle, target.path), keep=2 * total)
        opened.callback(runner.close)
        sink = IsolatedSink(notebook, "benchmark", problems.note, depth=4 * total, pictures=False)
        opened.callback(sink.close)
        line = _line(
            config, target, runner, sink=sink, problems=problems, progress=progress, total=total, opened=opened
        )
        dog = threading.Timer(FIRST_FRAME_S, _stop_unfed, (line, notebook))
        opened.callback(dog.cancel)
        dog.start()
        summary = line.run()
    if not notebook.frames:
        raise SourceError(f"no frame within {FIRST_FRAME_S:.0f} s: {'; '.join(summary.problems) or 'no reason known'}")
    found = _samples(target, notebook, list(runner.spans), setting)
    found.notes += list(summary.problems)
    _check_rate(config, setting, found)
    return found


def _line(
    config: LineConfig, target: Target, runner: TimedRunner, *, sink: IsolatedSink, problems: Problems,
    progress: Progress, total: int, opened: ExitStack,
) -> Line:  # fmt: skip
    threshold = threshold_of(target.bundle, target.path)
    model = Model(
        Judge(runner, threshold, config.deadline_ms), target.bundle,
        checksum=model_checksum(target.bundle.sha256, threshold.value),
        drift=DriftMonitor(Reference.of(target.bundle)), batch=target.setting.batch, close=runner.close,
    )  # fmt: skip
    feeds = _feeds(config, target.setting, opened)
    stations = open_stations(config, feeds.ask, partial(problems.note, "PLC"), opened)
    sinks = [*open_sinks(config, target.bundle, problems.note, opened), sink]
    done = iter(range(1, total + 1))
    return Line(
        model, feeds, stations, sinks, problems=problems, max_frames=total,
        on_verdict=lambda _verdict: progress(next(done, total), total),
    )  # fmt: skip


def _feeds(config: LineConfig, setting: Setting, opened: ExitStack) -> Feeds:
    """The line's own sources; folders play for ever and, with a rate, by its schedule."""
    if setting.rate_fps is None and not any(_is_folder(config, one.uri) for one in config.sources):
        return open_feeds(config, opened)
    sources: list[tuple[str, Source]] = []
    for one in config.sources:
        address = parse(one.uri, config.base_dir)
        folder = FolderSource(address.path, one.id, None, loop=True)
        source: Source = folder if setting.rate_fps is None else ScheduledSource(folder, setting.rate_fps)
        opened.callback(source.close)
        sources.append((one.id, source))
    feeds = Feeds(sources)
    opened.callback(feeds.close)
    return feeds


def _stop_unfed(line: Line, notebook: Notebook) -> None:
    if not notebook.frames:
        line.stop("no frame")


def _is_folder(config: LineConfig, uri: str) -> bool:
    return parse(uri, config.base_dir).scheme == "folder"


def _check(config: LineConfig, setting: Setting) -> None:
    if not config.wired():
        raise ConfigError("--line: it has neither links nor sinks.modbus, so there is no signal to time; add one")
    if waiting := [one.id for one in config.stations_or_one() if one.mode == "triggered"]:
        raise ConfigError(f"--line: stations {waiting} wait for triggers; measure them with mode: free-run")
    folders = [_is_folder(config, one.uri) for one in config.sources]
    if any(folders) and not all(folders):
        raise ConfigError("--line: folders and cameras are mixed; measure either alone")
    for one in config.sources:
        fps = parse(one.uri, config.base_dir).options.get("fps")
        if setting.rate_fps is not None and fps is not None and setting.rate_fps > float(fps):
            raise ConfigError(f"--rate: got {setting.rate_fps:g}, but source {one.id} gives {fps} frames a second")


def _check_rate(config: LineConfig, setting: Setting, found: Samples) -> None:
    """A camera that gives less than was asked for has not been measured at that rate."""
    wanted = (setting.rate_fps or 0.0) * len(config.sources)
    slow = [one.id for one in config.sources if not _is_folder(config, one.uri)]
    if slow and found.fps < 0.95 * wanted:
        raise ConfigError(f"--rate: got {setting.rate_fps:g}, but {slow} gave {found.fps / len(config.sources):.1f}")


def _samples(target: Target, notebook: Notebook, spans: list[tuple[int, int]], setting: Setting) -> Samples:
    found = Samples(f"{target.name}, line", {**target.facts(), "line": True})
    frames = notebook.frames[setting.warmup :]
    at, hidden = 0, 0
    for verdict, arrived_ns in frames:
        found.verdicts[verdict.status] = found.verdicts.get(verdict.status, 0) + 1
        shown_ns = notebook.shown_ns.get(verdict.t_decided_ns)
        while at + 1 < len(spans) and spans[at + 1][1] <= verdict.t_decided_ns:
            at += 1
        if shown_ns is None or spans[at][0] < arrived_ns:  # never shown, or refused unseen
            hidden += 1
            continue
        times = (verdict.t_capture_ns, arrived_ns, *spans[at], verdict.t_decided_ns, shown_ns)
        for stage, start_ns, end_ns in zip(
            ("decode", "copy", "infer", "decide", "signal"), times[:-1], times[1:], strict=True
        ):
            found.add(stage, end_ns - start_ns)
        found.add(TOTAL, shown_ns - verdict.t_capture_ns)
        found.starts_ns.append(verdict.t_capture_ns)
    found.seconds = (frames[-1][0].t_decided_ns - frames[0][0].t_capture_ns) / 1e9 if frames else 0.0
    if hidden:
        found.notes.append(f"{hidden} frames were not judged, or not shown by the registers")
    return found


def line_target(config: LineConfig, setting: Setting, path: Path | None = None) -> Target:
    """The bundle of the line, or the one at `path`, run as the line would with the changes in `setting`."""
    where = path or config.bundle
    return Target(where, Bundle.read(where), setting)
