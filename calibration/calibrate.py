"""Held-out good images in, a bundle with one threshold out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cada_edge.bundle import Bundle, Stage, data_sha256
from cada_edge.calibration.inference import Judged, Progress, judge
from cada_edge.calibration.threshold import Method, calibrate_threshold, check_request
from cada_edge.data.dataset import Item
from cada_edge.errors import DataError
from cada_edge.protocols import Runner
from cada_edge.types import Float32Array, Threshold, to_json
from cada_edge.version import __version__

SEEN_ROLES = ("fit", "align")
THRESHOLD_ROLE = "threshold"


@dataclass(frozen=True)
class CalibrateConfig:
    """Settings of `calibrate`.

    Attributes:
        target_frr: false-reject rate asked for, in (0, 1).
        confidence: of the stated bound, in (0, 1).
        method: ``conformal`` or ``tolerance``; see `cada_edge.calibration.threshold`.
        allow_small: with too few images for the target, use the highest good score.
        batch_size: images per inference, >= 1; no influence on the result's meaning.
    """

    target_frr: float = 0.01
    confidence: float = 0.95
    method: Method = "conformal"
    allow_small: bool = False
    batch_size: int = 16


@dataclass(frozen=True)
class Selection:
    """Which images calibrate, and how many do not, by reason.

    Attributes:
        items: different good images that training never saw, in the given order.
        n_seen: left out because training used them.
        n_defect: left out because they carry a defect label.
        n_duplicate: left out because another file has the same bytes.
    """

    items: tuple[Item, ...]
    n_seen: int
    n_defect: int
    n_duplicate: int


@dataclass(frozen=True)
class ProductRejects:
    """How many calibration images of one product score above the threshold."""

    product: str
    n_images: int
    n_rejected: int


@dataclass(frozen=True)
class CalibrationResult:
    """What `calibrate` found.

    Attributes:
        threshold: the operating point now in the bundle.
        selection: the images used, and the counts of those left out.
        scores: float32 (n,), aligned score of each used image.
        products: per product, sorted by name; for reading only, no product has its own threshold.
    """

    threshold: Threshold
    selection: Selection
    scores: Float32Array
    products: tuple[ProductRejects, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, without paths and single scores."""
        picked = self.selection
        return {
            "threshold": to_json(self.threshold),
            "n_used": len(picked.items),
            "n_seen_in_training": picked.n_seen,
            "n_defect": picked.n_defect,
            "n_duplicate": picked.n_duplicate,
            "products": [asdict(product) for product in self.products],
        }


def select(bundle: Bundle, items: Sequence[Item]) -> Selection:
    """Keep different good images that training never saw. Raises `DataError` if none remain."""
    by_role = bundle.roles()
    seen = frozenset().union(*(by_role.get(role, frozenset()) for role in SEEN_ROLES))
    good = [item for item in items if item.defect is None]
    unseen = [item for item in good if item.sha256 not in seen]
    kept: dict[str, Item] = {}
    for item in unseen:
        kept.setdefault(item.sha256, item)
    if not kept:
        raise DataError(
            f"none of {len(items)} images can calibrate: {len(items) - len(good)} show a defect, "
            f"{len(good) - len(unseen)} were used in training; give good images the model has not seen"
        )
    return Selection(tuple(kept.values()), len(good) - len(unseen), len(items) - len(good), len(unseen) - len(kept))


def calibrate(
    bundle: Bundle,
    runner: Runner,
    items: Sequence[Item],
    config: CalibrateConfig,
    progress: Progress | None = None,
) -> tuple[Bundle, CalibrationResult]:
    """Set the bundle's threshold from good images it never saw.

    Args:
        bundle: a trained bundle; its ``images.json`` tells what training used.
        runner: runs that bundle.
        items: candidates; see `select` for those that are left out.
        config: target rate, confidence, method.
        progress: called with (done, total) images.

    Raises:
        ConfigError: a setting out of range, or too few images for the target rate.
        DataError: no usable image.
        BundleError: the bundle does not say what it was trained on.
    """
    selection = select(bundle, items)
    check_request(len(selection.items), config.target_frr, config.confidence, config.method, config.allow_small)
    judged = judge(runner, selection.items, config.batch_size, progress)
    scores = judged.prediction.score
    threshold = calibrate_threshold(
        scores,
        config.target_frr,
        config.confidence,
        data_sha256(item.sha256 for item in selection.items),
        method=config.method,
        allow_small=config.allow_small,
    )
    result = CalibrationResult(threshold, selection, scores, _per_product(judged, threshold.value))
    return _record(bundle, config, result), result


def _per_product(judged: Judged, value: float) -> tuple[ProductRejects, ...]:
    total = Counter(item.product for item in judged.items)
    rejected = Counter(
        judged.items[row].product for row in np.flatnonzero(judged.prediction.score.astype(np.float64) > value)
    )
    return tuple(ProductRejects(product, total[product], rejected[product]) for product in sorted(total))


def _record(bundle: Bundle, config: CalibrateConfig, result: CalibrationResult) -> Bundle:
    """The bundle with its threshold, its images and the line of provenance; product names stay outside."""
    results = {key: value for key, value in result.to_json().items() if key not in ("threshold", "products")}
    stage = Stage("calibrate", __version__, asdict(config), result.threshold.data_sha256, None, results)
    # On record, so that no evaluation takes the threshold's images for unseen.
    by_role = {**bundle.roles(), THRESHOLD_ROLE: {item.sha256 for item in result.selection.items}}
    return bundle.with_roles(by_role).with_stage(stage, threshold=result.threshold)
