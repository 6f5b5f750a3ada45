"""``cada-edge calibrate``: the threshold, from good images the model never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.calibration import CalibrateConfig, CalibrationResult, Method, describe
from cada_edge.calibration import calibrate as run_calibration
from cada_edge.cli._progress import stage_progress
from cada_edge.cli._runner import Backend, open_runner
from cada_edge.data.dataset import scan
from cada_edge.types import Threshold

# A good part of a product in training scores about 1.0 at most; calibrated on such parts,
# thresholds came out between 1.2 and 2.2.
HIGHEST_SANE = 3.0


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Trained bundle.", metavar="BUNDLE")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Good images: a folder, or MVTec layout, of which only train/good is read. With the folder the "
            "model was trained on, the images that training set aside for calibration are used.",
        ),
    ],
    *,
    target_frr: Annotated[float, typer.Option(help="Share of good parts that may be rejected, 0 to 1.")] = 0.01,
    confidence: Annotated[float, typer.Option(help="Confidence of the stated bound, 0 to 1.")] = 0.95,
    method: Annotated[
        Method, typer.Option(help="conformal: the expected rate meets the target; tolerance: the bound does.")
    ] = "conformal",
    allow_small: Annotated[
        bool, typer.Option("--allow-small", help="With too few images, use the highest good score.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write here instead of into BUNDLE.")] = None,
    backend: Annotated[Backend, typer.Option(help="auto: ONNX Runtime if exported, else torch.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Set the threshold for a false-reject rate from held-out good images.

    Images used to train are left out by content, whatever their names; test images and
    defects are never used. Too few images for the rate is an error that says how many it takes.
    """
    config = CalibrateConfig(target_frr, confidence, method, allow_small)
    loaded, items = Bundle.read(bundle), scan(data).train()
    with open_runner(loaded, backend) as runner, stage_progress(Console(stderr=True)) as progress:
        calibrated, result = run_calibration(
            loaded, runner, items, config, lambda done, total: progress("judge good images", done, total)
        )
    calibrated.write(out or bundle)
    _show(result, out or bundle, as_json)
    _warn(loaded.manifest.threshold, result.threshold.value)


def _warn(before: Threshold | None, value: float) -> None:
    """On standard error: what the threshold was, and when it is too high to catch anything."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if before is not None:
        console.print(f"The threshold was {before.value:.3f} before.")
    if value > HIGHEST_SANE:
        console.print(
            f"warning: the threshold {value:.3f} lies far above 1.0, about the most a normal part shows; few defects "
            "reach it. Are these parts the model was trained on? Check the folder, or train with them.",
            style="yellow",
        )


def _show(result: CalibrationResult, written: Path, as_json: bool) -> None:
    console = Console()
    if as_json:
        console.print_json(data={**result.to_json(), "bundle": str(written)})
        return
    picked = result.selection
    console.print(describe(result.threshold), highlight=False, soft_wrap=True)
    console.print(
        f"Left out: {picked.n_seen} seen in training, {picked.n_duplicate} duplicates, {picked.n_defect} defective. "
        f"Written to {written}.",
        highlight=False,
        soft_wrap=True,
        style="dim",
    )
