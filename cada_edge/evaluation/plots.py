"""The report's plots as self-contained SVG: score distributions and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cada_edge.evaluation.drawing import DEFECT, FAINT, GOOD, INK, SOFT, STYLE, TITLES, data_uri, rows_of, title
from cada_edge.evaluation.metrics import BoolArray, Float64Array, roc
from cada_edge.evaluation.operating import OperatingPoint
from cada_edge.evaluation.results import AlignmentName, Evaluation
from cada_edge.types import Float32Array

CURVES: dict[AlignmentName, str] = {
    "raw": SOFT,
    "cada": GOOD,
    "class-aware": "#e0a030",
    "class-predicted": "#8a6fb0",
}
LINES: dict[AlignmentName, Any] = {
    "raw": "-",
    "cada": "-",
    "class-aware": (0, (3, 1.5)),
    "class-predicted": (0, (1, 1)),
}
_ROC_GRID = np.unique(np.concatenate([np.linspace(0, 0.1, 201), np.linspace(0, 1, 401)]))


@dataclass(frozen=True)
class Scores:
    """Test images under one alignment, those it can judge only.

    Attributes:
        product: str (n,).
        defective: bool (n,).
        score: float32 (n,).
    """

    product: np.ndarray[tuple[int], np.dtype[np.str_]]
    defective: BoolArray
    score: Float32Array

    @staticmethod
    def of(evaluation: Evaluation, name: AlignmentName, *, trained_only: bool = False) -> Scores:
        """Collect them from the evaluation's images, on request only of products that training saw."""
        able = [image for image in evaluation.images if image.scores[name] is not None]
        images = [image for image in able if image.trained or not trained_only]
        return Scores(
            np.array([image.product for image in images], np.str_),
            np.array([image.defect is not None for image in images], np.bool_),
            np.array([image.scores[name] for image in images], np.float32),
        )


def distributions(evaluation: Evaluation, points: dict[AlignmentName, OperatingPoint | None]) -> str:
    """Every test score, per product, side by side for the alignments in `points`: a data URI.

    All products share one axis per alignment; `points` give the threshold lines.
    """
    products = sorted({image.product for image in evaluation.images})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.3 + 0.5 * len(products)), layout="constrained")
        axes = figure.subplots(1, len(points), sharey=True, squeeze=False)[0]
        for axis, (name, point) in zip(axes, points.items(), strict=True):
            _strips(axis, Scores.of(evaluation, name), products, point)
            title(axis, TITLES[name])
        apart = " (never trained)"
        labels = [(name or "(all)") + apart * (name in evaluation.never_trained) for name in products]
        axes[0].set_yticks(range(len(products)), labels)
        handles = [axes[0].scatter([], [], s=14, color=colour, linewidths=0) for colour in (GOOD, DEFECT)]
        handles.append(axes[0].plot([], [], color=INK, lw=1.2, ls=(0, (4, 2)))[0])
        figure.legend(
            handles, ["good", "defective", "threshold"], loc="outside upper right", ncols=3, frameon=False, fontsize=9
        )
        return data_uri(figure)


def _strips(axis: Axes, scores: Scores, products: Sequence[str], point: OperatingPoint | None) -> None:
    """Good parts above each product's line, defects below; values off the axis sit at its end."""
    low, high = _limits(scores, point)
    rows_of(axis, products)
    own = {rates.product: rates.threshold for rates in (*point.products, *point.never_trained)} if point else {}
    for row, product in enumerate(products):
        for defective, colour, side in ((False, GOOD, -1), (True, DEFECT, 1)):
            values = scores.score[(scores.product == product) & (scores.defective == defective)]
            offset = side * (0.07 + 0.3 * _jitter(len(values)))
            axis.scatter(np.clip(values, low, high), row + offset, s=9, color=colour, alpha=0.5, linewidths=0)
            if len(values):
                middle = np.clip(np.median(values), low, high)
                axis.plot([middle] * 2, [row + side * 0.04, row + side * 0.42], color=colour, lw=1.8, zorder=3)
        if product in own:
            axis.plot([own[product]] * 2, [row - 0.47, row + 0.47], color=INK, lw=1.2, ls=(0, (4, 2)), zorder=3)
    pad = 0.03 * (high - low)
    axis.set_xlim(low - pad, high + pad)


def _limits(scores: Scores, point: OperatingPoint | None) -> tuple[float, float]:
    """Axis range: nearly all scores and every threshold."""
    values = scores.score.astype(np.float64) if len(scores.score) else np.zeros(1)
    thresholds = [rates.threshold for rates in point.products] if point else []
    low, high = (float(q) for q in np.quantile(values, (0.002, 0.985)))
    low, high = min([low, *thresholds]), max([high, *thresholds])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _jitter(n: int) -> Float64Array:
    """Evenly spread numbers in [0, 1) without a random generator: the golden-ratio sequence."""
    return np.asarray((np.arange(n) * 0.6180339887498949) % 1.0, np.float64)


def roc_curves(evaluation: Evaluation) -> str:
    """ROC of each alignment, whole and where a factory works: a data URI."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.9), layout="constrained")
        for axis, limit in zip(figure.subplots(1, 2), (1.0, 0.1), strict=True):
            for name in (name for name in CURVES if name in evaluation.names):
                curve, colour = _curve(evaluation, name), CURVES[name]
                if curve is not None:
                    label = f"{name}  {evaluation.alignment(name).metrics.image_auroc.text()}"
                    axis.plot(100 * _ROC_GRID, 100 * curve, color=colour, lw=2, label=label, ls=LINES[name])
            axis.plot([0, 100], [0, 100], color=FAINT, lw=1)
            axis.set(xlim=(0, 100 * limit), ylim=(0, 101), ylabel="defects caught, %")
            axis.set_xlabel("good parts rejected, %" + ("" if limit == 1 else " (enlarged)"))
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(color=FAINT, lw=0.7)
            if limit == 1:
                axis.legend(frameon=False, loc="lower right", title="image AUROC")
        return data_uri(figure)


def _curve(evaluation: Evaluation, name: AlignmentName) -> Float64Array | None:
    """Pooled under ``absolute``, else the mean over products of the caught share."""
    scores = Scores.of(evaluation, name, trained_only=True)
    if evaluation.config.protocol == "absolute":
        return roc(scores.score, scores.defective, _ROC_GRID)
    parts = [scores.product == product for product in np.unique(scores.product)]
    curves = [roc(scores.score[part], scores.defective[part], _ROC_GRID) for part in parts]
    known = [curve for curve in curves if curve is not None]
    return np.mean(known, axis=0) if known else None
