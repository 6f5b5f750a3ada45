"""A calibration shown: the guarantee, other rates, each product, and what was before."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from cada_edge.calibration import Before, CalibrationResult, ProductRejects, RatePoint, describe, product_warnings

# A good part of a product in training scores about 1.0 at most; calibrated on such parts,
# thresholds came out between 1.2 and 2.2.
HIGHEST_SANE = 3.0


def show(result: CalibrationResult, console: Console) -> None:
    """Print everything but the warnings."""
    console.print(describe(result.threshold))
    console.print(_rates(result.rates, result.threshold.target_frr))
    console.print(_products(result.products, result.threshold.confidence))
    if result.before:
        n = len(result.selection.items)
        console.print(
            f"Threshold before {result.before.threshold.value:.4g}, now {result.threshold.value:.4g}. The one before "
            f"rejects {result.before.n_rejected} of these {n} good images, the new one "
            f"{sum(one.n_rejected for one in result.products)}."
        )
    picked = result.selection
    console.print(
        f"Used: {len(picked.items)} images given, {result.n_earlier} of the earlier calibration. "
        f"Left out: {picked.n_seen} seen in training, {picked.n_duplicate} duplicates, {picked.n_defect} defective.",
        style="dim",
    )


def warnings(result: CalibrationResult, added: bool) -> Iterator[str]:
    """What the user should know before trusting the threshold, one sentence each."""
    value = result.threshold.value
    if value > HIGHEST_SANE:
        yield (
            f"the threshold {value:.3f} lies far above 1.0, about the most a normal part shows; few defects "
            "reach it. Are these parts the model was trained on? Check the folder, or train with them."
        )
    if result.n_guarded:
        yield (
            f"for {result.n_guarded} of {len(result.selection.items)} images the predicted gamma - u is no more than "
            "its guard, so their scores are coarse: their maps hardly vary. Train on more images of these parts."
        )
    if result.before:
        yield from _drift(result.before, added)
    yield from product_warnings(result.products, result.threshold.target_frr)


def _drift(before: Before, added: bool) -> Iterator[str]:
    drift = before.drift
    if drift is None or not drift.drifted:
        return
    advice = "calibrate without --add, on new images alone" if added else "find out what changed"
    yield (
        f"the new good images score otherwise than those of the earlier calibration (Kolmogorov-Smirnov test: "
        f"distance {drift.distance:.2f}, p {drift.p_value:.2g}; median {drift.median_earlier:.3f} before, "
        f"{drift.median_new:.3f} now): another mix of products, other light, or other parts; {advice}."
    )


def _rates(points: tuple[RatePoint, ...], chosen: float) -> Table:
    table = Table("target", "threshold", f"at most, with {_percent(points[0].confidence)}", "images needed", box=None)
    for point in points:
        found = point.value is not None and point.bound_frr is not None
        table.add_row(
            _percent(point.target_frr),
            f"{point.value:.4g}" if found else "out of reach",
            f"{math.ceil(1e4 * (point.bound_frr or 0)) / 100:.2f} %" if found else "",  # up: it must stay true
            str(point.images_needed),
            style="bold" if point.target_frr == chosen else None,
        )
    return table


def _products(products: tuple[ProductRejects, ...], confidence: float) -> Table:
    table = Table("product", "good images", "rejected", f"rate, with {_percent(confidence)}", box=None)
    for one in products:
        table.add_row(
            one.product or "(unnamed)",
            str(one.n_images),
            str(one.n_rejected),
            f"{100 * one.low_frr:.1f} to {100 * one.high_frr:.1f} %",
            style="yellow" if one.above_target else None,
        )
    return table


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"
