"""``cada-edge export``: the bundle's ONNX graph, checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cada_edge.bundle import MODEL, Bundle
from cada_edge.cli._progress import stage_progress
from cada_edge.data.dataset import scan
from cada_edge.export.parity import OUTPUTS, ParityReport, Tolerance
from cada_edge.export.stage import ExportConfig
from cada_edge.export.stage import export as run_export
from cada_edge.imaging import write_atomic
from cada_edge.runtime.runners.ort import OrtRunner


def export(
    bundle: Annotated[Path, typer.Argument(help="Trained bundle.", metavar="BUNDLE")],
    *,
    images: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Folder of pictures to compare on, beside made-up ones.")
    ] = None,
    max_images: Annotated[int, typer.Option(min=1, help="At most so many of them, spread over the folder.")] = 200,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference of score and map: absolute up to 1, relative above.")
    ] = Tolerance.score,
    out: Annotated[Path | None, typer.Option(help="Write here instead of into BUNDLE.")] = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE.onnx", help="Write the graph alone as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the parity report as JSON.")] = False,
) -> None:
    """Add the ONNX graph to a bundle and prove that it judges as the model does.

    The graph takes raw pixels and gives score, aligned map, u and gamma. It is run in ONNX
    Runtime next to PyTorch; past the tolerance the command fails and writes nothing.
    """
    config = ExportConfig(tolerance=Tolerance(score=tolerance, map=tolerance))
    loaded, paths = Bundle.read(bundle), _spread(images, max_images)
    with stage_progress(Console(stderr=True)) as progress:
        exported, report = run_export(
            loaded, OrtRunner, paths, config, lambda done, total: progress("compare", done, total)
        )
    target = out or bundle
    exported.write(target)
    if onnx:
        write_atomic(onnx, exported.file(MODEL))
    _show(report, target, as_json)


def _spread(data: Path | None, most: int) -> list[Path]:
    """At most `most` pictures of a dataset, at even steps, so that every product has its share."""
    if data is None:
        return []
    paths = [item.path for item in scan(data).items]
    count = min(most, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]


def _show(report: ParityReport, written: Path, as_json: bool) -> None:
    console = Console()
    if as_json:
        console.print_json(data={**report.to_json(), "bundle": str(written)})
        return
    table = Table(title=f"ONNX Runtime against PyTorch on {report.images} images")
    for heading in ("output", "max", "p99", "mean", "allowed"):
        table.add_column(heading, justify="left" if heading == "output" else "right")
    for name in OUTPUTS:
        gap = getattr(report, name)
        allowed = getattr(report.tolerance, name)
        table.add_row(name, *(f"{v:.2e}" for v in (gap.max, gap.p99, gap.mean, allowed)))
    console.print(table)
    flips = f"{report.flips} verdicts differ at the threshold" if report.threshold is not None else "no threshold yet"
    console.print(
        f"Worst: {report.worst_output} of {report.worst_image}; {flips}. Written to {written}.",
        style="dim",
        soft_wrap=True,
        highlight=False,
    )
