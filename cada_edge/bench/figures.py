"""An evaluation reduced to what a table needs: plain JSON, a few kilobytes a cell."""

from __future__ import annotations

from typing import Any

from cada_edge.evaluation import Evaluation, OperatingPoint
from cada_edge.evaluation.metrics import mean_measure
from cada_edge.evaluation.results import METRICS, AlignmentResult


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Per alignment the pooled figures, their mean over products and the operating points; the gap closure."""
    return {
        "alignments": {result.name: _alignment(result) for result in evaluation.alignments},
        "gap_closure": {"value": evaluation.gap_closure.value, "reason": evaluation.gap_closure.reason},
        "n_test_good": evaluation.provenance["n_test_good"],
        "n_test_defective": evaluation.provenance["n_test_defective"],
        "n_calibration": evaluation.provenance["n_calibration"],
        "notes": list(evaluation.notes),
    }


def _alignment(result: AlignmentResult) -> dict[str, Any]:
    each = result.products.values()
    return {
        "pooled": {name: getattr(result.metrics, name).value for name in METRICS},
        "per_product": {name: mean_measure([getattr(m, name) for m in each]).value for name in METRICS},
        "products": {
            product: {name: getattr(metrics, name).value for name in METRICS}
            for product, metrics in result.products.items()
        },
        "operating": [_point(point) for point in result.operating],
    }


def _point(point: OperatingPoint) -> dict[str, Any]:
    worst = point.worst
    return {
        "target_frr": point.target_frr,
        "method": point.method,
        "frr": point.frr,
        "recall": point.recall,
        "worst_frr": worst.frr if worst else None,
        "worst": f"{worst.product} {worst.false_rejects}/{worst.n_good}" if worst else "",
        "products": {
            rates.product: [rates.false_rejects, rates.n_good, rates.caught, rates.n_defect] for rates in point.products
        },
    }
