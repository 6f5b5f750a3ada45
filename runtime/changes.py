"""What went away and came back: cameras, stations, links, the PLC process. Each change once, without I/O or clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cada_edge.runtime.plc.wire import Health
    from cada_edge.runtime.status import LinkStatus, SourceStatus, StationStatus

_PATIENCE_NS = 500_000_000  # for the reason of a loss to come
_STARTING = "STARTING"


@dataclass(frozen=True)
class Change:
    """Something went away or came back.

    Attributes:
        event: ``source lost``, ``source back``, ``station offline``, ``station online``, ``link down``,
            ``link up``, ``PLC process away`` or ``PLC process back``.
        component: what it is of, such as ``source cam1``.
        well: it came back.
        facts: names of what it is, why it went, and ``away_s``, how long it was away.
    """

    event: str
    component: str
    well: bool
    facts: dict[str, object] = field(default_factory=dict)


OnChange = Callable[[Change], None]


@dataclass
class _Away:
    since_ns: int
    told: str | None = None  # the reason that was told


class Changes:
    """Compares each look with the one before. For one thread.

    Args:
        tell: called with each change; must be quick.
    """

    def __init__(self, tell: OnChange) -> None:
        self._tell, self._away, self._online = tell, dict[str, _Away](), set[str]()

    def look(self, now_ns: int, sources: Iterable[SourceStatus], health: Health | None = None) -> None:
        """How everything is at present; `health` is that of stations and links, where there are any."""
        for source in sources:
            self._source(source, now_ns)
        if health is None:
            return
        gone = bool(health.links) and not health.stations  # nobody is there to say how they are
        self._judge(("PLC process away", "PLC process back"), "PLC process", {}, None if not gone else {}, now_ns)
        if gone:
            return
        for station in health.stations:
            self._station(station, now_ns)
        for number, link in enumerate(health.links):
            self._link(number, link, now_ns)

    def _source(self, source: SourceStatus, now_ns: int) -> None:
        component = f"source {source.id}"
        reason = None if source.healthy else {"reason": source.error or "it gives no pictures"}
        if reason is not None and not source.error and self._waited_ns(component, now_ns) < _PATIENCE_NS:
            return
        self._judge(("source lost", "source back"), component, {"source": source.id}, reason, now_ns)

    def _station(self, station: StationStatus, now_ns: int) -> None:
        if station.online:
            self._online.add(station.id)
        elif station.id not in self._online and station.offline_reason == _STARTING:
            return  # that it starts is no news
        reason = None if station.online else {"reason": station.offline_reason}
        names = {"station": station.id}
        self._judge(("station offline", "station online"), f"station {station.id}", names, reason, now_ns, renew=True)

    def _link(self, number: int, link: LinkStatus, now_ns: int) -> None:
        if not link.up and not link.error:  # it is being opened for the first time
            return
        names = {"kind": link.kind, "address": link.address}
        component = f"link {number} {link.kind}"
        self._judge(("link down", "link up"), component, names, None if link.up else {"error": link.error}, now_ns)

    def _waited_ns(self, component: str, now_ns: int) -> int:
        """Since a loss was first seen, whose reason is yet to come; no end where it has been told."""
        away = self._away.setdefault(component, _Away(now_ns))
        return now_ns - away.since_ns if away.told is None else _PATIENCE_NS

    def _judge(
        self,
        events: tuple[str, str],
        component: str,
        names: dict[str, str],
        reason: dict[str, str] | None,
        now_ns: int,
        *,
        renew: bool = False,
    ) -> None:
        """Tell a loss (with a `reason`) or a return (without); with `renew` also another reason."""
        if reason is None:
            away = self._away.pop(component, None)
            if away is not None and away.told is not None:
                away_s = round((now_ns - away.since_ns) / 1e9, 3)
                self._tell(Change(events[1], component, True, {**names, "away_s": away_s}))
            return
        away, why = self._away.setdefault(component, _Away(now_ns)), "".join(reason.values())
        if away.told is None or (renew and away.told != why):
            away.told = why
            self._tell(Change(events[0], component, False, {**names, **reason}))
