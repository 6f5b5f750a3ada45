"""Image-level figures, by scikit-learn. A figure that does not exist says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from cada_edge.evaluation.results import Measure
from cada_edge.types import Float32Array

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]


def image_metrics(
    scores: Float32Array, defective: BoolArray
) -> dict[Literal["image_auroc", "image_ap", "image_f1_max"], Measure]:
    """Image AUROC, average precision and best F1, each in [0, 1].

    Args:
        scores: float32 (N,), finite, higher is more anomalous.
        defective: bool (N,).

    An AUROC below 0.5 stays below 0.5. With one kind of image only there is no figure.
    """
    missing = one_class(defective)
    if missing:
        none = Measure(None, missing)
        return {"image_auroc": none, "image_ap": none, "image_f1_max": none}
    return {
        "image_auroc": Measure(float(roc_auc_score(defective, scores))),
        "image_ap": Measure(float(average_precision_score(defective, scores))),
        "image_f1_max": Measure(f1_max(scores, defective)),
    }


def f1_max(scores: Float32Array, defective: BoolArray) -> float:
    """Highest F1 over all thresholds, in (0, 1]; needs at least one defect."""
    precision, recall, _ = precision_recall_curve(defective, scores)
    total = precision + recall
    return float(np.max(np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)))


def one_class(defective: BoolArray) -> str:
    """Why these labels allow no ranking figure; empty when they do."""
    if not len(defective):
        return "no test images"
    if not defective.any():
        return "no defective test images"
    return "" if not defective.all() else "no good test images"


def mean_measure(measures: Sequence[Measure]) -> Measure:
    """Mean of the values that exist; the reason says how many did where some did not."""
    values = [measure.value for measure in measures if measure.value is not None]
    if not values:
        return Measure(None, next((measure.reason for measure in measures), "no products"))
    partial = "" if len(values) == len(measures) else f"{len(values)} of {len(measures)} products"
    return Measure(float(np.mean(values)), partial)


def roc(scores: Float32Array, defective: BoolArray, grid: Float64Array) -> Float64Array | None:
    """True-positive rate at each false-positive rate of `grid`; None with one class only."""
    if one_class(defective):
        return None
    fpr, tpr, _ = roc_curve(defective, scores, drop_intermediate=False)
    return np.asarray(np.interp(grid, fpr, tpr), np.float64)
