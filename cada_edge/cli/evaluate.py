"""``cada-edge evaluate``: figures on labelled images, as a table, JSON and an HTML report.

Either of a bundle on its data, or, with ``--dataset``, of one model trained on a whole data set
in its original layout: the paper's protocol in one command.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cada_edge.bundle import Bundle
from cada_edge.cli._outputs import check_output
from cada_edge.cli._progress import stage_progress
from cada_edge.cli._runner import Backend, open_describer, open_runner, pick_backend
from cada_edge.cli._usage import UsageError
from cada_edge.data.dataset import Dataset
from cada_edge.data.readers import LAYOUTS, read_dataset
from cada_edge.evaluation import EvaluateConfig, Evaluation, OperatingPoint, ProductRates
from cada_edge.evaluation import evaluate as run_evaluation
from cada_edge.evaluation.report import METRIC_TITLES, percent, worst, write_report
from cada_edge.evaluation.results import AlignmentName, ProtocolName
from cada_edge.imaging import write_atomic

_PAPER = "The paper's protocol in one command"


def evaluate(
    bundle: Annotated[Path | None, typer.Argument(help="Trained bundle.", metavar="BUNDLE")] = None,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Folders in MVTec AD layout, or in --layout. The good training images that training set aside give "
            "thresholds and class statistics; folder names serve the report only.",
        ),
    ] = None,
    *,
    layout: Annotated[str, typer.Option(help=f"How DATA is laid out: {', '.join(LAYOUTS)}.")] = "auto",
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
    class_predicted: Annotated[
        bool, typer.Option(help="Also align by the product that a classifier names; encodes the training images too.")
    ] = True,
    backend: Annotated[Backend, typer.Option(help="auto: ONNX Runtime if exported, else torch.")] = "auto",
    dataset: Annotated[
        str | None, typer.Option(metavar="LAYOUT", help="Layout of --root, in place of BUNDLE.", rich_help_panel=_PAPER)
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the whole data set.", rich_help_panel=_PAPER)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Bundle to write or go on with. [LAYOUT.cada]", rich_help_panel=_PAPER)
    ] = None,
    detector: Annotated[str | None, typer.Option(help="As `train` has it.", rich_help_panel=_PAPER)] = None,
    encoder: Annotated[str | None, typer.Option(help="As `train` has it.", rich_help_panel=_PAPER)] = None,
    encoder_weights: Annotated[str | None, typer.Option(help="As `train` has it.", rich_help_panel=_PAPER)] = None,
    size: Annotated[int | None, typer.Option(help="As `train` has it.", rich_help_panel=_PAPER)] = None,
    iterations: Annotated[int | None, typer.Option(help="As `train` has it.", rich_help_panel=_PAPER)] = None,
    device: Annotated[str | None, typer.Option(help="As `train` has it.", rich_help_panel=_PAPER)] = None,
    seed: Annotated[int | None, typer.Option(help="As `train` has it.", rich_help_panel=_PAPER)] = None,
) -> None:
    """Measure a bundle: raw, class-aware and CADA side by side under one protocol.

    The report embeds small copies of your test images unless --no-images is given.

    With ``--dataset mvtec-ad --root DIR`` it first trains one model on the good training images of
    all products, exports it and sets its threshold; then all test images are judged in one pool.
    Interrupted, the same command goes on where it stopped; run again, it uses the bundle at --out.
    """
    config = EvaluateConfig(protocol, tuple(target_frr or (0.01, 0.05)))
    check_output("--report", report)
    check_output("--json", None if json_file == Path("-") else json_file)
    training = {"detector": detector, "encoder": encoder, "encoder_weights": encoder_weights, "size": size}
    training |= {"iterations": iterations, "device": device, "seed": seed}
    if dataset is None:
        loaded, found = _existing(bundle, data, layout, [root, out, *training.values()])
    elif bundle or data or root is None or layout != "auto":
        raise UsageError("--dataset: takes --root DIR, and neither BUNDLE, DATA nor --layout")
    else:
        out = out or Path(f"{dataset}.cada")
        report = report or out.with_suffix(".html")
        loaded, found = _trained(dataset, root, training, config.targets_frr[0], out)
    with open_runner(loaded, backend, bundle or out) as runner, stage_progress(Console(stderr=True)) as progress:
        describe = open_describer(loaded) if class_predicted else None
        result, spec = run_evaluation(loaded, runner, found, config, progress, describe=describe), runner.spec
    if report:
        write_report(result, found.root, spec, report, images=images)
    to_stdout = json_file == Path("-")
    if json_file:
        text = json.dumps({**result.to_json(), "backend": pick_backend(loaded, backend)}, indent=1, allow_nan=False)
        typer.echo(text) if to_stdout else write_atomic(json_file, text.encode())
    if not to_stdout:
        show(result, Console())


def _existing(bundle: Path | None, data: Path | None, layout: str, others: list[object]) -> tuple[Bundle, Dataset]:
    """A bundle and its data, both as they are."""
    if bundle is None or data is None or any(option is not None for option in others):
        raise UsageError("BUNDLE DATA: expected BUNDLE and DATA, or --dataset LAYOUT --root DIR with how to train")
    return Bundle.read(bundle), read_dataset(data, layout)


def _trained(layout: str, root: Path, training: dict[str, Any], target_frr: float, out: Path) -> tuple[Bundle, Dataset]:
    """A whole data set, and the bundle made from it."""
    if layout not in LAYOUTS:
        raise UsageError(f"--dataset: got {layout!r}, expected one of {', '.join(LAYOUTS)}")
    from cada_edge.cli._paper import prepared, train_config  # noqa: PLC0415  # torch: only this way needs it

    console = Console(stderr=True, soft_wrap=True)
    return prepared(layout, root, train_config(**training), target_frr=target_frr, out=out, console=console)


def show(result: Evaluation, console: Console) -> None:
    """Print the side-by-side table, the gap and the notes."""
    console.print(result.notes[0], highlight=False)
    console.print(_figures(result))
    for index, rate in enumerate(result.config.targets_frr):
        rows = [(row.name, row.operating[index]) for row in result.alignments if index < len(row.operating)]
        if rows:
            console.print(_operating(rate, rows))
    rejects = _rejects(result)
    if rejects is not None:
        console.print(rejects)
    gap = result.gap_closure
    console.print(f"Gap closure: {gap.reason if gap.value is None else f'{gap.text(0)} %'}", highlight=False)
    for note in result.notes[1:]:
        console.print(f"- {note}", style="dim", highlight=False)


def _figures(result: Evaluation) -> Table:
    table = Table("%", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in METRIC_TITLES.values():
        table.add_column(title, justify="right")
    table.add_column("gap closed", justify="right")
    for row in result.alignments:
        figures = [getattr(row.metrics, field).text() for field in METRIC_TITLES]
        table.add_row(row.name, *figures, row.gap_closure.text(0), style=_style(row.name))
    return table


def _operating(rate: float, rows: list[tuple[AlignmentName, OperatingPoint]]) -> Table:
    title = f"\nasked for {100 * rate:g} % false rejects"
    table = Table(title, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("good\nrejected", justify="right")
    table.add_column("\nworst product")
    table.add_column("defects\ncaught", justify="right")
    for name, point in rows:
        table.add_row(name, percent(point.frr), worst(point), percent(point.recall), style=_style(name))
    return table


def _rejects(result: Evaluation) -> Table | None:
    """What each product will see under CADA, worst first at the first target; None without thresholds."""
    cada = result.alignment("cada")
    points = list(cada.operating) or ([cada.stored] if cada.stored else [])
    if not points or not points[0].worst_first:
        return None
    table = Table("\ngood parts rejected", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for point in points:
        table.add_column(f"asked for {100 * point.target_frr:g} %\n{100 * result.config.confidence:g} % interval")
    by_name = [{rates.product: rates for rates in point.products} for point in points]
    for rates in points[0].worst_first:
        table.add_row(rates.product or "(all)", *(_interval(own[rates.product]) for own in by_name))
    return table


def _interval(rates: ProductRates) -> str:
    low, high = rates.frr_interval or (None, None)
    return f"{rates.false_rejects}/{rates.n_good}  {percent(low)} to {percent(high)} %"


def _style(name: AlignmentName) -> str | None:
    return "bold" if name == "cada" else None
