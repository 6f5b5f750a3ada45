"""``cada-edge doctor``: what is installed, what is missing, what mends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cada_edge.doctor import Report, examine

_MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show what is installed, what is missing and the command that mends it.

    Leaves with 0 when `cada-edge run` can work here, with 1 when something it requires is missing.
    """
    report = examine(Path())
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
    else:
        _render(report, Console())
    raise typer.Exit(0 if report.runtime_ready else 1)


def _render(report: Report, console: Console) -> None:
    table = Table("for", "what", "state", "found", "to mend it")
    for check in report.checks:
        table.add_row(check.area, check.name, _MARKS[check.state], escape(check.found), escape(check.mend))
    console.print(table)
    ready = report.runtime_ready
    console.print(
        "cada-edge run can work here." if ready else "cada-edge run cannot work here yet: see 'missing' above."
    )
