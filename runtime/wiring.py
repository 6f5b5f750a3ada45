"""Whether sources, stations and links of a ``line.yaml`` belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cada_edge.runtime.links.config import AnyLink, ModbusServerConfig, OpcUaServerConfig
from cada_edge.runtime.sinks.config import ModbusConfig
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.stations_config import StationConfig


def check(
    sources: Sequence[SourceConfig],
    stations: Sequence[StationConfig],
    links: Sequence[AnyLink],
    modbus: ModbusConfig | None,
) -> None:
    """Raise `ValueError` naming what does not fit and what to change."""
    _differ("ids of sources", (source.id for source in sources))
    _differ("ids of stations", (station.id for station in stations))
    if modbus is not None and (stations or links):
        raise ValueError("sinks.modbus is short for one link; write it as a link of kind modbus-server beside others")
    if stations and not links:
        raise ValueError(f"stations {[one.id for one in stations]} without links: no PLC would see them")
    _check_sources({source.id for source in sources}, stations)
    _check_links(stations, links)


def check_seen(stations: Sequence[StationConfig], deadline_ms: float | None) -> None:
    """Raise `ValueError` for a station that a PLC would take for something else than it is.

    Args:
        stations: each with its sources.
        deadline_ms: of the line.
    """
    for station in stations:
        if station.mode == "free-run":
            _check_free_running(station, station.deadline_ms or deadline_ms)


def _check_free_running(station: StationConfig, limit_ms: float | None) -> None:
    if len(station.sources) != 1:
        # Nothing says which pictures of free-running cameras show the same part, so each would have a PASS of its own.
        raise ValueError(
            f"station {station.id} is in free run with {len(station.sources)} sources, {list(station.sources)}: every "
            "picture would be a part, and pass although another camera rejects it; give each source a station with a "
            "link of its own, or set mode: triggered, where a part passes only if all its views do"
        )
    if limit_ms and limit_ms > station.stale_ms:
        raise ValueError(
            f"deadline_ms {limit_ms} is longer than stale_ms {station.stale_ms} of station {station.id}: "
            "a frame in time would look like a hung pipeline"
        )


def _check_sources(known: set[str], stations: Sequence[StationConfig]) -> None:
    if len(stations) > 1 and any(not station.sources for station in stations):
        raise ValueError("with several stations each must name its sources")
    named = [source for station in stations for source in station.sources]
    if unknown := sorted(set(named) - known):
        raise ValueError(f"stations name sources {unknown}, which are not among {sorted(known)}")
    _differ("sources of stations", named)


def _check_links(stations: Sequence[StationConfig], links: Sequence[AnyLink]) -> None:
    ids = [station.id for station in stations] or [StationConfig().id]
    for link in links:
        if link.station is None and len(ids) > 1:
            raise ValueError(f"link {link.kind}: station missing, expected one of {ids}")
        if link.station not in (None, *ids):
            raise ValueError(f"link {link.kind}: station {link.station!r}, expected one of {ids}")
    drivers = Counter(link.station or ids[0] for link in links if link.control)
    for station in ids:
        if drivers[station] > 1:
            raise ValueError(
                f"station {station} is driven by {drivers[station]} links; set control: false on all but one"
            )
    for one in stations:
        if one.id not in {link.station or ids[0] for link in links}:
            raise ValueError(f"station {one.id} has no link: no PLC would see it")
        if one.mode == "triggered" and not drivers[one.id]:
            raise ValueError(f"station {one.id} is triggered, but no link with control: true can trigger it")
    servers = [link for link in links if isinstance(link, ModbusServerConfig | OpcUaServerConfig)]
    _differ("ports of servers", (f"{server.host}:{server.port}" for server in servers if server.port))


def _differ(what: str, names: Iterable[str]) -> None:
    counted = Counter(names)
    if twice := sorted(name for name, count in counted.items() if count > 1):
        raise ValueError(f"{what} must differ: {', '.join(twice)} stands {counted[twice[0]]} times")
