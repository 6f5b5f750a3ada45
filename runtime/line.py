"""The running line: sources, one model, stations, and whoever else wants the verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from cada_edge.bundle import Bundle
from cada_edge.errors import BundleError
from cada_edge.runtime.assembly import (
    ModelFiles,
    Taps,
    load_model,
    open_feeds,
    open_lookout,
    open_sinks,
    open_stations,
)
from cada_edge.runtime.changes import OnChange
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.feed import Arrival, Feed, Feeds
from cada_edge.runtime.handshake import Execute, Life, Published, Quiet
from cada_edge.runtime.health import LineSummary, Problems, Tally
from cada_edge.runtime.judge import Judgement
from cada_edge.runtime.leftover import take_in
from cada_edge.runtime.log import ChangeLog, ProblemLog, log_reload
from cada_edge.runtime.lookout import Lookout
from cada_edge.runtime.model import Model, Reloaded, Reloader, Wanted, no_reload
from cada_edge.runtime.plc.wire import Packet
from cada_edge.runtime.signals import on_hangup, stop_on_signals
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.runtime.stations import Stations, record
from cada_edge.types import Verdict

LIFE_PERIOD_S = 0.05
_WAIT_S = 0.005  # how often to see whether a source that waits for its PLCs may go on
OnVerdict = Callable[[Verdict], None]
OnReload = Callable[[Model, Model], None]  # the model of before, and the one that took over


class Line:
    """Judges frames until the sources end or someone says `stop`.

    Everything it is given is closed by `close`, safe state first. A station or sink that
    fails is noted and never stops or changes what the others get.
    """

    def __init__(
        self,
        model: Model,
        feeds: Feeds,
        stations: Stations | None = None,
        sinks: Sequence[IsolatedSink] = (),
        *,
        problems: Problems,
        on_verdict: OnVerdict | None = None,
        max_frames: int | None = None,
        lookout: Lookout | None = None,
        reloader: Reloader | None = None,
        on_reload: OnReload | None = None,
    ) -> None:
        self._model, self._feeds, self._stations, self._sinks = model, feeds, stations, sinks
        self._problems, self._on_verdict, self._max_frames = problems, on_verdict, max_frames
        self._lookout, self._reloader = lookout or Lookout(), reloader or Reloader(no_reload)
        self._tally, self._quiet, self._stopped_by = Tally(), set[str](), ""
        self._waiting, self._on_reload = list[Feed](), on_reload

    def stop(self, reason: str = "stop") -> None:
        """End `run` after the frames it is at. Safe from a signal handler or any thread."""
        self._stopped_by = self._stopped_by or reason

    def reload(self, wanted: Wanted = Wanted()) -> None:  # noqa: B008  # immutable
        """Read the model again, warm it beside the old one, change over between two parts. From any thread."""
        self._reloader.ask(wanted)

    def run(self) -> LineSummary:
        """Warm up, go online, judge every frame. Raises `EngineError` if the warm-up fails."""
        try:
            self._expect_threshold()
            self._model.judge.warm_up(batch=self._model.batch)
            for feed in self._feeds.all:
                if not self._triggered(feed.name):
                    feed.ask()
            self._lookout.ready()
            started_s = time.monotonic()
            while not self._stopped_by:
                self._turn()
            seconds = time.monotonic() - started_s
        finally:
            self.close()
        return self._tally.summary(seconds, self._stopped_by, self._problems)

    def close(self) -> None:
        """Safe state, then sources, stations, sinks and the model. Safe to call twice."""
        self._lookout.stopping()
        with ExitStack() as last_to_first:
            last_to_first.callback(self._close_model)
            for sink in self._sinks:
                last_to_first.callback(sink.close)
            if self._stations is not None:
                last_to_first.callback(self._hear)
                last_to_first.callback(self._stations.close)
            last_to_first.callback(self._feeds.close)
            if self._stations is not None:
                last_to_first.callback(self._stations.stop)

    def _turn(self) -> None:
        """Once round: only this loop gives signs of life, so a hung loop looks dead."""
        self._guard("PLC", self._live)
        self._hear()
        self._change_over()
        self._guard("page", self._look_out)
        self._ask_next()
        arrivals = self._feeds.take(_WAIT_S if self._waiting else LIFE_PERIOD_S, self._model.batch)
        self._judge([arrival for arrival in arrivals if arrival.frame is not None])
        for arrival in arrivals:
            if arrival.frame is None:
                self._ended(arrival)

    def _judge(self, arrivals: Sequence[Arrival]) -> None:
        """One call of the runner for frames that came together."""
        if not arrivals:
            return
        for arrival in arrivals:
            self._to_stations(lambda stations, one=arrival: stations.taken(one.feed.name, one.demand.part))  # type: ignore[misc]  # this turn's
        wanted = [(arrival.frame, arrival.demand.until_ns) for arrival in arrivals if arrival.frame is not None]
        for arrival, judgement in zip(arrivals, self._model.judge.judge_all(wanted), strict=True):
            self._publish(arrival.feed.name, judgement)
            if self._tally.frames == self._max_frames:
                self.stop("max_frames")
                return
            if not self._triggered(arrival.feed.name):
                self._waiting.append(arrival.feed)
        self._ask_next()

    def _ask_next(self) -> None:
        """Have every free-running source take its next picture whose PLCs keep up."""
        waiting, self._waiting = self._waiting, []
        for feed in waiting:
            if self._stations is not None and self._stations.ahead(feed.name):
                self._waiting.append(feed)
            else:
                feed.ask()

    def _publish(self, source: str, judgement: Judgement) -> None:
        verdict, frame, prediction = judgement.verdict, judgement.frame, judgement.prediction
        self._to_stations(lambda stations: stations.judged(source, judgement))
        self._tally.add(judgement)
        self._guard("page", lambda: self._lookout.verdict(judgement))
        if judgement.error is not None:
            self._problems.note("runner", judgement.error)
        for sink in self._sinks:
            sink.send(verdict, frame, prediction)
        self._guard("drift", lambda: self._watch_drift(judgement))
        if self._on_verdict is not None:
            self._guard("on_verdict", lambda: self._on_verdict and self._on_verdict(verdict))

    def _ended(self, arrival: Arrival) -> None:
        """A source has no more frames."""
        if arrival.error is not None:
            self._problems.note(f"source {arrival.feed.name}", arrival.error)
            self._lookout.source_failed(arrival.feed.name, arrival.error)
        if self._feeds.ended():
            self.stop("end")

    def _watch_drift(self, judgement: Judgement) -> None:
        drift = self._model.drift
        if drift is not None and (report := drift.add(judgement.verdict, judgement.prediction)) is not None:
            for sink in self._sinks:
                sink.drift(report)

    def _live(self) -> None:
        if self._stations is not None:
            model, waiting = self._model, self._reloader.poll()
            reload = waiting is not None and waiting.model is not None
            life = Life(time.monotonic_ns(), checksum=model.checksum, recipe=model.recipe, reload=reload)
            self._stations.live(life, self._feeds.lost(), model.alarms())

    def _hear(self) -> None:
        """What stations said: results for the records, orders of a PLC."""
        for packet in self._stations.told() if self._stations is not None else ():
            self._guard("PLC", partial(self._obey, packet))

    def _obey(self, packet: Packet) -> None:
        message = packet.message
        if isinstance(message, Published):
            for sink in self._sinks:
                sink.result(record(packet.station, message))
        elif isinstance(message, Quiet):
            self._quiet.add(packet.station)
        elif isinstance(message, Execute):
            self.reload(Wanted(message.recipe, packet.station))

    def _change_over(self) -> None:
        """Let a warm model take over once every station is quiet."""
        done = self._reloader.poll()
        if done is None:
            return
        if done.model is None:
            self._problems.note("reload", done.error or RuntimeError("no model"))
        elif self._stations is not None and not self._stations.ids <= self._quiet:
            return
        else:
            self._use(done.model)
        self._quiet.clear()
        self._reloader.take()
        self._answer(done)

    def _use(self, model: Model) -> None:
        old, self._model = self._model, model
        if model.bundle is not None:
            for sink in self._sinks:
                sink.use_bundle(model.bundle)
            self._lookout.use_bundle(model.name, model.bundle)
        self._guard("reload", lambda: self._on_reload and self._on_reload(old, model))
        self._expect_threshold()
        self._guard("reload", old.close)

    def _expect_threshold(self) -> None:
        """Say why every part will be rejected; the line runs, for its PLC must see it."""
        model = self._model
        if model.bundle is not None and model.bundle.manifest.threshold is None:
            name = model.name or "the bundle"
            self._problems.note(
                "model",
                BundleError(
                    f"{name} has no threshold, so every part is undecided and rejected; set one with "
                    "`cada-edge calibrate` and send SIGHUP"
                ),
            )

    def _answer(self, done: Reloaded) -> None:
        """Tell the station whose PLC asked."""
        wanted, loaded = done.wanted, done.model is not None
        if wanted.station:
            self._to_stations(lambda stations: stations.command_ended(wanted.station, wanted.recipe, loaded))

    def _look_out(self) -> None:
        health = self._stations.health if self._stations is not None else None
        reports = self._model.drift.reports() if self._model.drift else ()
        self._lookout.turn(self._feeds.all, self._sinks, health, reports)

    def _triggered(self, source: str) -> bool:
        return self._stations is not None and self._stations.triggered(source)

    def _to_stations(self, action: Callable[[Stations], None]) -> None:
        stations = self._stations
        if stations is not None:
            self._guard("PLC", lambda: action(stations))

    def _close_model(self) -> None:
        self._reloader.close()
        self._model.close()

    def _guard(self, component: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  # an outlet's fault is noted, the line goes on
            self._problems.note(component, error)


def open_line(
    config: LineConfig,
    problems: Problems,
    opened: ExitStack,
    *,
    on_verdict: OnVerdict | None = None,
    reloader: Reloader | None = None,
    on_reload: OnReload | None = None,
    on_change: OnChange | None = None,
    taps: Taps = Taps(),  # noqa: B008  # immutable
) -> Line:
    """The line that `config` describes, ready for `Line.run`, which closes it; `opened` closes what it shares.

    Args:
        config: from `load_config`.
        problems: takes what goes wrong on the way.
        opened: closed after the line has run.
        on_verdict: as of `run_line`.
        reloader: where another model comes from; nowhere by default.
        on_reload: as of `run_line`.
        on_change: as of `run_line`; nobody by default.
        taps: what somebody who measures puts in.

    Raises:
        CadaEdgeError: as `run_line`.
    """
    bundle = Bundle.read(config.bundle)
    model = load_model(config, config.bundle, bundle, taps.runner)
    opened.callback(model.close)
    lookout = open_lookout(config, bundle, problems.note, opened, on_change)
    if config.wired() and (records := config.recorded_in()) is not None:
        settle = partial(take_in, records, bundle.sha256, partial(problems.note, "records"))
        settle()  # what a line left that was killed
        opened.callback(settle)  # as a rule nothing: everything was written
    with ExitStack() as until_line:
        feeds = open_feeds(config, until_line, taps.source)
        stations = open_stations(config, feeds.ask, partial(problems.note, "PLC"), until_line)
        sinks = [*open_sinks(config, bundle, problems.note, until_line), *taps.sinks]
        until_line.pop_all()
    return Line(
        model,
        feeds,
        stations,
        sinks,
        problems=problems,
        on_verdict=on_verdict,
        max_frames=config.max_frames,
        lookout=lookout,
        reloader=reloader,
        on_reload=on_reload,
    )


def run_line(
    config: LineConfig,
    on_verdict: OnVerdict | None = None,
    on_problem: Callable[[str, str, int], None] | None = None,
    on_reload: OnReload = log_reload,
    on_change: OnChange | None = None,
) -> LineSummary:
    """Run the line that `config` describes until its sources end, or SIGINT or SIGTERM; SIGHUP reads the model again.

    Args:
        config: from `load_config`.
        on_verdict: called after each verdict, in the line's thread; must be quick.
        on_problem: called with component, message and count; logged to standard error by default.
        on_reload: called with the old and the new model once it judges; logged to standard error by default.
        on_change: called, in the line's thread, with each camera, station and link that goes away or comes back;
            logged to standard error by default; must be quick.

    Returns:
        What was counted. Signals end the run in the safe state and show in `stopped_by`.

    Raises:
        BundleError, EngineError, SourceError, LinkError, SinkError: a part cannot be opened.
        MissingDependencyError: a part needs a package that is not installed.
    """
    problems = Problems(on_problem or ProblemLog())
    pending: list[str] = []
    with ExitStack() as opened, stop_on_signals(pending.append) as redirect:
        reloader = Reloader(ModelFiles(config).load)
        line = open_line(
            config,
            problems,
            opened,
            on_verdict=on_verdict,
            reloader=reloader,
            on_reload=on_reload,
            on_change=on_change or ChangeLog(),
        )
        redirect(line.stop)
        for reason in pending:
            line.stop(reason)
        with on_hangup(line.reload):
            return line.run()
