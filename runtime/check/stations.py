"""Whether every verdict that a PLC acts on has a time after which it is none, and is of a model that it knows of."""

from __future__ import annotations

from functools import partial

from cada_edge.runtime.check.dial import Dial
from cada_edge.runtime.check.finding import Finding
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.stations_config import StationConfig

_NS_PER_MS = 1_000_000


def station_dials(config: LineConfig, timeout_s: float) -> list[Dial]:
    """Every station that a PLC sees, and what they share; none on a line without PLCs."""
    stations = config.stations_or_one() if config.wired() else ()
    dials = [Dial("station", one.id, timeout_s, partial(_look, config, one)) for one in stations]
    if len(stations) > 1 and config.recipes and any(link.control for link in config.all_links()):
        dials.append(Dial("station", "recipes", timeout_s, partial(_shared, [one.id for one in stations])))
    return dials


def _shared(stations: list[str]) -> Finding:
    """One model judges for all of them, and any of their PLCs may change it."""
    found = f"SELECT_RECIPE or RELOAD by one station's PLC changes the model of all: {', '.join(stations)}"
    advice = (
        "let each PLC compare recipe (word 14) and checksum (word 24) with what it expects before it takes a PASS, or "
        "give each station a line of its own"
    )
    return Finding("station", "recipes", "warn", found, advice)


def _look(config: LineConfig, station: StationConfig) -> Finding:
    limit_ms = station.deadline_ms or config.deadline_ms
    if station.mode == "free-run" and limit_ms is None:
        whose = "of the line" if config.sinks.modbus is not None else "of the station or of the line"
        advice = (
            f"set deadline_ms {whose}, at most stale_ms ({station.stale_ms}): the time from the picture to where the "
            "PLC acts on that part; a later verdict is then LATE and REJECT"
        )
        found = "free-run without deadline_ms: a verdict counts as current however late it comes"
        return Finding("station", station.id, "warn", found, advice)
    limit_ns = station.options(config.deadline_ms).deadline_ns
    since = "the picture" if station.mode == "free-run" else "the trigger"
    found = f"{station.mode}, answers within {limit_ns / _NS_PER_MS:g} ms of {since}"
    return Finding("station", station.id, "ok", found)
