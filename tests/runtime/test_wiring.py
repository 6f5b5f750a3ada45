"""What a PLC would take for something else is refused: parts of several cameras that nothing holds together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runtime_kit import write_line

from cada_edge.errors import ConfigError
from cada_edge.runtime.config import LineConfig, load_config
from cada_edge.runtime.line import run_line

TWO = [{"uri": "folder:images", "id": name} for name in ("top", "side")]
LINK = {"kind": "modbus-server", "port": 0}


def line(folder: Path, **settings: Any) -> LineConfig:
    """A line of two cameras."""
    return load_config(write_line(folder, sources=TWO, **settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("station", {"links": [LINK]}),
        ("station", {"links": [{**LINK, "control": False}]}),
        ("station", {"sinks": {"modbus": {"port": 0}}}),
        ("st1", {"links": [LINK], "stations": [{"id": "st1"}]}),
        ("st1", {"links": [LINK], "stations": [{"id": "st1", "mode": "free-run", "sources": ["top", "side"]}]}),
    ],
)
def test_a_free_running_station_of_two_cameras_is_refused_where_a_plc_sees_it(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    """Each camera's PASS would stand by itself; the error names station, cameras and both ways out."""
    with pytest.raises(ConfigError) as refused:
        line(tmp_path, **settings)
    said = str(refused.value)
    assert f"station {name} is in free run with 2 sources, ['top', 'side']" in said
    assert "give each source a station with a link of its own" in said
    assert "mode: triggered, where a part passes only if all its views do" in said


def test_several_stations_are_looked_at_one_by_one(tmp_path: Path) -> None:
    """One that is right excuses no other."""
    sources = [*TWO, {"uri": "folder:images", "id": "end"}]
    stations = [{"id": "a", "sources": ["end"]}, {"id": "b", "sources": ["top", "side"]}]
    links = [{**LINK, "station": "a"}, {**LINK, "station": "b"}]
    with pytest.raises(ConfigError, match="station b is in free run"):
        load_config(write_line(tmp_path, sources=sources, stations=stations, links=links))


@pytest.mark.parametrize(
    "settings",
    [
        {"links": [LINK], "stations": [{"id": "st1", "mode": "triggered"}]},
        {
            "links": [{**LINK, "station": "a"}, {**LINK, "station": "b"}],
            "stations": [{"id": "a", "sources": ["top"]}, {"id": "b", "sources": ["side"]}],
        },
    ],
)
def test_what_the_error_advises_is_taken(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Both ways out are lines that can be read."""
    assert line(tmp_path, **settings).wired()


def test_a_line_without_a_plc_takes_several_cameras_as_before(tmp_path: Path) -> None:
    """Records hold a verdict for every picture of each; nobody lets a part pass on one of them."""
    summary = run_line(line(tmp_path, sinks={"records": {"jsonl": "v.jsonl"}}))
    assert summary.frames == 8
    assert {name for name in ("top", "side") if f'"{name}"' in (tmp_path / "v.jsonl").read_text()} == {"top", "side"}
