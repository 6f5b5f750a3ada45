"""``cada-edge verify``: every backend that is here, on the same images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.cli._backends import all_backends
from cada_edge.cli._export_tables import figures
from cada_edge.cli._progress import stage_progress
from cada_edge.data.dataset import Item
from cada_edge.data.readers import read_dataset
from cada_edge.engine_key import PRECISIONS, graph_name, how_to_get
from cada_edge.errors import BundleError
from cada_edge.export.cases import Case, batches, made_up
from cada_edge.export.precision_config import spread
from cada_edge.export.verify import Row, VerifyReport
from cada_edge.export.verify import verify as run_verify
from cada_edge.types import ImageSpec, UInt8Array

_BATCH, _MADE_UP = 4, 8
_FAILED = 1


def verify(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", metavar="BUNDLE")],
    *,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Pictures to run, good or not; without it made-up ones."),
    ] = None,
    max_images: Annotated[int, typer.Option(min=1, help="At most so many of them, spread over the folder.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run every backend that is here on the same images and compare it with PyTorch.

    PyTorch, ONNX Runtime in fp32, fp16 and int8, the plugin's kernels on the CPU, TensorRT: a
    backend that is not here is named, with what brings it. Without PyTorch, ONNX Runtime's fp32
    graph is the reference. Where DATA has test images of both kinds, they alone are run, and the
    table gives each backend's AUROC. Leaves with 1 when one differs by more than is allowed, and for
    a bundle without any graph.
    """
    checked = Bundle.read(bundle)
    _must_be_exported(bundle, checked)
    items = _items(images, max_images)
    pictures = _pictures(items, checked.manifest.spec)
    labels = np.array([item.defect is not None for item in items]) if items else None
    total = len(items) or _MADE_UP
    with stage_progress(Console(stderr=True)) as progress:
        report = run_verify(
            all_backends(bundle, checked),
            pictures,
            checked.manifest.threshold,
            defective=labels,
            progress=lambda name, done: progress(name, done, total),
        )
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _show(report, Console())
    if not report:
        raise typer.Exit(_FAILED)


def _must_be_exported(path: Path, bundle: Bundle) -> None:
    """Raise `BundleError` where there is nothing to compare: no backend but the model itself needs no graph."""
    if not any(graph_name(precision) in bundle.files for precision in PRECISIONS):
        raise BundleError(f"{path} has no graph, so there is nothing to compare; {how_to_get('fp32')}")


def _items(data: Path | None, most: int) -> list[Item]:
    """Test images where there are good and defective ones, else all; at even steps."""
    if data is None:
        return []
    found = read_dataset(data)
    test = found.test()
    able = test if len({item.defect is None for item in test}) == 2 else found.items
    return list(spread(able, most))


def _pictures(items: Sequence[Item], spec: ImageSpec) -> Callable[[int | None], Iterator[UInt8Array]]:
    """Batches of the first so many images, or of as many made-up ones, read anew on each call."""

    def start(most: int | None) -> Iterator[UInt8Array]:
        if items:
            cases = [Case(item) for item in items[:most]]
            yield from (pictures for _, pictures in batches(cases, spec, _BATCH))
            return
        made = [picture for _, picture in made_up(spec, min(most or _MADE_UP, _MADE_UP), 0)]
        yield from (np.stack(made[i : i + _BATCH]) for i in range(0, len(made), _BATCH))

    return start


def _show(report: VerifyReport, console: Console) -> None:
    at = "no threshold yet" if report.threshold is None else f"threshold {report.threshold:.3f}"
    title = f"Against {report.reference}{_auroc(report.reference_auroc, ', AUROC ')}, {at}"
    headings = ("backend", "images", "score max", "score rms", "map max", "flips", "AUROC", "")
    table = figures(title, headings, left={"backend", ""})
    for row in report.rows:
        table.add_row(*_cells(row))
    console.print(table)
    for word, found in {"FAILED": report.failed, "not here": report.absent}.items():
        for name, why in found.items():
            console.print(f"{name}: {word}: {why}", soft_wrap=True, highlight=False, markup=False)


def _cells(row: Row) -> tuple[str, ...]:
    limit = row.limit
    verdict = "ok" if row else f"PAST score {limit.score:g}, map {limit.map:g}, flips {limit.flips:.1%}"
    gaps = (f"{row.score_max:.1e}", f"{row.score_rms:.1e}", f"{row.map_max:.1e}")
    return (row.name, str(row.images), *gaps, str(row.flips), _auroc(row.auroc) or "-", verdict)


def _auroc(value: float | None, before: str = "") -> str:
    return "" if value is None else f"{before}{value:.4f}"
