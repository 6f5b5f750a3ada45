"""The stations of a line, seen from the pipeline: triggers in, outcomes out, results back for the records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from cada_edge.errors import LinkError
from cada_edge.runtime.feed import Demand
from cada_edge.runtime.handshake import Acquire, Life, Published
from cada_edge.runtime.judge import Judgement
from cada_edge.runtime.outcome import Outcome, outcome
from cada_edge.runtime.pace import Pace
from cada_edge.runtime.parts import Parts
from cada_edge.runtime.plc.client import PlcProcess
from cada_edge.runtime.plc.wire import Acquired, CommandEnded, Health, Packet, Setup
from cada_edge.runtime.records.rows import ResultRecord
from cada_edge.runtime.registers import WORST_SCORE, Alarm, ResultFlag
from cada_edge.types import Status

_LIFE_NEWS_NS = 20_000_000  # a fifth of the shortest `stale_ms`
OnDemand = Callable[[str, Demand], None]


class Stations:
    """Every station, in the PLC process. For the line's thread, but for what `on_demand` says.

    Args:
        setup: stations with their sources, and links.
        on_demand: called with a source's id and what is wanted of it, at every trigger, from
            another thread; must be quick.
        on_problem: called with what went wrong in the PLC process, from another thread.

    Raises:
        LinkError: a link cannot be had.
    """

    def __init__(self, setup: Setup, on_demand: OnDemand, on_problem: Callable[[Exception], None]) -> None:
        self._setups = {station.id: station for station in setup.stations}
        self._of_source = {source: one.id for one in setup.stations for source in one.sources}
        self._on_demand, self._unsent = on_demand, list[Packet]()
        self._parts = {station.id: Parts(station.sources) for station in setup.stations}
        self._paces = {station.id: Pace() for station in setup.stations}
        self._told_life: dict[str, Life] = {}
        self._ended: dict[str, CommandEnded] = {}  # commands whose end is not told yet
        self._plc = PlcProcess(setup, self._trigger, on_problem)

    @property
    def ids(self) -> frozenset[str]:
        """Of all stations."""
        return frozenset(self._setups)

    @property
    def ports(self) -> tuple[int | None, ...]:
        """The port of each link that listens, in their order."""
        return tuple(getattr(link, "port", None) for link in self._plc.links)

    @property
    def health(self) -> Health:
        """Of stations and links; every link is down while the PLC process is away."""
        health = self._plc.health
        if self._plc.alive():
            return health
        return Health((), tuple(replace(link, up=False, error="the PLC process is away") for link in health.links))

    def triggered(self, source: str) -> bool:
        """Whether this source waits for triggers."""
        station = self._of_source.get(source)
        return station is not None and self._setups[station].options.mode == "triggered"

    def ahead(self, source: str) -> bool:
        """Whether a free-running source should wait: its PLCs have not been shown what was judged before."""
        station = self._of_source.get(source)
        return station is not None and self._paces[station].ahead(time.monotonic_ns())

    def live(self, life: Life, lost: Iterable[str], drift: Mapping[str, Alarm]) -> None:
        """Give every station a sign of life. Raises `LinkError`.

        Args:
            life: the same for all, but for what follows.
            lost: ids of sources that give nothing.
            drift: alarms by source.
        """
        # Before the sign of life: a PLC process that was started anew takes no command until it has one, so that
        # the end of an old command cannot be taken for that of a new one.
        self._tell_ended()
        gone = frozenset(lost)
        for station in self._setups.values():
            alarms = Alarm(0)
            for source in station.sources:
                alarms |= drift.get(source, Alarm(0))
            self._tell(replace(life, sources_well=gone.isdisjoint(station.sources), drift=alarms), station.id)

    def taken(self, source: str, part: int | None) -> None:
        """A picture has come. Raises `LinkError`."""
        station = self._of_source.get(source)
        if station is not None and part is not None and self._parts[station].taken(source, part):
            self._plc.send(Acquired(part), station)

    def judged(self, source: str, judgement: Judgement) -> None:
        """A picture was judged: publishes its part once all its views are. Raises `LinkError`."""
        station = self._of_source.get(source)
        if station is None:
            return
        part = judgement.frame.part
        views = [judgement] if part is None else self._parts[station].judged(source, part, judgement)
        if views:
            self._publish(outcome(part, views), station)

    def command_ended(self, station: str, recipe: int, done: bool) -> None:
        """What a PLC asked for was done, or failed. Raises `LinkError`; it is told again with the next sign of life."""
        self._ended[station] = CommandEnded(recipe, done)
        self._tell_ended()

    def told(self) -> list[Packet]:
        """What stations said since the last call: results, commands, quiet."""
        unsent, self._unsent = self._unsent, []
        packets = self._plc.packets()
        for message, station in packets:
            if isinstance(message, Published):
                self._paces[station].answered(message.outcome.t_decided_ns, time.monotonic_ns())
        return unsent + packets

    def stop(self) -> None:
        """Show the safe state from now on."""
        self._plc.stop()

    def close(self) -> None:
        """Let the safe state be seen, then hang up. `told` still gives what was said until then."""
        self._plc.close()

    def _tell_ended(self) -> None:
        """Tell what is not told yet: a PLC would wait for it for good."""
        for station, ended in tuple(self._ended.items()):
            self._plc.send(ended, station)
            del self._ended[station]

    def _tell(self, life: Life, station: str) -> None:
        """A sign of life, unless it says what one said a moment ago."""
        before = self._told_life.get(station, Life(0))
        old = life.t_sent_ns - before.t_sent_ns >= _LIFE_NEWS_NS
        if old or replace(life, t_sent_ns=before.t_sent_ns) != before:
            self._plc.send(life, station)
            self._told_life[station] = life

    def _publish(self, decided: Outcome, station: str) -> None:
        try:
            self._plc.send(decided, station)
            self._paces[station].sent(decided.t_decided_ns, time.monotonic_ns())
        except LinkError:
            now_ns = time.monotonic_ns()
            lost = Published(0, 0, 0, decided, decided.t_capture_ns, now_ns, "not shown: the PLC process was away")
            self._unsent.append(Packet(lost, station))
            raise

    def _trigger(self, station: str, acquire: Acquire) -> None:
        setup = self._setups[station]
        until_ns = acquire.t_trigger_ns + setup.options.deadline_ns
        for source in setup.sources:
            self._on_demand(source, Demand(acquire.part, acquire.t_trigger_ns, until_ns))


def record(station: str, published: Published) -> ResultRecord:
    """For the records, what a PLC was shown of a part."""
    told = published.outcome
    return ResultRecord(
        station=station,
        seq=published.seq,
        trigger_id=published.trigger_id,
        result=int(told.result),
        status=_status(told.result),
        score=None if told.score >= WORST_SCORE else told.score,
        threshold=told.threshold or None,
        t_trigger_ns=published.t_trigger_ns,
        t_decided_ns=told.t_decided_ns,
        t_published_ns=published.t_published_ns if published.seq else None,
        late=ResultFlag.LATE in told.result,
        note=published.note,
        part=told.part,
        encoder=published.encoder,
    )


def _status(result: ResultFlag) -> Status:
    if ResultFlag.PASS in result:
        return "ok"
    return "ng" if ResultFlag.FAIL in result else "undecided"
