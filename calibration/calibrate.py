"""Held-out good images in, a bundle with one threshold out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cada_edge.bundle import Bundle, Stage, data_sha256
from cada_edge.calibration.drift import Drift, score_drift
from cada_edge.calibration.inference import Judged, Progress, judge
from cada_edge.calibration.points import USUAL_TARGETS, RatePoint, rate_points
from cada_edge.calibration.products import ProductRejects, product_rejects
from cada_edge.calibration.record import NoveltyOf, ScoreOf, stored_novelties, stored_scores, with_scores
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
        add: let the images join those of the earlier calibration instead of replacing them.
    """

    target_frr: float = 0.01
    confidence: float = 0.95
    method: Method = "conformal"
    allow_small: bool = False
    batch_size: int = 16
    add: bool = False


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
class Before:
    """The threshold that was, and what it makes of the new images.

    Attributes:
        threshold: the earlier operating point.
        n_rejected: new images it rejects, those beyond the novelty limit among them.
        drift: earlier scores against new; None where the bundle kept none, or no image is new.
    """

    threshold: Threshold
    n_rejected: int
    drift: Drift | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        drift = {**asdict(self.drift), "drifted": self.drift.drifted} if self.drift else None
        return {"threshold": to_json(self.threshold), "n_rejected": self.n_rejected, "drift": drift}


@dataclass(frozen=True)
class CalibrationResult:
    """What `calibrate` found.

    Attributes:
        threshold: the operating point now in the bundle.
        selection: the images used, and the counts of those left out.
        scores: float32 (n,), aligned score of each used image.
        products: per product of the used images, the worst first.
        rates: thresholds for other target rates from the same images.
        n_earlier: images of the earlier calibration that count beside the used ones.
        n_novel: images of both that lie beyond the novelty limit.
        n_guarded: used images whose gamma - u sits on its guard, `MIN_SPREAD`: their score is coarse.
        before: the earlier threshold on the new images, or None for a first calibration.
    """

    threshold: Threshold
    selection: Selection
    scores: Float32Array
    products: tuple[ProductRejects, ...]
    rates: tuple[RatePoint, ...]
    n_earlier: int
    n_novel: int
    n_guarded: int
    before: Before | None

    def counts(self) -> dict[str, int]:
        """How many images of which kind."""
        return {
            "n_used": len(self.selection.items),
            "n_earlier": self.n_earlier,
            "n_novel": self.n_novel,
            "n_guarded": self.n_guarded,
            "n_seen_in_training": self.selection.n_seen,
            "n_defect": self.selection.n_defect,
            "n_duplicate": self.selection.n_duplicate,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, without paths and single scores."""
        return {
            "threshold": to_json(self.threshold),
            **self.counts(),
            "products": [product.to_json() for product in self.products],
            "rates": [asdict(point) for point in self.rates],
            "before": self.before.to_json() if self.before else None,
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
    earlier = stored_scores(bundle)
    kept = _kept(earlier) if config.add else {}
    n_images = len({*kept, *(item.sha256 for item in selection.items)})
    check_request(n_images, config.target_frr, config.confidence, config.method, config.allow_small)
    judged = judge(runner, selection.items, config.batch_size, progress)
    scores = {**kept, **_score_of(judged)}
    threshold, rates = _thresholds(scores, config)
    result = CalibrationResult(
        threshold=threshold,
        selection=selection,
        scores=judged.prediction.score,
        products=product_rejects(
            [item.product for item in judged.items],
            _rejected(judged, threshold.value),
            judged.prediction.novel(),
            threshold,
        ),
        rates=rates,
        n_earlier=len(scores) - len(judged),
        n_novel=len(scores) - len(_known(scores)),
        n_guarded=int(np.count_nonzero(judged.prediction.guarded())),
        before=_before(bundle.manifest.threshold, earlier, judged),
    )
    kept_novelties = stored_novelties(bundle) if config.add else {}
    return _record(bundle, config, result, scores, {**kept_novelties, **_novelty_of(judged)}), result


def _kept(earlier: ScoreOf) -> ScoreOf:
    if not earlier:
        raise DataError(
            "the bundle keeps no calibration scores for its present weights, so nothing can be added to them; "
            "calibrate without --add, on all good images the model has not seen"
        )
    return earlier


def _score_of(judged: Judged) -> ScoreOf:
    rows = zip(judged.items, judged.prediction.score.tolist(), judged.prediction.novel().tolist(), strict=True)
    return {item.sha256: None if novel else score for item, score, novel in rows}


def _novelty_of(judged: Judged) -> NoveltyOf:
    rows = zip(judged.items, judged.prediction.novelty.tolist(), strict=True)
    return {item.sha256: novelty for item, novelty in rows}


def _known(scores: ScoreOf) -> Float32Array:
    """float32 (m,): the scores of the images within the novelty limit."""
    return np.array([score for score in scores.values() if score is not None], dtype=np.float32)


def _thresholds(scores: ScoreOf, config: CalibrateConfig) -> tuple[Threshold, tuple[RatePoint, ...]]:
    known = _known(scores)
    n_novel = len(scores) - len(known)
    threshold = calibrate_threshold(
        known,
        config.target_frr,
        config.confidence,
        data_sha256(scores),
        method=config.method,
        allow_small=config.allow_small,
        n_novel=n_novel,
    )
    targets = (*USUAL_TARGETS, config.target_frr)
    return threshold, rate_points(known, n_novel, targets, config.confidence, config.method)


def _rejected(judged: Judged, value: float) -> npt.NDArray[np.bool_]:
    """bool (N,): what a line with this threshold would not let pass."""
    above: npt.NDArray[np.bool_] = judged.prediction.score.astype(np.float64) > value
    return above | judged.prediction.novel()


def _before(threshold: Threshold | None, earlier: ScoreOf, judged: Judged) -> Before | None:
    if threshold is None:
        return None
    fresh = {digest: score for digest, score in _score_of(judged).items() if digest not in earlier}
    old, new = _known(earlier), _known(fresh)
    drift = score_drift(old, new) if len(old) and len(new) else None
    return Before(threshold, int(np.count_nonzero(_rejected(judged, threshold.value))), drift)


def _record(
    bundle: Bundle, config: CalibrateConfig, result: CalibrationResult, scores: ScoreOf, novelties: NoveltyOf
) -> Bundle:
    """The bundle with its threshold, its images and the line of provenance; product names stay outside."""
    stage = Stage("calibrate", __version__, asdict(config), result.threshold.data_sha256, None, dict(result.counts()))
    # On record, so that no evaluation takes the threshold's images for unseen.
    by_role = {**bundle.roles(), THRESHOLD_ROLE: scores.keys()}
    calibrated = bundle.with_roles(by_role).with_stage(stage, threshold=result.threshold)
    return with_scores(calibrated, scores, novelties)
