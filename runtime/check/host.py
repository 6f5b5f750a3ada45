"""What the machine around the line owes it: a clock that is set, a watchdog that restarts it, a core for its PLCs."""

from __future__ import annotations

import ctypes
import os
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from cada_edge.runtime.check.dial import Dial
from cada_edge.runtime.check.finding import Finding
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.plc.urgency import probe
from cada_edge.runtime.service import Service

_UNITS = Path("/etc/systemd/system")
_FIRST_YEAR, _TIMEX_BYTES, _TIME_ERROR = 2025, 512, 5


def host_dials(config: LineConfig, path: Path, timeout_s: float) -> list[Dial]:
    """Clock, watchdog and the right to be urgent; `path` is of ``line.yaml``."""
    return [
        Dial("host", "clock", timeout_s, _look_at_clock),
        Dial("host", "watchdog", timeout_s, partial(_look_for_unit, config, path)),
        *([Dial("host", "priority", timeout_s, partial(_try_priority, config, path))] if config.wired() else []),
    ]


def _look_at_clock() -> Finding:
    now = datetime.now(timezone.utc)
    found = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now.year < _FIRST_YEAR:
        return Finding("host", "clock", "warn", found, "records would be dated wrongly: set the clock")
    if _unsynchronised():
        advice = "no verdict depends on it, but dates of records may be wrong: run chrony or systemd-timesyncd"
        return Finding("host", "clock", "warn", f"{found}; the kernel says nothing keeps it right", advice)
    return Finding("host", "clock", "ok", found)


def _unsynchronised() -> bool:
    """Whether the kernel knows of nobody who disciplines the clock; false where it does not say."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # struct timex, all zero: only ask
    try:
        return bool(ctypes.CDLL(None).adjtimex(timex) == _TIME_ERROR)
    except (AttributeError, OSError):
        return False


def _unit(config: LineConfig, path: Path) -> Path:
    return _UNITS / f"{Service(config, path).name}.service"


def _look_for_unit(config: LineConfig, path: Path) -> Finding:
    unit = _unit(config, path)
    if os.environ.get("NOTIFY_SOCKET") or unit.exists():
        return Finding("host", "watchdog", "ok", f"{unit.name} is installed: systemd restarts a line that hangs")
    advice = f"a line started by hand stays down when it dies: `cada-edge service {path.name}` prints a unit"
    return Finding("host", "watchdog", "warn", f"no {unit.name} in {_UNITS}", advice)


def _try_priority(config: LineConfig, path: Path) -> Finding:
    """Whether the PLC process will run before the pipeline when both want a core."""
    wanted = config.plc_priority
    if not wanted:
        return Finding("host", "priority", "ok", "plc_priority is 0: the PLC process waits for a core as others do")
    if got := probe(wanted):
        return Finding("host", "priority", "ok", f"{got} for the PLC process")
    unit = f"`cada-edge service {path.name}` grants it to the line that it starts"
    if _unit(config, path).exists():
        return Finding("host", "priority", "ok", f"not for a line started by hand; {unit}")
    advice = f"a busy pipeline may hold a PLC's poll up by some ms: {unit}, as `ulimit -r {wanted}` does by hand"
    return Finding("host", "priority", "warn", f"the PLC process may not take priority {wanted}", advice)
