"""``cada-edge evaluate``: figures on labelled images, as a table, JSON and an HTML report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cada_edge.bundle import Bundle
from cada_edge.cli._progress import stage_progress
from cada_edge.cli._runner import Backend, open_runner, pick_backend
from cada_edge.data.dataset import scan
from cada_edge.evaluation import EvaluateConfig, Evaluation, OperatingPoint
from cada_edge.evaluation import evaluate as run_evaluation
from cada_edge.evaluation.report import METRIC_TITLES, percent, worst, write_report
from cada_edge.evaluation.results import ProtocolName
from cada_edge.imaging import write_atomic


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Trained bundle.", metavar="BUNDLE")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folders in MVTec AD layout. The good training images that training set aside give thresholds "
            "and class statistics; folder names serve the report only.",
        ),
    ],
    *,
    protocol: Annotated[
        ProtocolName,
        typer.Option(help="absolute: one pool, one threshold; model: mean over products; separate: own thresholds."),
    ] = "absolute",
    target_frr: Annotated[list[float] | None, typer.Option(help="False-reject rate; repeatable. [0.01 0.05]")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON; - for standard output.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a self-contained report.")] = None,
    images: Annotated[bool, typer.Option(help="Embed thumbnails of the test images in the report.")] = True,
    backend: Annotated[Backend, typer.Option(help="auto: ONNX Runtime if exported, else torch.")] = "auto",
) -> None:
    """Measure a bundle: raw, class-aware and CADA side by side under one protocol.

    The report embeds small copies of your test images unless --no-images is given.
    """
    config = EvaluateConfig(protocol, tuple(target_frr or (0.01, 0.05)))
    loaded, dataset = Bundle.read(bundle), scan(data)
    with open_runner(loaded, backend) as runner, stage_progress(Console(stderr=True)) as progress:
        result, spec = run_evaluation(loaded, runner, dataset, config, progress), runner.spec
    if report:
        write_report(result, dataset.root, spec, report, images=images)
    to_stdout = json_file == Path("-")
    if json_file:
        text = json.dumps({**result.to_json(), "backend": pick_backend(loaded, backend)}, indent=1, allow_nan=False)
        typer.echo(text) if to_stdout else write_atomic(json_file, text.encode())
    if not to_stdout:
        show(result, Console())


def show(result: Evaluation, console: Console) -> None:
    """Print the side-by-side table, the gap and the notes."""
    console.print(result.notes[0], highlight=False)
    console.print(_table(result))
    gap = result.gap_closure
    console.print(f"Gap closure: {gap.text(0)} %{f' ({gap.reason})' if gap.reason else ''}", highlight=False)
    for note in result.notes[1:]:
        console.print(f"- {note}", style="dim", highlight=False)


def _table(result: Evaluation) -> Table:
    table = Table("%", box=None, pad_edge=False)
    for title in METRIC_TITLES.values():
        table.add_column(title, justify="right")
    for rate in result.config.targets_frr:
        table.add_column(f"FRR\n@{100 * rate:g} %", justify="right")
        table.add_column(f"worst\n@{100 * rate:g} %", justify="left")
        table.add_column(f"recall\n@{100 * rate:g} %", justify="right")
    for row in result.alignments:
        figures = [getattr(row.metrics, field).text() for field in METRIC_TITLES]
        cells = [cell for point in row.operating for cell in _cells(point)]
        table.add_row(row.name, *figures, *cells, style="bold" if row.name == "cada" else None)
    return table


def _cells(point: OperatingPoint) -> tuple[str, str, str]:
    return percent(point.frr), worst(point), percent(point.recall)
