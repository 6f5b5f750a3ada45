"""Camera to signal through the real line: its sources, threads, PLC process and registers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cada_edge.bundle import Bundle
from cada_edge.errors import ConfigError, SourceError
from cada_edge.protocols import Runner, Source
from cada_edge.runtime.assembly import Taps
from cada_edge.runtime.benchmark.inspection import Progress, Target
from cada_edge.runtime.benchmark.result import STAGES, TOTAL, Samples
from cada_edge.runtime.benchmark.runner import TimedRunner, threshold_of
from cada_edge.runtime.benchmark.schedule import FILES, Begun, check_source, open_scheduled
from cada_edge.runtime.benchmark.setting import Setting
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.health import Problems
from cada_edge.runtime.line import Line, open_line
from cada_edge.runtime.records.rows import ResultRecord
from cada_edge.runtime.sinks.config import SinksConfig
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.uri import parse
from cada_edge.types import Frame, Prediction, Verdict

SILENCE_S = 15.0


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


class _Tap:
    """Lets the line be as it is and keeps the times of its frames.

    Args:
        setting: how many frames, and when they are due.
        problems: takes what goes wrong on the way.
        total: frames, those of the warm-up included.
    """

    def __init__(self, setting: Setting, problems: Problems, total: int) -> None:
        self._rate_fps, self._keep = setting.rate_fps, 2 * total
        self.notebook = Notebook()
        self.spans = list[TimedRunner]()
        self.begun: Begun = {}
        sink = IsolatedSink(self.notebook, "benchmark", problems.note, depth=4 * total, pictures=False)
        self.taps = Taps(self._time, self._open, (sink,))

    def _time(self, runner: Runner) -> Runner:
        self.spans.append(TimedRunner(runner, self._keep))
        return self.spans[-1]

    def _open(self, config: SourceConfig, base_dir: Path) -> Source:
        return open_scheduled(config, base_dir, self._rate_fps, self.begun)


def measure_line(config: LineConfig, target: Target, progress: Progress, *, with_sinks: bool = False) -> Samples:
    """Run the line of `config` for so many frames and say how long each took.

    The line is opened by what `cada-edge run` opens it with; files play over and over. Its sinks and
    its page are left out unless they are asked for: what they write, send and show would be taken for real parts.

    Raises:
        ConfigError: the line has no PLC or waits for triggers, or a source cannot be had at the rate asked for.
        SourceError: no frame came for a while, or a camera gave fewer than were asked for.
        CadaEdgeError: as `run_line`.
    """
    setting = target.setting
    check_line(config, setting)
    threshold_of(target.bundle, target.path)
    total = setting.warmup + setting.n
    problems, done = Problems(lambda _component, _message, _count: None), iter(range(1, total + 1))
    tap = _Tap(setting, problems, total)
    measured = as_set(config, target).model_copy(update={"max_frames": total})
    if not with_sinks:
        measured = measured.model_copy(update={"sinks": SinksConfig(modbus=config.sinks.modbus), "page": None})
    with ExitStack() as opened:
        for sink in tap.taps.sinks:
            opened.callback(sink.close)  # where the line does not come up
        line = open_line(
            measured, problems, opened, on_verdict=lambda _verdict: progress(next(done, total), total), taps=tap.taps
        )
        with _watched(line, tap.notebook):
            summary = line.run()
    if (seen := len(tap.notebook.frames)) < total:
        raise SourceError(
            f"no frame for {SILENCE_S:.0f} s after {seen} of {total}: "
            f"{'; '.join(summary.problems) or f'stopped by {summary.stopped_by}'}"
        )
    found = _samples(target, tap, setting)
    found.notes += list(summary.problems)
    if not found.stages:
        raise SourceError(f"none of {setting.n} frames was judged and shown: {'; '.join(summary.problems) or 'why?'}")
    _check_rate(config, setting, found)
    return found


@contextmanager
def _watched(line: Line, notebook: Notebook) -> Iterator[None]:
    """Stop the line when nothing comes any more."""
    over = threading.Event()

    def watch() -> None:
        seen = 0
        while not over.wait(SILENCE_S):
            if len(notebook.frames) == seen:
                line.stop("silence")
                return
            seen = len(notebook.frames)

    thread = threading.Thread(target=watch, name="cada-edge-benchmark-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def check_line(config: LineConfig, setting: Setting) -> None:
    """Raise `ConfigError` for a line that cannot be measured so; nothing is opened."""
    if not config.wired():
        raise ConfigError("--line: it has neither links nor sinks.modbus, so there is no signal to time; add one")
    if waiting := [one.id for one in config.stations_or_one() if one.mode == "triggered"]:
        raise ConfigError(
            f"--line: stations {waiting} wait for a PLC; time their handshake with `cada-edge plc-sim`, "
            "or measure them with mode: free-run"
        )
    for one in config.sources:
        check_source(one, config.base_dir, setting.rate_fps)


def line_facts(config: LineConfig, *, with_sinks: bool) -> dict[str, Any]:
    """What of the line is measured: its sources, without passwords, and its sinks and page beside the registers."""
    named = ["page"] if config.page is not None else []
    named += [name for name in SinksConfig.model_fields if name != "modbus" and getattr(config.sinks, name) is not None]
    return {
        "sources": {one.id: parse(one.uri, config.base_dir).label for one in config.sources},
        "sinks_measured": named if with_sinks else [],
        "sinks_left_out": [] if with_sinks else named,
    }


def _check_rate(config: LineConfig, setting: Setting, found: Samples) -> None:
    """A camera that gives less than was asked for has not been measured at that rate."""
    wanted = (setting.rate_fps or 0.0) * len(config.sources)
    slow = [one.id for one in config.sources if parse(one.uri, config.base_dir).scheme not in FILES]
    if slow and found.fps < 0.95 * wanted:
        raise SourceError(f"--rate: got {setting.rate_fps:g}, but {slow} gave {found.fps / len(config.sources):.1f}")


def _samples(target: Target, tap: _Tap, setting: Setting) -> Samples:
    found = Samples(f"{target.name}, line", {**target.facts(), "line": True})
    spans, notebook = list(tap.spans[0].spans), tap.notebook
    names = STAGES if setting.rate_fps is None else ("wait", *STAGES)
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
        begun_ns = () if setting.rate_fps is None else (tap.begun[verdict.source_id, verdict.t_capture_ns],)
        times = (verdict.t_capture_ns, *begun_ns, arrived_ns, *spans[at], verdict.t_decided_ns, shown_ns)
        for stage, start_ns, end_ns in zip(names, times[:-1], times[1:], strict=True):
            found.add(stage, end_ns - start_ns)
        found.add(TOTAL, shown_ns - verdict.t_capture_ns)
        found.starts_ns.append(verdict.t_capture_ns)
    found.seconds = (frames[-1][0].t_decided_ns - frames[0][0].t_capture_ns) / 1e9 if frames else 0.0
    if hidden:
        found.notes.append(f"{hidden} frames were not judged, or not shown by the registers")
    return found


def as_set(config: LineConfig, target: Target) -> LineConfig:
    """The line with the bundle and the settings of `target`."""
    used = target.setting
    changed = {"bundle": target.path, "backend": used.backend, "precision": used.precision, "threads": used.threads}
    return config.model_copy(update={**changed, "batch": used.batch})


def line_target(config: LineConfig, setting: Setting, path: Path | None = None) -> Target:
    """The bundle of the line, or the one at `path`, run as the line would with the changes in `setting`."""
    where = path or config.bundle
    return Target(where, Bundle.read(where), setting)
