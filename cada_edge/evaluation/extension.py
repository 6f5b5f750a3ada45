"""Before and after: what adding products to a model did to the old ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cada_edge.bundle import Bundle
from cada_edge.calibration import Judged, calibrate_threshold, judge
from cada_edge.data.dataset import Dataset, Item
from cada_edge.errors import DataError
from cada_edge.evaluation.metrics import image_metrics
from cada_edge.protocols import Runner

Progress = Callable[[str, int, int], None]
_BATCH = 16


@dataclass(frozen=True)
class Side:
    """One product under one model, at the threshold from that model's own calibration images.

    Attributes:
        false_rejects: good images rejected.
        caught: defective images rejected.
        image_auroc: in [0, 1], or None without both kinds of images.
    """

    false_rejects: int
    caught: int
    image_auroc: float | None


@dataclass(frozen=True)
class ProductChange:
    """One product under both models.

    Attributes:
        product: its name, for reading only.
        is_new: True when the earlier model never learned from it.
        n_good: good images judged.
        n_defect: defective images judged.
        before: under the earlier model.
        after: under the extended one.
    """

    product: str
    is_new: bool
    n_good: int
    n_defect: int
    before: Side
    after: Side


@dataclass(frozen=True)
class Extension:
    """Both models on the same images.

    Attributes:
        target_frr: false-reject rate both thresholds were set for.
        held_out_only: True when the data had no test images and those of calibration were judged,
            which also set the thresholds: the rate of all is then near the target by construction,
            and only how the products share it tells something.
        products: sorted by name.
    """

    target_frr: float
    held_out_only: bool
    products: tuple[ProductChange, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def compare(
    models: tuple[tuple[Bundle, Runner], tuple[Bundle, Runner]],
    dataset: Dataset,
    target_frr: float = 0.05,
    progress: Progress | None = None,
) -> Extension:
    """Judge the same images by the earlier and the extended model.

    Args:
        models: earlier bundle and extended bundle, each with a runner of it.
        dataset: the images the extended model was trained on; test images are judged where it has
            some, else the good images that neither model learned from, which are those of calibration.
        target_frr: for the thresholds, each from its model's own calibration images.
        progress: called with (what, done, total).

    Raises `DataError` when nothing is left to judge or to calibrate on.
    """
    tell = progress or (lambda what, done, total: None)  # noqa: ARG005  # the null progress takes them too
    earlier, extended = models
    items = _unseen(dataset, earlier[0], extended[0])
    rejected, scores = [], []
    for name, (bundle, runner) in zip(("before", "after"), models, strict=True):
        threshold = _threshold(bundle, runner, dataset, target_frr)
        judged = judge(runner, items, _BATCH, lambda done, total, name=name: tell(f"judge {name}", done, total))  # type: ignore[misc]  # a bound default
        scores.append(judged.prediction.score)
        rejected.append((judged.prediction.score > threshold) | judged.prediction.novel())
    learned = {item.product for item in dataset.train() if item.sha256 in _known(earlier[0])}
    rows = [_change(name, learned, items, rejected, scores) for name in sorted({item.product for item in items})]
    return Extension(target_frr, not dataset.test(), tuple(rows))


def _known(bundle: Bundle, roles: Sequence[str] = ("fit", "align")) -> frozenset[str]:
    by_role = bundle.roles()
    return frozenset().union(*(by_role.get(role, frozenset()) for role in roles))


def _unseen(dataset: Dataset, earlier: Bundle, extended: Bundle) -> tuple[Item, ...]:
    seen = _known(earlier) | _known(extended)
    items = tuple(item for item in dataset.test() or dataset.train() if item.sha256 not in seen)
    if not items:
        raise DataError(f"{dataset.root}: no image that neither model learned from, so nothing to compare them on")
    return items


def _threshold(bundle: Bundle, runner: Runner, dataset: Dataset, target_frr: float) -> float:
    held = _known(bundle, ("calibrate",))
    items = tuple(item for item in dataset.train() if item.sha256 in held)
    if not items:
        raise DataError(f"{dataset.root}: none of the images the bundle keeps for calibration is there")
    judged: Judged = judge(runner, items, _BATCH)
    novel = judged.prediction.novel()
    threshold = calibrate_threshold(
        judged.prediction.score[~novel], target_frr, 0.95, "", allow_small=True, n_novel=int(np.count_nonzero(novel))
    )
    return threshold.value


def _change(
    product: str,
    learned: set[str],
    items: Sequence[Item],
    rejected: Sequence[npt.NDArray[np.bool_]],
    scores: Sequence[npt.NDArray[np.float32]],
) -> ProductChange:
    own = np.array([item.product == product for item in items])
    defective = np.array([item.defect is not None for item in items])
    before, after = (
        Side(
            false_rejects=int(np.count_nonzero(no[own & ~defective])),
            caught=int(np.count_nonzero(no[own & defective])),
            image_auroc=image_metrics(score[own], defective[own])["image_auroc"].value,
        )
        for no, score in zip(rejected, scores, strict=True)
    )
    good, bad = int(np.count_nonzero(own & ~defective)), int(np.count_nonzero(own & defective))
    return ProductChange(product, product not in learned, good, bad, before, after)
