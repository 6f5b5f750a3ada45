"""``cada-edge check``: dial everything a line would use, and change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cada_edge.runtime.check.finding import LineReport
from cada_edge.runtime.check.line import check_line

_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def check(
    config: Annotated[Path, typer.Argument(help="The line.yaml to check.", show_default=False)],
    *,
    frames: Annotated[int, typer.Option(min=1, max=1000, help="Frames wanted from each source.")] = 5,
    timeout_s: Annotated[float, typer.Option(min=0.5, max=600, help="Time for each dial.")] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")] = False,
) -> None:
    """Dial every model, camera, PLC, sink and port of a line, and change nothing.

    Everything is tried even where something fails. Leaves with 0 when nothing failed, with 1
    when something did or line.yaml is wrong. Stop the line first: it holds its cameras and ports.
    """
    console = Console(stderr=True)
    with console.status("dialling"):
        report = check_line(config, frames, timeout_s)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
    else:
        _render(report, Console(highlight=False))
    raise typer.Exit(0 if report.ready else 1)


def _render(report: LineReport, console: Console) -> None:
    table = Table("", "what", "state", "found", "what to do")
    for one in report.findings:
        table.add_row(one.area, escape(one.what), _MARKS[one.state], escape(one.found), escape(one.advice))
    console.print(table)
    counts = f"{report.count('ok')} ok, {report.count('warn')} warn, {report.count('fail')} fail"
    console.print(f"{counts}: " + ("the line can run." if report.ready else "see 'fail' above."))
