"""``cada-edge bench-ranges``: rules of INT8 ranges, on labelled images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.calibration.ranges import RANGE_METHODS, RangeMethod
from cada_edge.cli._export_tables import figures
from cada_edge.cli._precision import CalibrationImages, Int8Rest, ScoreBudget, open_ort
from cada_edge.cli._progress import stage_progress
from cada_edge.data.readers import read_dataset
from cada_edge.errors import ConfigError
from cada_edge.export.precision_config import PrecisionConfig
from cada_edge.export.range_study import RangeStudy, StudyRow, study_ranges


def bench_ranges(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", metavar="BUNDLE")],
    data: Annotated[Path, typer.Argument(help="Folder with good images and labelled test images.", metavar="DATA")],
    *,
    ranges: Annotated[str, typer.Option(metavar="max,mse", help="Rules to compare, with commas between.")] = ",".join(
        RANGE_METHODS
    ),
    max_images: Annotated[int, typer.Option(min=2, help="At most so many test images, spread over DATA.")] = 300,
    calibration_images: CalibrationImages = PrecisionConfig.calibration_images,
    score_budget: ScoreBudget = PrecisionConfig.score_budget,
    int8_rest: Int8Rest = PrecisionConfig.rest,
    as_json: Annotated[bool, typer.Option("--json", help="Print the study as JSON.")] = False,
) -> None:
    """Compare max, percentile, entropy and MSE ranges by what INT8 does to scores and verdicts.

    Each rule is tried in every layer that could be INT8, the rest float32, and again with the
    layers left out that do most harm, as `export` does. Float16 stands beside them. Test images
    of both kinds judge; nothing is written to the bundle.
    """
    methods = _methods(ranges)
    loaded, found = Bundle.read(bundle), read_dataset(data)
    config = PrecisionConfig(calibration_images=calibration_images, score_budget=score_budget, rest=int8_rest)

    with stage_progress(Console(stderr=True)) as progress:
        study = study_ranges(loaded, found, open_ort, config, methods=methods, max_images=max_images, progress=progress)
    if as_json:
        typer.echo(json.dumps(study.to_json(), indent=1, allow_nan=False))
    else:
        _show(study, Console())


def _methods(text: str) -> tuple[RangeMethod, ...]:
    names = [name.strip() for name in text.split(",")]
    if unknown := sorted(set(names) - set(RANGE_METHODS)):
        raise ConfigError(f"--ranges: got {', '.join(map(repr, unknown))}, expected some of {', '.join(RANGE_METHODS)}")
    return tuple(method for method in RANGE_METHODS if method in names)


def _show(study: RangeStudy, console: Console) -> None:
    gate = study.rows[0].gate
    title = f"Against fp32 ({study.fp32_bytes / 1e6:.1f} MB, AUROC {gate.auroc[0]:.4f})"
    headings = ("graph", "INT8", "MB", "probe rms", "score rms", "score max", "flips", "AUROC", "worst product")
    table = figures(title, headings, left={"graph", "worst product"})
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
