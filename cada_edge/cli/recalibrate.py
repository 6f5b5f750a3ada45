"""``cada-edge recalibrate``: the threshold anew, from what the line has seen."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.calibration import CalibrateConfig, CalibrationResult, calibrate, weights_sha256
from cada_edge.cli._calibration import show, warnings
from cada_edge.cli._outputs import check_bundle_output
from cada_edge.cli._progress import stage_progress
from cada_edge.cli._runner import Backend, open_runner
from cada_edge.engine_key import Precision
from cada_edge.errors import BundleError
from cada_edge.runtime.sinks.archive_index import ArchivedGood, archived_good


def recalibrate(
    bundle: Annotated[Path, typer.Argument(help="The calibrated bundle that ran the line.", metavar="BUNDLE")],
    *,
    from_archive: Annotated[
        Path, typer.Option(help="The folder that sinks.archive.dir names.", metavar="DIR", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write here; otherwise into BUNDLE, with the old one kept beside it.")
    ] = None,
    target_frr: Annotated[float | None, typer.Option(help="As in `calibrate`; the bundle's own if absent.")] = None,
    confidence: Annotated[float | None, typer.Option(help="As in `calibrate`; the bundle's own if absent.")] = None,
    allow_small: Annotated[
        bool, typer.Option("--allow-small", help="With too few images, use the highest good score.")
    ] = False,
    add: Annotated[
        bool, typer.Option("--add", help="Keep the images of the earlier calibration and add these.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")] = False,
    backend: Annotated[Backend, typer.Option(help="auto: ONNX Runtime if exported, else torch.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Which of the bundle's graphs runs.")] = "fp32",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Set the threshold anew from pictures that a line has archived.

    Before: look through the archive. Move rejects that were good from its `rejects` to
    `good`, and passes that were bad from its `passes` to `bad`. Passes and the good rejects are
    then judged again. Pictures of another model are left out.
    """
    if not dry_run:
        check_bundle_output("--out" if out else "BUNDLE", out or bundle)
    loaded = Bundle.read(bundle)
    archived = archived_good(from_archive, weights_sha256(loaded))
    config = _config(loaded, target_frr, confidence, allow_small, add)
    with open_runner(loaded, backend, bundle, precision) as runner, stage_progress(Console(stderr=True)) as progress:
        calibrated, result = calibrate(
            loaded, runner, archived.items, config, lambda done, total: progress("judge archived images", done, total)
        )
    backup = None
    if not dry_run and out is None:
        backup = _backup(bundle)
        loaded.write(backup)
    written = None if dry_run else out or bundle
    if written is not None:
        calibrated.write(written)
    said = [*warnings(result, add), *_doubts(archived)]
    _report(archived, result, written=written, backup=backup, said=said, as_json=as_json)


def _config(
    bundle: Bundle, target_frr: float | None, confidence: float | None, allow_small: bool, add: bool
) -> CalibrateConfig:
    """What was asked for, else what the bundle was calibrated for. Raises `BundleError` for one that never was."""
    old = bundle.manifest.threshold
    if old is None:
        raise BundleError("the bundle has no threshold, so no line has judged by it; run `cada-edge calibrate` first")
    return CalibrateConfig(
        target_frr=old.target_frr if target_frr is None else target_frr,
        confidence=old.confidence if confidence is None else confidence,
        method="tolerance" if old.method == "tolerance" else "conformal",
        allow_small=allow_small,
        add=add,
    )


def _backup(bundle: Path) -> Path:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    return bundle.with_name(f"{bundle.stem}-before-{stamp}.cada")


def _doubts(archived: ArchivedGood) -> list[str]:
    doubts: list[str] = []
    if not archived.n_good:
        doubts.append(
            "no reject counts as good, so the threshold can only fall: look through the archive's `rejects` and move "
            "the good ones to its `good` folder, or the line will reject more and more of them."
        )
    if archived.n_lossy:
        doubts.append(f"{archived.n_lossy} pictures are JPEG; their scores differ a little from those on the line.")
    if archived.n_unknown:
        doubts.append(f"{archived.n_unknown} pictures are not in the archive's index and were left out.")
    return doubts


def _report(
    archived: ArchivedGood,
    result: CalibrationResult,
    *,
    written: Path | None,
    backup: Path | None,
    said: list[str],
    as_json: bool,
) -> None:
    """The result on standard output, warnings on standard error; as JSON both in one object."""
    if as_json:
        paths = {"bundle": written, "backup": backup}
        places = {name: str(path) if path else None for name, path in paths.items()}
        typer.echo(
            json.dumps({**result.to_json(), "archive": archived.to_json(), "warnings": said, **places}, indent=2)
        )
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"Archive: {archived.n_passes} passes and {archived.n_good} good rejects count. Left out: "
        f"{archived.n_unsampled} good rejects beyond the passes' sample, {archived.n_bad} marked bad, "
        f"{archived.n_foreign} of another model."
    )
    show(result, console)
    console.print(f"Written to {written}." if written else "Nothing written: --dry-run.", style="dim")
    if backup:
        console.print(f"The bundle before is kept as {backup}.", style="dim")
    for line in said:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"warning: {line}", style="yellow", markup=False)
