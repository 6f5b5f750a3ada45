"""Every dial of a line, tried whatever becomes of the others."""

from __future__ import annotations

from pathlib import Path

from cada_edge.runtime.check.dial import dial_all, dial_in_turn
from cada_edge.runtime.check.finding import LineReport
from cada_edge.runtime.check.host import host_dials
from cada_edge.runtime.check.links import link_dials, page_dials
from cada_edge.runtime.check.models import model_dials
from cada_edge.runtime.check.sinks import sink_dials
from cada_edge.runtime.check.sources import source_dials
from cada_edge.runtime.check.stations import station_dials
from cada_edge.runtime.config import load_config


def check_line(path: Path, frames: int = 5, timeout_s: float = 15.0) -> LineReport:
    """Dial everything that the line in `path` would use.

    Nothing is written to a PLC, published, posted, recorded or made; a camera triggered by
    software is triggered. Models are tried first, one by one, then everything else side by side.

    Args:
        path: of ``line.yaml``.
        frames: wanted from each source, >= 1.
        timeout_s: for each dial, > 0; a model has two minutes, for an engine takes its time to load.

    Raises:
        ConfigError: ``line.yaml`` cannot be read or is wrong: there is nothing to dial.
    """
    config = load_config(path)
    findings = dial_in_turn(model_dials(config))
    findings += dial_all(
        [
            *source_dials(config, frames, timeout_s),
            *station_dials(config, timeout_s),
            *link_dials(config, timeout_s),
            *sink_dials(config.sinks, timeout_s),
            *page_dials(config, timeout_s),
            *host_dials(config, path.resolve(), timeout_s),
        ]
    )
    return LineReport(tuple(findings))
