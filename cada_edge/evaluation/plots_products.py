"""The report's plots of good parts, product by product: how they score, how many are rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from cada_edge.evaluation.drawing import DEFECT, GOOD, INK, SOFT, STYLE, TITLES, data_uri, rows_of, title
from cada_edge.evaluation.metrics import BoolArray, Float64Array
from cada_edge.evaluation.operating import OperatingPoint, ProductRates
from cada_edge.evaluation.plots import Scores
from cada_edge.evaluation.results import AlignmentName, Evaluation

RIDGES: tuple[AlignmentName, ...] = ("raw", "class-aware", "class-predicted", "cada")
_GRID = 240  # points along a ridge
_MARGIN = 1.12  # of the axis beyond the highest interval


@dataclass(frozen=True)
class Panel:
    """One threshold at which every product's false rejects are told.

    Attributes:
        title: which threshold, in words.
        point: CADA's counts there.
        raw: those of the raw scores at a threshold set in the same way, or None.
    """

    title: str
    point: OperatingPoint
    raw: OperatingPoint | None


def normal_ridges(evaluation: Evaluation) -> str:
    """Score distributions of the good test images per product, before and after alignment: a data URI.

    The paper's figure of per-class distributions of normal samples. One axis a panel for all
    products: where the ridges stand above one another, one threshold fits them all.
    """
    names = [name for name in RIDGES if name in evaluation.names]
    products = sorted({image.product for image in evaluation.images if image.defect is None and image.trained})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.0 + 0.42 * len(products)), layout="constrained")
        axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            scores = Scores.of(evaluation, name, trained_only=True)
            _ridges(axis, scores, ~scores.defective, products)
            short, _, rest = TITLES[name].partition(": ")
            title(axis, short)
            axis.set_xlabel(rest, fontsize=8.5, color=INK)
        return data_uri(figure)


def _ridges(axis: Axes, scores: Scores, good: BoolArray, products: Sequence[str]) -> None:
    rows_of(axis, products)
    values = scores.score[good].astype(np.float64)
    if not len(values):
        return
    low, high = (float(q) for q in np.quantile(values, (0.0, 0.99)))
    pad = 0.12 * (high - low) or 0.5
    grid = np.linspace(low - pad, high + pad, _GRID)
    for row, product in enumerate(products):
        own = values[scores.product[good] == product]
        if len(own):
            base, height = row + 0.42, 0.86 * _density(own, grid)
            axis.fill_between(grid, base - height, base, color=GOOD, alpha=0.55, lw=0, zorder=2)
            axis.plot(grid, base - height, color=GOOD, lw=1, zorder=3)
            axis.plot([np.median(own)] * 2, [base - 0.3, base], color=INK, lw=1.3, zorder=4)
    axis.set_xlim(grid[0], grid[-1])


def _density(values: Float64Array, grid: Float64Array) -> Float64Array:
    """Kernel density on `grid`, its peak 1; equal values give a spike of one grid cell."""
    cell = float(grid[1] - grid[0])
    if np.ptp(values) < cell:
        heights = np.exp(-0.5 * ((grid - values.mean()) / cell) ** 2)
    else:
        heights = gaussian_kde(values)(grid)
    return np.asarray(heights / max(float(heights.max()), np.finfo(np.float64).tiny), np.float64)


def reject_intervals(panels: Sequence[Panel]) -> str:
    """False rejects of each product with their intervals against the rate asked for: a data URI.

    `panels` lie side by side, >= 1; products are in the order of the first, worst first.
    """
    order = [rates.product for rates in panels[0].point.worst_first]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.35 + 0.34 * len(order)), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            rows_of(axis, order)
            _whiskers(axis, order, panel)
            title(axis, panel.title)
            axis.set_xlabel("good parts rejected, %", color=INK)
        handles = [
            axes[0].plot([], [], "o-", color=GOOD, ms=5, lw=2)[0],
            axes[0].plot([], [], "o-", color=DEFECT, ms=5, lw=2)[0],
            axes[0].plot([], [], "o", color="white", mec=SOFT, ms=5)[0],
            axes[0].plot([], [], color=INK, lw=1.2, ls=(0, (4, 2)))[0],
        ]
        labels = ["CADA and its interval", "interval wholly above", "raw", "asked for"]
        figure.legend(handles, labels, loc="outside upper right", ncols=4, frameon=False, fontsize=9)
        return data_uri(figure)


def _whiskers(axis: Axes, order: Sequence[str], panel: Panel) -> None:
    target = panel.point.target_frr
    ours, before = ({r.product: r for r in p.products if r.n_good} if p else {} for p in (panel.point, panel.raw))
    for row, product in enumerate(order):
        if product in before:
            axis.plot(100 * (before[product].frr or 0), row, "o", color="white", mec=SOFT, ms=5, zorder=3)
        if product in ours:
            _whisker(axis, row, ours[product], target)
    axis.axvline(100 * target, color=INK, lw=1.2, ls=(0, (4, 2)), zorder=2)
    ends = [rates.frr_interval[1] for rates in ours.values() if rates.frr_interval]
    seen = [rates.frr or 0.0 for rates in before.values()]
    high = min(101, 100 * _MARGIN * max([2 * target, *ends, *seen]))
    axis.set_xlim(-0.02 * high, high)  # room for a point at 0, none for a share below it


def _whisker(axis: Axes, row: int, rates: ProductRates, target_frr: float) -> None:
    low, high = rates.frr_interval or (0.0, 1.0)
    colour = DEFECT if low > target_frr else GOOD
    axis.plot([100 * low, 100 * high], [row, row], color=colour, lw=2, solid_capstyle="round", zorder=4)
    axis.plot(100 * (rates.frr or 0.0), row, "o", color=colour, ms=5, zorder=5)
    axis.annotate(
        f"{rates.false_rejects}/{rates.n_good}",
        (100 * high, row),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=INK,
    )
