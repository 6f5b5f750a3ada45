"""``cada-edge records``: what a line has left behind."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from cada_edge.cli._outputs import check_output
from cada_edge.errors import ConfigError
from cada_edge.runtime.records.parquet import export_parquet
from cada_edge.runtime.records.read import Filter, Latency, RecordFile, RecordSummary
from cada_edge.types import Status

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WHEN = "ISO 8601 (local time where it names no zone), or so long ago: 30m, 8h, 7d."


def records(
    file: Annotated[Path, typer.Argument(help="The file that sinks.records.sqlite names.", metavar="FILE")],
    *,
    since: Annotated[str | None, typer.Option(help=f"From this time on. {_WHEN}")] = None,
    until: Annotated[str | None, typer.Option(help=f"Before this time. {_WHEN}")] = None,
    station: Annotated[str | None, typer.Option(help="One station or source only.")] = None,
    status: Annotated[Status | None, typer.Option(help="One status only.")] = None,
    last: Annotated[int, typer.Option(min=0, max=1000, help="How many of the last rejects to show.")] = 10,
    parquet: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the rows to this Parquet file.")] = None,
    table: Annotated[
        Literal["verdicts", "results", "drift"], typer.Option(help="Which rows --parquet writes.")
    ] = "verdicts",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Count, time and list what a line has recorded, also while it runs."""
    check_output("--parquet", parquet)
    chosen = Filter(_time_us("since", since), _time_us("until", until), station, status)
    with RecordFile(file) as opened:
        summary = opened.summary(chosen, last)
        written = export_parquet(opened, parquet, table, chosen) if parquet else None
    if as_json:
        typer.echo(json.dumps({**summary.to_json(), "parquet_rows": written}, indent=2))
        return
    console = Console(soft_wrap=True, highlight=False, markup=False)
    _render(summary, console)
    if parquet:
        console.print(f"{written} rows of {table} written to {parquet}.", style="dim")


def _time_us(option: str, text: str | None) -> int | None:
    """Microseconds since 1970. Raises `ConfigError` naming the option."""
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            moment = datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return int(moment.timestamp() * 1e6)
        # Python 3.10 reads no trailing Z.
        return int(datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text)).timestamp() * 1e6)
    except (ValueError, OverflowError, OSError) as error:
        examples = "2026-11-24, 2026-11-24T06:00:00Z or 8h"
        raise ConfigError(f"--{option}: got {text!r}, expected such as {examples}") from error


def _render(summary: RecordSummary, console: Console) -> None:
    total = sum(summary.verdicts.values())
    if not total and not summary.shown:
        console.print("No records.")
        return
    facts = Table(show_header=False, box=None)
    facts.add_row("from", f"{summary.first} to {summary.last}")
    facts.add_row("verdicts", _shares(summary.verdicts) + f", {summary.drops} frames dropped before")
    facts.add_row("shown to PLCs", _shares(summary.shown) or "nothing recorded")
    facts.add_row("capture to verdict", _latency(summary.latency))
    facts.add_row("trigger to PLC", _latency(summary.published))
    facts.add_row("bundles", ", ".join(sha[:12] for sha in summary.bundles))
    facts.add_row("drift reports", f"{summary.drifted} that tell of drift")
    console.print(facts)
    console.print(_places(summary))
    if summary.last_rejects:
        console.print(_rejects(summary))


def _shares(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{count} {name} ({100 * count / total:.2f} %)" for name, count in counts.items())


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "nothing recorded"
    return (
        f"{latency.p50_ms:.1f} ms median, {latency.p95_ms:.1f} ms p95, {latency.p99_ms:.1f} ms p99, "
        f"{latency.max_ms:.1f} ms highest"
    )


def _places(summary: RecordSummary) -> Table:
    table = Table("station", "source", "ok", "ng", "undecided", box=None)
    for (station, source), counts in summary.places.items():
        table.add_row(station, source, *(str(counts.get(status, 0)) for status in ("ok", "ng", "undecided")))
    return table


def _rejects(summary: RecordSummary) -> Table:
    table = Table("last rejects", "source", "frame", "part", "trigger", "status", "score", "reason", box=None)
    for row in summary.last_rejects:
        score = "" if row["score"] is None else f"{row['score']:.3f}"
        part, trigger = ("" if row[name] is None else str(row[name]) for name in ("part", "trigger_id"))
        table.add_row(
            row["time"], row["source_id"], str(row["frame_id"]), part, trigger, row["status"], score, row["reason"]
        )  # fmt: skip
    return table
