"""Three protocols, one code path: they differ in two answers only.

=========== ================================ ==========================================
protocol    figures                          threshold
=========== ================================ ==========================================
absolute    of all test images in one pool   one, from all calibration images
model       of each product, then averaged   one, from all calibration images
separate    of each product, then averaged   each product its own, from its own images
=========== ================================ ==========================================

``absolute`` is what a line with mixed products lives by, and the only protocol in which
mismatched score distributions cost anything. ``separate`` is class-separated *evaluation*
of the one model given; a model of its own for each product comes from running ``cada-edge
train`` on each product's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cada_edge.calibration import Judged, calibrate_threshold, clopper_pearson
from cada_edge.evaluation.alignments import Aligned
from cada_edge.evaluation.metrics import BoolArray, image_metrics, mean_measure
from cada_edge.evaluation.operating import OperatingPoint, ProductRates
from cada_edge.evaluation.pixels import PixelHistogram
from cada_edge.evaluation.results import (
    METRICS,
    EvaluateConfig,
    Measure,
    Metrics,
    ProtocolName,
)
from cada_edge.types import Threshold

MIN_GAP = 0.02  # of AUROC: below this the ratio is noise


@dataclass(frozen=True)
class Rule:
    """A protocol's two answers, and the sentence that states it in reports."""

    pooled: bool
    own_thresholds: bool
    statement: str


RULES: Mapping[ProtocolName, Rule] = {
    "absolute": Rule(
        True, False, "Absolute-unified: one model, all products in one pool, one threshold, no product names used."
    ),
    "model": Rule(
        False, False, "Model-unified: one model and one threshold; figures per product, then averaged over products."
    ),
    "separate": Rule(
        False,
        True,
        "Class-separated: figures and a threshold per product, from the one model given (not a model per product).",
    ),
}


@dataclass(frozen=True)
class Labelled:
    """Judged images with what evaluation alone may know of them.

    Attributes:
        judged: N images.
        product: str (N,).
        defective: bool (N,).
        trained: bool (N,), whether training saw the product; the others are judged apart.
    """

    judged: Judged
    product: npt.NDArray[np.str_]
    defective: BoolArray
    trained: BoolArray

    @staticmethod
    def of(judged: Judged, never_trained: Collection[str] = ()) -> Labelled:
        """Read the labels off the items; `never_trained` names products."""
        return Labelled(
            judged,
            product=np.array([item.product for item in judged.items], np.str_),
            defective=np.array([item.defect is not None for item in judged.items], np.bool_),
            trained=np.array([item.product not in never_trained for item in judged.items], np.bool_),
        )

    def products(self, rows: BoolArray) -> tuple[str, ...]:
        """Names of the products among `rows`, sorted."""
        return tuple(str(name) for name in np.unique(self.product[rows]))


def metrics_under(rule: Rule, test: Labelled, aligned: Aligned, pixels: Mapping[str, PixelHistogram]) -> Metrics:
    """The figures under `rule`, of the products that training saw."""
    rows = aligned.valid & test.trained
    if rule.pooled:
        pool = sum((pixels[name] for name in test.products(rows) if name in pixels), PixelHistogram.empty())
        return _metrics(test, aligned, rows, pool)
    each = metrics_of_each(test, aligned, rows, pixels).values()
    return Metrics(**{field: mean_measure([getattr(metrics, field) for metrics in each]) for field in METRICS})


def metrics_of_each(
    test: Labelled, aligned: Aligned, rows: BoolArray, pixels: Mapping[str, PixelHistogram]
) -> dict[str, Metrics]:
    """The figures of each product among `rows` alone, sorted by name."""
    return {
        name: _metrics(test, aligned, rows & (test.product == name), pixels.get(name, PixelHistogram.empty()))
        for name in test.products(rows)
    }


def _metrics(test: Labelled, aligned: Aligned, rows: BoolArray, pixels: PixelHistogram) -> Metrics:
    image = image_metrics(aligned.scores[rows], test.defective[rows])
    return Metrics(**image, pixel_auroc=pixels.auroc(), aupro=pixels.aupro())


def image_auroc(rule: Rule, test: Labelled, aligned: Aligned, rows: BoolArray) -> Measure:
    """Image AUROC under `rule` of `rows` only."""
    if rule.pooled:
        return image_metrics(aligned.scores[rows], test.defective[rows])["image_auroc"]
    parts = [rows & (test.product == name) for name in test.products(rows)]
    return mean_measure([image_metrics(aligned.scores[p], test.defective[p])["image_auroc"] for p in parts])


def operating_point(
    target_frr: float,
    config: EvaluateConfig,
    test: Labelled,
    aligned: Aligned,
    held: tuple[Judged, Aligned],
) -> OperatingPoint | None:
    """Rates on test images at thresholds set from held-out good images.

    Args:
        target_frr: rate asked for.
        config: its protocol says one threshold or one per product; its confidence.
        test: the test images.
        aligned: their scores.
        held: calibration images and their scores under the same alignment.

    Returns:
        None when no calibration image is there. Products without a threshold are left out.
    """
    rule, (judged, scores) = RULES[config.protocol], held
    product = np.array([item.product for item in judged.items], np.str_)

    def fit(rows: BoolArray) -> Threshold | None:
        known = scores.scores[rows & ~scores.novel]
        if not len(known):
            return None
        n_novel = int(np.count_nonzero(rows & scores.novel))
        return calibrate_threshold(known, target_frr, config.confidence, "", allow_small=True, n_novel=n_novel)

    names = test.products(aligned.valid)
    if rule.own_thresholds:
        own = {name: fit(scores.valid & (product == name)) for name in names}
    else:
        own = dict.fromkeys(names, fit(scores.valid))
    found = {name: threshold for name, threshold in own.items() if threshold is not None}
    return _point(target_frr, found, test, aligned, config.confidence) if found else None


def stored_point(threshold: Threshold, config: EvaluateConfig, test: Labelled, aligned: Aligned) -> OperatingPoint:
    """Rates at the bundle's own threshold, whatever the protocol."""
    own = dict.fromkeys(test.products(aligned.valid), threshold)
    return _point(threshold.target_frr, own, test, aligned, config.confidence)


def _point(
    target_frr: float, own: Mapping[str, Threshold], test: Labelled, aligned: Aligned, confidence: float
) -> OperatingPoint:
    weakest = max(own.values(), key=lambda threshold: threshold.bound_frr)
    trained, never = (
        tuple(_rates(test, aligned, name, own[name].value, confidence) for name in test.products(rows) if name in own)
        for rows in (aligned.valid & test.trained, aligned.valid & ~test.trained)
    )
    return OperatingPoint(
        target_frr=target_frr,
        method=weakest.method,
        n_calibration=weakest.n_images,
        bound_frr=weakest.bound_frr,
        products=trained,
        never_trained=never,
    )


def _rates(test: Labelled, aligned: Aligned, name: str, value: float, confidence: float) -> ProductRates:
    rows = aligned.valid & (test.product == name)
    rejected = aligned.rejected(value)[rows]
    defective = test.defective[rows]
    n_good, false_rejects = int(np.count_nonzero(~defective)), int(np.count_nonzero(rejected & ~defective))
    return ProductRates(
        product=name,
        threshold=value,
        n_good=n_good,
        false_rejects=false_rejects,
        n_defect=int(np.count_nonzero(defective)),
        caught=int(np.count_nonzero(rejected & defective)),
        frr_interval=clopper_pearson(false_rejects, n_good, confidence) if n_good else None,
    )


def gap_closure(auroc: Callable[[Aligned], Measure], raw: Aligned, class_aware: Aligned, ours: Aligned) -> Measure:
    """(ours - raw) / (class-aware - raw) of one AUROC: 1 means as good as with labels.

    None where labels gain less than two points: there is no gap to close.
    """
    none, labels, found = auroc(raw), auroc(class_aware), auroc(ours)
    if none.value is None or labels.value is None or found.value is None:
        return Measure(None, next(m.reason for m in (none, labels, found) if m.value is None))
    if labels.value - none.value < MIN_GAP:
        return Measure(None, f"labels gain {100 * (labels.value - none.value):.1f} points: no gap to close")
    return Measure((found.value - none.value) / (labels.value - none.value))
