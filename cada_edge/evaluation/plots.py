"""The report's plots as self-contained SVG: score distributions and ROC curves."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cada_edge.evaluation.metrics import BoolArray, Float64Array, roc
from cada_edge.evaluation.operating import OperatingPoint
from cada_edge.evaluation.results import AlignmentName, Evaluation
from cada_edge.types import Float32Array

GOOD, DEFECT, INK, FAINT = "#1f7a8c", "#d1495b", "#22303c", "#dfe5ea"
CURVES: dict[AlignmentName, str] = {"raw": "#9aa5b1", "cada": "#1f7a8c", "class-aware": "#e0a030"}
LINES: dict[AlignmentName, Any] = {"raw": "-", "cada": "-", "class-aware": (0, (3, 1.5))}
TITLES: dict[AlignmentName, str] = {
    "raw": "before: raw score",
    "class-aware": "class-aware (with labels)",
    "class-aware-z": "class-aware z-score (with labels)",
    "cada": "after: CADA-aligned score",
}
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "cada-edge",  # the same evaluation gives the same bytes
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
    def of(evaluation: Evaluation, name: AlignmentName) -> Scores:
        """Collect them from the evaluation's images."""
        images = [image for image in evaluation.images if image.scores[name] is not None]
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
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 1.3 + 0.5 * len(products)), layout="constrained")
        axes = figure.subplots(1, len(points), sharey=True, squeeze=False)[0]
        for axis, (name, point) in zip(axes, points.items(), strict=True):
            _strips(axis, Scores.of(evaluation, name), products, point)
            axis.set_title(TITLES[name], loc="left", fontsize=10, fontweight="bold", color=INK)
        axes[0].set_yticks(range(len(products)), [product or "(all)" for product in products])
        axes[0].set_ylim(len(products) - 0.45, -0.55)
        handles = [axes[0].scatter([], [], s=14, color=colour, linewidths=0) for colour in (GOOD, DEFECT)]
        handles.append(axes[0].plot([], [], color=INK, lw=1.2, ls=(0, (4, 2)))[0])
        labels = ["good", "defective", "threshold"]
        figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
        return _data_uri(figure)


def _strips(axis: Axes, scores: Scores, products: Sequence[str], point: OperatingPoint | None) -> None:
    """Good parts above each product's line, defects below; values off the axis sit at its end."""
    low, high = _limits(scores, point)
    own = {rates.product: rates.threshold for rates in point.products} if point else {}
    for row, product in enumerate(products):
        axis.axhspan(row - 0.45, row + 0.45, color="#f5f7f9" if row % 2 else "white", lw=0, zorder=0)
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
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=FAINT, lw=0.7)
    axis.set_axisbelow(True)


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
    """ROC of raw, class-aware and CADA, whole and where a factory works: a data URI."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 3.9), layout="constrained")
        for axis, limit in zip(figure.subplots(1, 2), (1.0, 0.1), strict=True):
            for name, colour in CURVES.items():
                curve = _curve(evaluation, name)
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
        return _data_uri(figure)


def _curve(evaluation: Evaluation, name: AlignmentName) -> Float64Array | None:
    """Pooled under ``absolute``, else the mean over products of the caught share."""
    scores = Scores.of(evaluation, name)
    if evaluation.config.protocol == "absolute":
        return roc(scores.score, scores.defective, _ROC_GRID)
    parts = [scores.product == product for product in np.unique(scores.product)]
    curves = [roc(scores.score[part], scores.defective[part], _ROC_GRID) for part in parts]
    known = [curve for curve in curves if curve is not None]
    return np.mean(known, axis=0) if known else None


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
