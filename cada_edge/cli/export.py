"""``cada-edge export``: the bundle's ONNX graphs, each checked against the one before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.bundle import MODEL, Bundle
from cada_edge.cli._export_tables import show_parity, show_precisions
from cada_edge.cli._outputs import check_bundle_output, check_folder_output, check_output
from cada_edge.cli._precision import (
    CalibrationImages,
    Int8Depthwise,
    Int8Rest,
    RangeMethodOption,
    ScoreBudget,
    open_ort,
)
from cada_edge.cli._progress import stage_progress
from cada_edge.data.dataset import Item, scan
from cada_edge.engine_key import Precision
from cada_edge.errors import ConfigError
from cada_edge.export.gate_page import write_gate
from cada_edge.export.gate_report import TOLERANCES, GateTolerance
from cada_edge.export.parity import Tolerance
from cada_edge.export.precision import add_precisions
from cada_edge.export.precision_config import PrecisionConfig, Progress, spread
from cada_edge.export.precision_report import PrecisionReport
from cada_edge.export.stage import ExportConfig
from cada_edge.export.stage import export as run_export
from cada_edge.imaging import write_atomic
from cada_edge.runtime.runners.ort import OrtRunner


def export(
    bundle: Annotated[Path, typer.Argument(help="Trained bundle.", metavar="BUNDLE")],
    *,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Folder of pictures to compare on; lower precisions need its good ones."),
    ] = None,
    max_images: Annotated[int, typer.Option(min=1, help="At most so many in the parity check, spread over it.")] = 200,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference of score and map: absolute up to 1, relative above.")
    ] = Tolerance.score,
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="fp16,int8", help="Add graphs of lower precision, each through its accuracy gate."),
    ] = None,
    calibration_images: CalibrationImages = PrecisionConfig.calibration_images,
    range_method: RangeMethodOption = PrecisionConfig.range_method,
    score_budget: ScoreBudget = PrecisionConfig.score_budget,
    int8_depthwise: Int8Depthwise = PrecisionConfig.depthwise,
    int8_rest: Int8Rest = PrecisionConfig.rest,
    gate_images: Annotated[
        int, typer.Option(help="Held-out good images of the accuracy gate, each also damaged.")
    ] = PrecisionConfig.gate_images,
    max_auroc_fall: Annotated[
        float | None, typer.Option(help="Gate: allowed fall of the pooled AUROC. [default: 0.005 fp16, 0.01 int8]")
    ] = None,
    max_flips: Annotated[
        float | None, typer.Option(help="Gate: allowed share of flipped verdicts. [default: 0.005 fp16, 0.02 int8]")
    ] = None,
    max_false_rejects: Annotated[
        float | None,
        typer.Option(help="Gate: allowed rise of one product's false-reject rate, a share. [default: 0.05]"),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the gate's page, figures and worst images there, passed or not."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write here instead of into BUNDLE.")] = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE.onnx", help="Write the fp32 graph alone as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON.")] = False,
) -> None:
    """Add the ONNX graph to a bundle and prove that it judges as the model does.

    The graph takes raw pixels and gives score, aligned map, u and gamma. It is run in ONNX
    Runtime next to PyTorch; past the tolerance the command fails and writes nothing. The same
    holds for --precision: float16 and INT8 graphs are judged against it on held-out good
    images of DATA, as they are and with painted damage.
    """
    wanted = _precisions(precision or [])
    if wanted and images is None:
        raise ConfigError(
            f"--images: got none, but --precision {','.join(wanted)} needs good images; give their folder"
        )
    target = out or bundle
    check_bundle_output("--out" if out else "BUNDLE", target)
    check_folder_output("--report", report)
    check_output("--onnx", onnx)
    config = ExportConfig(tolerance=Tolerance(score=tolerance, map=tolerance))
    settings = PrecisionConfig(
        calibration_images=calibration_images,
        range_method=range_method,
        score_budget=score_budget,
        depthwise=int8_depthwise,
        rest=int8_rest,
        gate_images=gate_images,
        tolerances=_tolerances(auroc=max_auroc_fall, flips=max_flips, false_rejects=max_false_rejects),
    )
    loaded, data = Bundle.read(bundle), scan(images) if images else None
    with stage_progress(Console(stderr=True)) as progress:
        exported, parity = run_export(
            loaded,
            OrtRunner,
            [item.path for item in spread(data.items, max_images)] if data else [],
            config,
            lambda done, total: progress("compare", done, total),
        )
        lower: PrecisionReport | None = None
        if wanted and data:
            exported, lower = _add(exported, wanted, data.items, settings, progress=progress, folder=report)
    exported.write(target)
    if onnx:
        write_atomic(onnx, exported.file(MODEL))
    if as_json:
        added = lower.to_json() if lower else None
        typer.echo(json.dumps({**parity.to_json(), "precisions": added, "bundle": str(target)}, indent=2))
        return
    console = Console()
    show_parity(parity, target, console)
    if lower:
        show_precisions(lower, console)


def _precisions(given: list[str]) -> tuple[Precision, ...]:
    """The lower precisions asked for; fp32 is always there."""
    known: dict[str, Precision] = {"fp16": "fp16", "int8": "int8"}
    names = [name.strip() for text in given for name in text.split(",")]
    unknown = sorted(set(names) - {"fp32", *known})
    if unknown:
        raise ConfigError(f"--precision: got {', '.join(map(repr, unknown))}, expected fp16, int8 or both, fp16,int8")
    return tuple(known[name] for name in known if name in names)


def _tolerances(**asked: float | None) -> dict[Precision, GateTolerance]:
    """The defaults with what was asked for in their place."""
    given = {name: value for name, value in asked.items() if value is not None}
    return {precision: replace(default, **given) for precision, default in TOLERANCES.items()}


def _add(
    bundle: Bundle,
    wanted: tuple[Precision, ...],
    items: tuple[Item, ...],
    settings: PrecisionConfig,
    *,
    progress: Progress,
    folder: Path | None,
) -> tuple[Bundle, PrecisionReport]:
    def keep(found: PrecisionReport) -> None:
        if folder:
            write_gate(found, bundle.manifest.spec, folder)

    return add_precisions(bundle, wanted, items, open_ort, settings, progress=progress, on_report=keep)
