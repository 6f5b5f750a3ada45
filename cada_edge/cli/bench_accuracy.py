"""``cada-edge bench-accuracy``: detectors x heads x seeds from one YAML, one table out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from cada_edge.bench.cell import Outcome, run_cell
from cada_edge.bench.grid import Bench, Cell, load_bench
from cada_edge.bench.report import caption, facts, names, shortfalls, write_table
from cada_edge.bench.spread import Finished, GridProgress, job_list, run_grid
from cada_edge.bench.table import Table, collect
from cada_edge.cli._progress import stage_progress


def bench_accuracy(
    grid: Annotated[
        str,
        typer.Argument(
            metavar="GRID", help="YAML of the grid, or 'four-detectors', 'heads' or 'decoder', which come along."
        ),
    ],
    *,
    data: Annotated[Path | None, typer.Option(help="Labelled images, in place of the grid's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for records, features and the table, likewise.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes on this machine; they share its cores.")] = 1,
    list_: Annotated[bool, typer.Option("--list", help="Print one command per cell, for a scheduler.")] = False,
    cell: Annotated[str | None, typer.Option(metavar="ID", help="Run this cell alone.")] = None,
    collected: Annotated[bool, typer.Option("--collect", help="Run nothing; make the table of what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table, or a cell's progress, as JSON.")] = False,
) -> None:
    """Train and evaluate every detector with every head and seed of a grid; write one table.

    Interrupted, run the same command again: finished cells are kept as long as settings, images
    and cada-edge itself are the same. OUT/features, OUT/detectors and OUT/descriptors only save work and may
    be deleted; delete OUT/cells to measure anew. Leaves with 1 unless every cell is in the table.

    On many machines with a shared folder: --list prints the cells as commands for GNU parallel,
    a Slurm array or the like; --collect makes the table.
    """
    bench = load_bench(grid, data, out)
    if list_:
        typer.echo("\n".join(job_list(bench)))
    elif cell:
        _run_one(bench, bench.cell(cell), as_json)
    else:
        if not collected:
            _run_all(bench, jobs)
        table = collect(bench)
        _show(table, write_table(table, bench.out), as_json)


def _run_one(bench: Bench, cell: Cell, as_json: bool) -> None:
    dataset = bench.dataset()
    if as_json:
        outcome = run_cell(bench, cell, dataset, _say)
        typer.echo(json.dumps({"outcome": outcome}))
    else:
        with stage_progress(Console(stderr=True)) as progress:
            outcome = run_cell(bench, cell, dataset, progress)
        typer.echo(f"{cell.id}: {outcome}")
    if outcome == "failed":
        raise typer.Exit(1)


def _say(stage: str, done: int, total: int) -> None:
    typer.echo(json.dumps({"stage": stage, "done": done, "total": total}))


def _run_all(bench: Bench, jobs: int) -> None:
    console = Console(stderr=True)
    counts: Counter[Outcome] = Counter()
    with _grid_progress(console, len(bench.cells), counts) as (progress, told):
        run_grid(bench, jobs, progress, told)
    console.print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())), highlight=False)


@contextmanager
def _grid_progress(console: Console, total: int, counts: Counter[Outcome]) -> Iterator[tuple[GridProgress, Finished]]:
    """One bar for the grid and one for each running cell, with its stage."""
    columns = (TextColumn("{task.description:<52}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        whole, running = bars.add_task("cells", total=total), dict[str, TaskID]()

        def progress(cell: Cell, stage: str, done: int, steps: int) -> None:
            if cell.id not in running:
                running[cell.id] = bars.add_task(cell.id, total=steps)
            bars.update(running[cell.id], description=f"{cell.id}: {stage}", completed=done, total=steps)

        def told(cell: Cell, outcome: Outcome) -> None:
            counts[outcome] += 1
            bars.advance(whole)
            if cell.id in running:
                bars.remove_task(running.pop(cell.id))

        yield progress, told


def _show(table: Table, written: list[Path], as_json: bool) -> None:
    console = Console()
    if as_json:
        typer.echo(json.dumps(table.to_json(), indent=1, allow_nan=False))
    else:
        console.print(_rich(table))
        console.print(caption(table), style="dim", highlight=False)
        console.print(f"wrote {', '.join(map(str, written))}", style="dim", highlight=False, soft_wrap=True)
        for line in shortfalls(table):
            console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    if not table.complete:
        raise typer.Exit(1)


def _rich(table: Table) -> RichTable:
    """Figures downwards, detectors across: a terminal is narrower than the table."""
    rich = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rich.add_column("%")
    for name in names(table):
        rich.add_column(name.replace(", ", "\n"), justify="right")
    for heading, texts in facts(table):
        rich.add_row(heading, *(text.replace(", ", "\n") for text in texts))
    return rich
