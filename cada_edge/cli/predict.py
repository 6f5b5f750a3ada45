"""``cada-edge predict``: a verdict and a heatmap for single images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cada_edge.bundle import Bundle
from cada_edge.cli._runner import Backend, open_runner
from cada_edge.engine_key import Precision
from cada_edge.errors import DataError
from cada_edge.heatmap import panel
from cada_edge.imaging import read_image, write_png
from cada_edge.runtime.judge import Judge, Judgement
from cada_edge.types import Frame, ImageSpec

_NOT_ALL_OK = 3


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle: zip or directory.", show_default=False)],
    images: Annotated[list[Path], typer.Argument(help="Pictures to judge.", show_default=False)],
    *,
    out: Annotated[Path | None, typer.Option(help="Write a heatmap panel of each picture to this folder.")] = None,
    backend: Annotated[Backend, typer.Option(help="What runs the model.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Which of the bundle's graphs runs.")] = "fp32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array for scripts.")] = False,
) -> None:
    """Judge single images and show where they differ.

    Leaves with 0 when every image is ok, 3 when any is ng or undecided, which an image that
    cannot be read is, and 1 when the bundle cannot be read.
    """
    checked = Bundle.read(bundle)
    if out is not None:
        _make_folder(out)
    with open_runner(checked, backend, bundle, precision) as runner:
        judge = Judge(runner, checked.manifest.threshold)
        rows = [_predict_one(judge, runner.spec, index, path, out) for index, path in enumerate(images)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _render(rows)
    if any(row["status"] != "ok" for row in rows):
        raise typer.Exit(_NOT_ALL_OK)


def _predict_one(judge: Judge, spec: ImageSpec, index: int, path: Path, out: Path | None) -> dict[str, Any]:
    try:
        image = read_image(path)
    except DataError as error:  # one bad picture is undecided; the others still get their verdicts
        return {
            "image": str(path),
            "status": "undecided",
            "score": None,
            "threshold": None,
            "reason": str(error),
            "panel": None,
        }
    now_ns = time.monotonic_ns()
    judgement = judge.judge(Frame(image, "file", index, now_ns, now_ns, name=str(path)))
    return _row(judgement, None if out is None else _write_panel(out, spec, judgement))


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot make the folder: {error.strerror}; choose another --out") from error


def _write_panel(out: Path, spec: ImageSpec, judgement: Judgement) -> str | None:
    """The panel's path; the number in it keeps equal names apart. ``None`` without a finite map."""
    frame, prediction = judgement.frame, judgement.prediction
    if frame.image is None or prediction is None or not prediction.finite()[0]:
        return None
    target = out / f"{frame.frame_id:04d}-{Path(frame.name).stem}.png"
    verdict = judgement.verdict
    shown = panel(frame.image, prediction.map[0], _score(judgement), verdict.threshold, verdict.status, spec=spec)
    write_png(target, shown)
    return str(target)


def _row(judgement: Judgement, panel_path: str | None) -> dict[str, Any]:
    verdict = judgement.verdict
    return {
        "image": verdict.name,
        "status": verdict.status,
        "score": _score(judgement),
        "threshold": verdict.threshold,
        "reason": verdict.reason,
        "panel": panel_path,
    }


def _score(judgement: Judgement) -> float | None:
    """The verdict's score or, before calibration, the model's: then it is all there is."""
    prediction = judgement.prediction
    if judgement.verdict.score is not None or prediction is None or not prediction.finite()[0]:
        return judgement.verdict.score
    return float(prediction.score[0])


def _render(rows: list[dict[str, Any]]) -> None:
    table = Table()
    for name in ("image", "verdict", "score", "threshold", "why", "panel"):
        table.add_column(name, overflow="fold")
    for row in rows:
        score, threshold = (f"{row[key]:.4f}" if row[key] is not None else "-" for key in ("score", "threshold"))
        table.add_row(row["image"], row["status"], score, threshold, row["reason"], row["panel"] or "-")
    Console(soft_wrap=True, markup=False).print(table)
