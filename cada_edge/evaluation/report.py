"""The evaluation as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cada_edge.evaluation.gallery import gallery, scale_bar
from cada_edge.evaluation.operating import OperatingPoint, ProductRates
from cada_edge.evaluation.plots import distributions, roc_curves
from cada_edge.evaluation.plots_products import Panel, normal_ridges, reject_intervals
from cada_edge.evaluation.results import (
    METRICS,
    AlignmentName,
    AlignmentResult,
    Evaluation,
)
from cada_edge.heatmap import LIMIT
from cada_edge.imaging import write_atomic
from cada_edge.types import ImageSpec

METRIC_TITLES = dict(zip(METRICS, ("I-AUROC", "I-AP", "F1-max", "P-AUROC", "AUPRO"), strict=True))

NAMES_USED: dict[AlignmentName, str] = {
    "raw": "no",
    "class-aware": "in training and test",
    "class-aware-z": "in training and test",
    "class-predicted": "in training only",
    "cada": "no",
}


@dataclass(frozen=True)
class Card:
    """One headline figure: before and after, in per cent as text."""

    title: str
    before: str
    after: str
    detail: str


def write_report(evaluation: Evaluation, root: Path, spec: ImageSpec, path: Path, *, images: bool = True) -> None:
    """Write the report to `path`, whole or not at all.

    Args:
        evaluation: what to show.
        root: folder of the data set, to read the gallery's pictures from.
        spec: the runner's preprocessing: how maps lie on pictures.
        path: HTML file to write.
        images: embed thumbnails of the test pictures. Without them the file holds figures only.

    Raises:
        DataError: the file cannot be written or a picture not be read.
    """
    write_atomic(path, render(evaluation, root, spec, images=images).encode())


def render(evaluation: Evaluation, root: Path, spec: ImageSpec, *, images: bool = True) -> str:
    """The report as HTML text; see `write_report`."""
    environment = Environment(
        loader=PackageLoader("cada_edge.evaluation", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = percent
    environment.globals["worst"] = worst
    shown: tuple[AlignmentName, ...] = ("raw", "cada")
    points = {name: shown_point(evaluation.alignment(name)) for name in shown}
    panels = _panels(evaluation)
    return environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        statement=evaluation.notes[0],
        notes=evaluation.notes[1:],
        cards=list(_cards(evaluation)),
        metric_titles=METRIC_TITLES,
        names_used=NAMES_USED,
        point=points["cada"],
        products=_product_rows(evaluation, points),
        panels=panels,
        reject_intervals=reject_intervals(panels) if panels else "",
        distributions=distributions(evaluation, points),
        ridges=normal_ridges(evaluation),
        roc=roc_curves(evaluation),
        gallery=gallery(evaluation, root, spec, points["cada"]) if images else {},
        scale=scale_bar(),
        limit=LIMIT,
        spec=spec,
        stages=[
            (stage["name"], json.dumps(stage, indent=1, sort_keys=True)) for stage in evaluation.provenance["stages"]
        ],
    )


def _panels(evaluation: Evaluation) -> list[Panel]:
    """Each target, then the stored threshold unless it is one of them; only where good images tell."""
    raw, cada = evaluation.alignment("raw"), evaluation.alignment("cada")
    before = {point.target_frr: point for point in raw.operating}
    panels = [Panel(_asked(point), point, before.get(point.target_frr)) for point in cada.operating]
    if cada.stored is not None:
        same = [index for index, panel in enumerate(panels) if _alike(panel.point, cada.stored)]
        for index in same:
            panels[index] = replace(panels[index], title=f"{panels[index].title} (the stored threshold)")
        if not same:
            panels.append(Panel(f"stored threshold, {_asked(cada.stored)}", cada.stored, None))
    return [panel for panel in panels if panel.point.worst_first]


def _alike(one: OperatingPoint, other: OperatingPoint) -> bool:
    """The same request and, but for rounding between backends, the same thresholds."""
    pairs = zip(one.products, other.products, strict=False)
    close = all(math.isclose(a.threshold, b.threshold, rel_tol=1e-4) for a, b in pairs)
    return one.target_frr == other.target_frr and len(one.products) == len(other.products) and close


def _asked(point: OperatingPoint) -> str:
    return f"asked for {100 * point.target_frr:g} %"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent without the sign, or a dash."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def shown_point(result: AlignmentResult) -> OperatingPoint | None:
    """The operating point that plots and gallery draw: the first target, else the stored threshold."""
    return result.operating[0] if result.operating else result.stored


def _cards(evaluation: Evaluation) -> Iterator[Card]:
    raw, cada = evaluation.alignment("raw"), evaluation.alignment("cada")
    yield Card("Image AUROC", raw.metrics.image_auroc.text(), cada.metrics.image_auroc.text(), "50 is chance")
    before, after = shown_point(raw), shown_point(cada)
    if after is not None:
        asked = f"asked for {100 * after.target_frr:g} % false rejects"
        which = f"{worst(after)}; {asked}"
        yield Card("Worst product\u2019s false rejects", _worst_rate(before), _worst_rate(after), which)
        yield Card("Defects caught", percent(before.recall) if before else "-", percent(after.recall), asked)
    gap = evaluation.gap_closure
    yield Card("Gap to labels closed", "", gap.text(0), gap.reason or "100 is as good as with product labels")


def _worst_rate(point: OperatingPoint | None) -> str:
    return percent(point.worst.frr if point and point.worst else None)


def worst(point: OperatingPoint) -> str:
    """The worst product in words: rate, name and counts; of several without any, all together."""
    product = point.worst
    if product is None:
        return "-"
    if not product.false_rejects:
        return f"none rejected (0/{sum(rates.n_good for rates in point.products)})"
    return f"{percent(product.frr)} {product.product} ({product.false_rejects}/{product.n_good})"


def _product_rows(evaluation: Evaluation, points: dict[AlignmentName, OperatingPoint | None]) -> list[dict[str, Any]]:
    """One row per product, those never trained last: CADA's figures, and its rates before and after."""
    rates = {name: _by_product(point) for name, point in points.items()}
    cada = evaluation.alignment("cada")
    return [
        {
            "name": product or "(all)",
            "trained": trained,
            "metrics": metrics,
            "raw": rates["raw"].get(product),
            "cada": rates["cada"].get(product),
            "n_good": sum(i.product == product and i.defect is None for i in evaluation.images),
            "n_defect": sum(i.product == product and i.defect is not None for i in evaluation.images),
        }
        for trained, products in ((True, cada.products), (False, cada.never_trained))
        for product, metrics in products.items()
    ]


def _by_product(point: OperatingPoint | None) -> dict[str, ProductRates]:
    return {rates.product: rates for rates in (*point.products, *point.never_trained)} if point else {}
