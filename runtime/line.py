"""The running line: sources, one runner, and whoever wants the verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from cada_edge.bundle import Bundle
from cada_edge.protocols import Sink, Source
from cada_edge.runtime.assembly import open_line_runner, open_links, open_lookout, open_sinks, open_sources
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.feed import Arrival, Feeds
from cada_edge.runtime.health import LineSummary, Problems, Tally
from cada_edge.runtime.judge import Judge, Judgement
from cada_edge.runtime.log import ProblemLog
from cada_edge.runtime.lookout import Lookout
from cada_edge.runtime.registers import OfflineReason
from cada_edge.runtime.signals import stop_on_signals
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.types import Verdict

LIFE_PERIOD_S = 0.05
OnVerdict = Callable[[Verdict], None]


class PlcLink(Sink, Protocol):
    """A sink that a PLC watches: it also shows whether the line lives. Must never block."""

    def alive(self) -> None:
        """A sign of life: model and sources are ready and the pipeline moves."""

    def offline(self, reason: OfflineReason) -> None:
        """Show the safe state."""

    @property
    def address(self) -> str:
        """Where a PLC finds it, for people."""


class Line:
    """Judges frames until the sources end or someone says `stop`.

    Everything it is given is closed by `close`, safe state first. A link or sink that
    fails is noted and never stops or changes what the others get.
    """

    def __init__(
        self,
        judge: Judge,
        sources: Sequence[tuple[str, Source]],
        links: Sequence[PlcLink] = (),
        sinks: Sequence[IsolatedSink] = (),
        *,
        problems: Problems,
        on_verdict: OnVerdict | None = None,
        max_frames: int | None = None,
        lookout: Lookout | None = None,
    ) -> None:
        self._judge, self._links, self._sinks = judge, links, sinks
        self._problems, self._on_verdict, self._max_frames = problems, on_verdict, max_frames
        self._feeds, self._tally = Feeds(sources), Tally()
        self._lookout, self._stopped_by = lookout or Lookout(), ""

    def stop(self, reason: str = "stop") -> None:
        """End `run` after the frame it is at. Safe from a signal handler or any thread."""
        self._stopped_by = self._stopped_by or reason

    def run(self) -> LineSummary:
        """Warm up, go online, judge every frame. Raises `EngineError` if the warm-up fails."""
        try:
            self._judge.warm_up()
            self._feeds.start()
            self._lookout.ready()
            started_s = time.monotonic()
            while not self._stopped_by:
                self._show_life()
                self._guard("page", self._look_out)
                if arrival := self._feeds.take(LIFE_PERIOD_S):
                    self._handle(arrival)
            seconds = time.monotonic() - started_s
        finally:
            self.close()
        return self._tally.summary(seconds, self._stopped_by, self._problems)

    def close(self) -> None:
        """Safe state, then sources, sinks and links. Safe to call twice."""
        self._lookout.stopping()
        with ExitStack() as last_to_first:
            for link in self._links:
                last_to_first.callback(link.close)
            for sink in self._sinks:
                last_to_first.callback(sink.close)
            last_to_first.callback(self._feeds.close)
            self._tell_links(lambda link: link.offline(OfflineReason.STOPPED))

    def _handle(self, arrival: Arrival) -> None:
        if arrival.frame is None:
            if arrival.error is not None:
                self._problems.note(f"source {arrival.feed.name}", arrival.error)
                self._lookout.source_failed(arrival.feed.name, arrival.error)
            if self._feeds.ended():
                self.stop("end")
            return
        self._publish(self._judge.judge(arrival.frame))
        if self._tally.frames == self._max_frames:
            self.stop("max_frames")
        else:
            arrival.feed.ask()

    def _publish(self, judgement: Judgement) -> None:
        verdict, frame, prediction = judgement.verdict, judgement.frame, judgement.prediction
        self._tell_links(lambda link: link.send(verdict, frame, prediction))
        self._tally.add(judgement)
        self._guard("page", lambda: self._lookout.verdict(judgement))
        if judgement.error is not None:
            self._problems.note("runner", judgement.error)
        for sink in self._sinks:
            sink.send(verdict, frame, prediction)
        if self._on_verdict is not None:
            self._guard("on_verdict", lambda: self._on_verdict and self._on_verdict(verdict))

    def _show_life(self) -> None:
        """The heartbeat's source: only this loop calls it, so a hung loop looks dead."""
        if self._feeds.lost():
            self._tell_links(lambda link: link.offline(OfflineReason.SOURCE_LOST))
        else:
            self._tell_links(lambda link: link.alive())

    def _look_out(self) -> None:
        self._lookout.turn(self._feeds.all, self._links, self._sinks)

    def _tell_links(self, action: Callable[[PlcLink], None]) -> None:
        for link in self._links:
            self._guard(type(link).__name__, lambda link=link: action(link))  # type: ignore[misc]  # this turn's link

    def _guard(self, component: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  # an outlet's fault is noted, the line goes on
            self._problems.note(component, error)


def run_line(
    config: LineConfig,
    on_verdict: OnVerdict | None = None,
    on_problem: Callable[[str, str, int], None] | None = None,
) -> LineSummary:
    """Run the line that `config` describes until its sources end, or SIGINT or SIGTERM.

    Args:
        config: from `load_config`.
        on_verdict: called after each verdict, in the line's thread; must be quick.
        on_problem: called with component, message and count; logged to standard error by default.

    Returns:
        What was counted. Signals end the run in the safe state and show in `stopped_by`.

    Raises:
        BundleError, EngineError, SourceError, SinkError: a part cannot be opened.
        MissingDependencyError: a part needs a package that is not installed.
    """
    problems = Problems(on_problem or ProblemLog())
    pending: list[str] = []
    with ExitStack() as opened, stop_on_signals(pending.append) as redirect:
        bundle = Bundle.read(config.bundle)
        runner = open_line_runner(config, bundle, opened)
        judge = Judge(runner, bundle.manifest.threshold, config.deadline_ms)
        lookout = open_lookout(config, bundle, problems.note, opened)
        with ExitStack() as until_line:
            links = open_links(config, bundle, until_line)
            sinks = open_sinks(config, bundle, problems.note, until_line)
            sources = open_sources(config, until_line)
            until_line.pop_all()
        line = Line(
            judge,
            sources,
            links,
            sinks,
            problems=problems,
            on_verdict=on_verdict,
            max_frames=config.max_frames,
            lookout=lookout,
        )
        redirect(line.stop)
        for reason in pending:
            line.stop(reason)
        return line.run()
