"""``cada-edge run``: the line, until its sources end or somebody stops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table

from cada_edge.errors import SourceError
from cada_edge.runtime.config import load_config
from cada_edge.runtime.health import LineSummary
from cada_edge.runtime.line import run_line
from cada_edge.runtime.log import hush_opencv
from cada_edge.types import Verdict

_COLOURS = {"ok": "green", "ng": "red", "undecided": "yellow"}
_INTERRUPTED = 130


def run(
    config: Annotated[Path, typer.Argument(help="The line.yaml to run.", show_default=False)],
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON for scripts.")] = False,
) -> None:
    """Run a line: camera in, verdicts out to the PLC.

    Leaves with 0 when the sources ended or on SIGTERM, 1 when something other than a camera that is off could not be
    opened or a source broke, 130 on Ctrl-C; always in the safe state.
    """
    hush_opencv()
    line = load_config(config)
    if max_frames is not None:
        line = line.model_copy(update={"max_frames": max_frames})
    console = Console(stderr=True)
    with console.status("warming up") as status:
        summary = run_line(line, _Live(status).show if console.is_terminal else None)
    if as_json:
        typer.echo(json.dumps(summary.to_json()))
    else:
        _render(summary, Console(soft_wrap=True, markup=False))
    if summary.source_errors:
        raise SourceError("; ".join(summary.source_errors))
    if summary.stopped_by == "SIGINT":
        raise typer.Exit(_INTERRUPTED)


class _Live:
    """The status line of a terminal: the last verdict and the counts."""

    def __init__(self, status: Status) -> None:
        self._status, self._total, self._rejected = status, 0, 0

    def show(self, verdict: Verdict) -> None:
        self._total += 1
        self._rejected += not verdict.passed
        score = "" if verdict.score is None else f" {verdict.score:.3f}"
        colour = _COLOURS[verdict.status]
        self._status.update(
            f"[{colour}]{verdict.status}[/]{score}  frame {verdict.frame_id} of {verdict.source_id}  "
            f"({self._total} judged, {self._rejected} rejected)"
        )


def _render(summary: LineSummary, console: Console) -> None:
    facts = Table(show_header=False, box=None)
    facts.add_row("frames", f"{summary.frames} in {summary.seconds:.1f} s, {summary.drops} dropped by the sources")
    facts.add_row("verdicts", f"{summary.ok} ok, {summary.ng} ng, {summary.undecided} undecided ({summary.late} late)")
    if summary.latency_p50_ms is not None:
        facts.add_row("latency", f"{summary.latency_p50_ms:.1f} ms median, {summary.latency_p99_ms:.1f} ms p99")
    facts.add_row("stopped by", summary.stopped_by)
    for problem in summary.problems:
        facts.add_row("problem", problem)
    console.print(facts)
