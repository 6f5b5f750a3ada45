"""From a peer's scores to cada-edge's own figures, by cada-edge's own functions, and a table of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cada_edge.calibration import Judged
from cada_edge.data.dataset import Item
from cada_edge.evaluation import EvaluateConfig, Measure, Metrics
from cada_edge.evaluation.alignments import align, class_statistics
from cada_edge.evaluation.metrics import image_metrics
from cada_edge.evaluation.protocols import RULES, Labelled, metrics_of_each, metrics_under, operating_point
from cada_edge.evaluation.results import AlignmentName
from cada_edge.types import Float32Array, Prediction

TARGET_FRR = 0.05
_ALIGNMENTS: tuple[AlignmentName, ...] = ("raw", "class-aware", "class-aware-z")
_AUROC = "image_auroc"
_BACKENDS = ("torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Scored:
    """Items and what a peer said of them.

    Attributes:
        items: N items.
        scores: float32 (N,), raw, in the peer's own units.
        maps: float32 (N, h, w), raw.
    """

    items: tuple[Item, ...]
    scores: Float32Array
    maps: Float32Array

    def judged(self, unit: float) -> Judged:
        """As a runner would have returned it: no alignment, in multiples of `unit`.

        One factor for all images changes no order, and keeps scores far from `MIN_SPREAD`.
        """
        zeros, ones = (np.full(len(self.items), value, np.float32) for value in (0, 1))
        prediction = Prediction(
            (self.scores / unit).astype(np.float32), (self.maps / unit).astype(np.float32), zeros, ones, zeros
        )
        return Judged(self.items, prediction, ((0, 0),) * len(self.items))  # only pixel figures read the sizes


def figures(held: Scored, test: Scored, calibrate: Collection[str], normalised: Float32Array) -> dict[str, Any]:
    """All figures of one peer, absolute-unified unless the key says otherwise.

    Args:
        held: good images that the peer was not fitted on.
        test: test images.
        calibrate: digests of those held-out images that set the threshold; all give class statistics.
        normalised: float32 (N,), scores of `test` after the peer's own post-processor, if it has one.
    """
    unit = float(held.scores.mean(dtype=np.float64))
    known, labelled = held.judged(unit), Labelled.of(test.judged(unit))
    calibration = known.take([row for row, item in enumerate(held.items) if item.sha256 in calibrate])
    statistics, config = class_statistics(known), EvaluateConfig("absolute", (TARGET_FRR,))
    post_processed = image_metrics(normalised, labelled.defective)
    found: dict[str, Any] = {"post_processed_pooled": asdict(post_processed["image_auroc"])}
    for name in _ALIGNMENTS:
        aligned = align(name, labelled.judged, statistics, {})
        point = operating_point(
            TARGET_FRR, config, labelled, aligned, (calibration, align(name, calibration, statistics, {}))
        )
        each = metrics_of_each(labelled, aligned, aligned.valid, {})
        found[name] = {
            "pooled": _image_figures(metrics_under(RULES["absolute"], labelled, aligned, {})),
            "mean_of_products": _image_figures(metrics_under(RULES["model"], labelled, aligned, {})),
            "products": {product: _image_figures(metrics) for product, metrics in each.items()},
            "operating_point": point.to_json() if point else None,
        }
    return found


def _image_figures(metrics: Metrics) -> dict[str, Any]:
    """The three figures that need no pixels."""
    return {name: asdict(getattr(metrics, name)) for name in (_AUROC, "image_ap", "image_f1_max")}


def to_markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Two tables, one row per peer and one per product, per cent.

    Each result holds `figures` under that name, ``latency`` and ``title``.
    """
    head = [
        "detector, same encoder weights",
        "mean per product",
        "one pool",
        "one pool, aligned with labels",
        "good rejected / worst product / defects caught at 5 % asked",
        "the same, aligned with labels",
        "whole over bare encoder: " + " / ".join(_BACKENDS),
    ]
    rows = [[result["title"], *_accuracy(result["figures"]), _ratios(result["latency"])] for result in results.values()]
    products = sorted({name for result in results.values() for name in result["figures"]["raw"]["products"]})
    per_product = [
        [name, *(_auroc(result["figures"]["raw"]["products"].get(name)) for result in results.values())]
        for name in products
    ]
    titles = [str(result["title"]) for result in results.values()]
    return f"{_table(head, rows)}\n{_table(['I-AUROC of one product', *titles], per_product)}"


def _accuracy(found: Mapping[str, Any]) -> list[str]:
    raw, labels = found["raw"], found["class-aware"]
    return [
        _auroc(raw["mean_of_products"]),
        _auroc(raw["pooled"]),
        _auroc(labels["pooled"]),
        _rates(raw["operating_point"]),
        _rates(labels["operating_point"]),
    ]


def _auroc(metrics: Mapping[str, Any] | None) -> str:
    return Measure(**metrics[_AUROC]).text() if metrics else "-"


def _rates(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return "-"
    return " / ".join(Measure(point[key]).text() for key in ("frr", "worst_frr", "recall"))


def _ratios(latency: Mapping[str, Mapping[str, Any]]) -> str:
    return " / ".join(f"{latency[b]['ratio']:.2f}" if "ratio" in latency.get(b, {}) else "-" for b in _BACKENDS)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
