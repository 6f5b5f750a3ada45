"""``cada-edge predict``: a verdict and a heatmap for single images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.cli._runner import Backend, open_runner
from cada_edge.engine_key import Precision
from cada_edge.errors import DataError
from cada_edge.heatmap import panel
from cada_edge.imaging import read_image, write_png
from cada_edge.runtime.judge import Judge, Judgement
from cada_edge.types import Frame, ImageSpec

_NOT_ALL_OK = 3
_NAMED = 3  # of the images that could not be judged
_COLOURS = {"ok": "green", "ng": "red", "undecided": "yellow"}


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

    Leaves with 0 when every image is ok, 3 when every image was judged and any is not ok, and 1
    when the bundle or an image cannot be read; the other images are judged all the same.
    """
    checked = Bundle.read(bundle)
    if out is not None:
        _make_folder(out)
    with open_runner(checked, backend, bundle, precision) as runner:
        judge = Judge(runner, checked.manifest.threshold)
        found = [_predict_one(judge, runner.spec, index, path, out) for index, path in enumerate(images)]
    rows, failures = [row for row, _ in found], [why for _, why in found if why]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _render(rows, out)
    if failures:
        raise DataError(f"{len(failures)} of {len(rows)} images could not be judged: {'; '.join(failures[:_NAMED])}")
    if any(row["status"] != "ok" for row in rows):
        raise typer.Exit(_NOT_ALL_OK)


def _predict_one(
    judge: Judge, spec: ImageSpec, index: int, path: Path, out: Path | None
) -> tuple[dict[str, Any], str | None]:
    """Its row, and why it could not be judged where that is so."""
    try:
        image = read_image(path)
    except DataError as error:  # one bad picture is undecided; the others still get their verdicts
        unread = {"status": "undecided", "score": None, "threshold": None, "reason": str(error), "panel": None}
        return {"image": str(path), **unread}, str(error)
    now_ns = time.monotonic_ns()
    judgement = judge.judge(Frame(image, "file", index, now_ns, now_ns, name=str(path)))
    failure = None if judgement.error is None else f"{path}: {judgement.error}"
    return _row(judgement, None if out is None else _write_panel(out, spec, judgement)), failure


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


def _render(rows: list[dict[str, Any]], out: Path | None) -> None:
    """One line an image, never folded, its path last: to be read in a narrow window and cut by other programs."""
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console.print(f"{'verdict':<9}  {'score':>9}  {'threshold':>9}  image")
    for row in rows:
        score, threshold = (f"{row[key]:.4f}" if row[key] is not None else "-" for key in ("score", "threshold"))
        line = f"{row['status']:<9}  {score:>9}  {threshold:>9}  {row['image']}"
        why = row["reason"].removeprefix(f"{row['image']}: ")
        console.print(f"{line}  ({why})" if row["status"] == "undecided" else line, style=_COLOURS[row["status"]])
    if drawn := sum(row["panel"] is not None for row in rows):
        console.print(f"{drawn} heatmaps in {out}")
