"""``cada-edge calibrate``: the threshold, from good images the model never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.calibration import CalibrateConfig, CalibrationResult, Method
from cada_edge.calibration import calibrate as run_calibration
from cada_edge.cli._calibration import show, warnings
from cada_edge.cli._outputs import check_bundle_output
from cada_edge.cli._progress import stage_progress
from cada_edge.cli._runner import Backend, open_runner
from cada_edge.data.readers import LAYOUTS, read_dataset
from cada_edge.engine_key import Precision


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
    layout: Annotated[str, typer.Option(help=f"How DATA is laid out: {', '.join(LAYOUTS)}.")] = "auto",
    target_frr: Annotated[float, typer.Option(help="Share of good parts that may be rejected, 0 to 1.")] = 0.01,
    confidence: Annotated[float, typer.Option(help="Confidence of the stated bound, 0 to 1.")] = 0.95,
    method: Annotated[
        Method, typer.Option(help="conformal: the expected rate meets the target; tolerance: the bound does.")
    ] = "conformal",
    allow_small: Annotated[
        bool, typer.Option("--allow-small", help="With too few images, use the highest good score.")
    ] = False,
    add: Annotated[
        bool, typer.Option("--add", help="Keep the images of the earlier calibration and add these.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write here instead of into BUNDLE.")] = None,
    backend: Annotated[Backend, typer.Option(help="auto: ONNX Runtime if exported, else torch.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Which of the bundle's graphs runs.")] = "fp32",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Set the threshold for a false-reject rate from held-out good images.

    Images used to train are left out by content, whatever their names; test images and
    defects are never used. Too few images for the rate is an error that says how many it takes.

    Later, new good images set it anew without training: alone, or with --add beside the
    earlier ones, whose scores the bundle keeps. The old threshold and the new are both shown.
    """
    if not dry_run:
        check_bundle_output("--out" if out else "BUNDLE", out or bundle)
    config = CalibrateConfig(target_frr, confidence, method, allow_small, add=add)
    loaded, items = Bundle.read(bundle), read_dataset(data, layout).train()
    with open_runner(loaded, backend, bundle, precision) as runner, stage_progress(Console(stderr=True)) as progress:
        calibrated, result = run_calibration(
            loaded, runner, items, config, lambda done, total: progress("judge good images", done, total)
        )
    if not dry_run:
        calibrated.write(out or bundle)
    _report(result, config, None if dry_run else out or bundle, as_json)


def _report(result: CalibrationResult, config: CalibrateConfig, written: Path | None, as_json: bool) -> None:
    """The result on standard output, warnings on standard error; as JSON both in one object."""
    said = list(warnings(result, config.add))
    if as_json:
        bundle = str(written) if written else None
        typer.echo(json.dumps({**result.to_json(), "warnings": said, "bundle": bundle}, indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True, markup=False)
        show(result, console)
        console.print(f"Written to {written}." if written else "Nothing written: --dry-run.", style="dim")
    for line in said:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"warning: {line}", style="yellow", markup=False)
