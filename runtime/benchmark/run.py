"""One benchmark from its settings to its report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cada_edge.runtime.benchmark.compare import overhead, ratios
from cada_edge.runtime.benchmark.fresh import allocations, cold_start
from cada_edge.runtime.benchmark.inspection import Progress, Target, measure
from cada_edge.runtime.benchmark.line import line_facts, measure_line
from cada_edge.runtime.benchmark.machine import machine, memory, state, throttled
from cada_edge.runtime.benchmark.pacing import falling_behind
from cada_edge.runtime.benchmark.pictures import pictures
from cada_edge.runtime.benchmark.result import Report
from cada_edge.runtime.config import LineConfig
from cada_edge.version import __version__


def benchmark(
    targets: Sequence[Target],
    folder: Path | None,
    line: LineConfig | None,
    progress: Progress,
    *,
    fresh: bool = True,
    with_sinks: bool = False,
) -> Report:
    """Measure one target, or two in turns, or one through a line.

    Args:
        targets: what to measure; the settings of the first hold for the loop.
        folder: of pictures; made-up ones without it, or the line's own.
        line: run it as a whole instead of stage by stage.
        progress: called with rounds done and in all.
        fresh: also start new processes for cold start, memory and allocations.
        with_sinks: let a line's sinks work as well, into its own files.

    Raises:
        CadaEdgeError: what is measured cannot be opened or fails.
    """
    first = targets[0]
    with affinity(first.setting.affinity), pictures(folder, first.setting.seed) as paths:
        about: dict[str, Any] = {
            "version": __version__,
            "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "setting": first.setting.to_json(),
            "pictures": _pictures(None if folder is None else len(paths), line, fresh=fresh),
            **({} if line is None else {"line": line_facts(line, with_sinks=with_sinks)}),
            "machine": machine(),
        }
        if fresh:
            about["cold_start"] = cold_start(first, paths[0])
            about["allocations"] = allocations(first, paths[0])
        before, started = state(), memory()
        if line is None:
            found = measure(targets, paths, progress)
        else:
            found = [measure_line(line, first, progress, with_sinks=with_sinks)]
        after, ended = state(), memory()
    about["state"] = {"before": before, "after": after, "throttled": throttled(before, after)}
    about["memory"] = {"before": started, "after": ended}
    for one in found:
        if first.setting.rate_fps and (note := falling_behind(one.stages.get("wait", ()), first.setting.rate_fps)):
            one.notes.append(note)
    report = Report(found, about)
    seed = first.setting.seed
    pairs = overhead(found[0], seed) if len(found) == 1 else ratios(found[0], found[1], paired=True, seed=seed)
    report.ratios = {name: asdict(one) for name, one in pairs.items()}
    return report


def _pictures(count: int | None, line: LineConfig | None, *, fresh: bool) -> str:
    given = "made up" if count is None else f"{count} of a folder"
    if line is None:
        return given
    return f"of the line's sources; for cold start and blocks {given}" if fresh else "of the line's sources"


@contextmanager
def affinity(cores: Sequence[int]) -> Iterator[None]:
    """Run on these cores for the length of the block; threads and processes started in it too."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
