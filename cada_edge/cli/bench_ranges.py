"""``cada-edge bench-ranges``: rules of INT8 ranges, on labelled images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cada_edge.bundle import Bundle
from cada_edge.cli._progress import stage_progress
from cada_edge.data.readers import read_dataset
from cada_edge.engine_key import Precision
from cada_edge.export.precision_config import PrecisionConfig, Rest
from cada_edge.export.range_study import RangeStudy, StudyRow, study_ranges
from cada_edge.protocols import Runner
from cada_edge.runtime.runners.ort import OrtRunner


def bench_ranges(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", metavar="BUNDLE")],
    data: Annotated[Path, typer.Argument(help="Folder with good images and labelled test images.", metavar="DATA")],
    *,
    max_images: Annotated[int, typer.Option(min=2, help="At most so many test images, spread over DATA.")] = 300,
    calibration_images: Annotated[
        int, typer.Option(help="Good images that set the ranges; never test images.")
    ] = PrecisionConfig.calibration_images,
    score_budget: Annotated[
        float, typer.Option(help="What INT8 may do to scores in the rows that leave layers out.")
    ] = PrecisionConfig.score_budget,
    int8_rest: Annotated[
        Rest, typer.Option(help="In those rows, the type of what is not INT8.")
    ] = PrecisionConfig.rest,
    as_json: Annotated[bool, typer.Option("--json", help="Print the study as JSON.")] = False,
) -> None:
    """Compare max, percentile, entropy and MSE ranges by what INT8 does to scores and verdicts.

    Each rule is tried in every layer that could be INT8, the rest float32, and again with the
    layers left out that do most harm, as `export` does. Float16 stands beside them. Test images
    of both kinds judge; nothing is written to the bundle.
    """
    loaded, found = Bundle.read(bundle), read_dataset(data)
    config = PrecisionConfig(calibration_images=calibration_images, score_budget=score_budget, rest=int8_rest)

    def start(made: Bundle, precision: Precision) -> Runner:
        return OrtRunner(made, precision=precision)

    with stage_progress(Console(stderr=True)) as progress:
        study = study_ranges(loaded, found, start, config, max_images=max_images, progress=progress)
    if as_json:
        typer.echo(json.dumps(study.to_json(), indent=1, allow_nan=False))
    else:
        _show(study, Console())


def _show(study: RangeStudy, console: Console) -> None:
    gate = study.rows[0].gate
    table = Table(title=f"Against fp32 ({study.fp32_bytes / 1e6:.1f} MB, AUROC {gate.auroc[0]:.4f})")
    for heading in ("graph", "INT8", "MB", "probe rms", "score rms", "score max", "flips", "AUROC", "worst product"):
        table.add_column(heading, justify="left" if heading in {"graph", "worst product"} else "right")
    for row in study.rows:
        table.add_row(*_cells(row))
    console.print(table)
    console.print(
        f"{gate.good} good and {gate.damaged} defective images at threshold {gate.threshold:.3f}; ranges from "
        f"{study.calibration_images} good images; {study.candidates} convolutions could be INT8; "
        f"budget {study.budget:g}.",
        style="dim",
        soft_wrap=True,
        highlight=False,
    )


def _cells(row: StudyRow) -> tuple[str, ...]:
    gate, worst = row.gate, row.gate.products[0]
    probe = "" if row.probe_rms is None else f"{row.probe_rms:.4f}"
    flips = f"{gate.flips} ({gate.flip_rate:.2%})"
    product = f"{worst.product or 'all'}: {worst.before} -> {worst.after} of {worst.images}"
    figures = (probe, f"{gate.score_rms:.4f}", f"{gate.score_max:.3f}", flips, f"{gate.auroc[1]:.4f}", product)
    return (row.name, str(row.layers), f"{row.size / 1e6:.1f}", *figures)
