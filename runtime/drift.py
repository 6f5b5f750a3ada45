"""Whether the line still sees what it was calibrated on: scores and features, source by source.

Score drift: the scores of the last `window` parts that passed are compared with those calibration
scores that would pass, by a two-sample Kolmogorov-Smirnov test. Both samples end at the
threshold, so that rejecting bad parts is no drift. A test is made after every `every` judged
parts; a test alarms falsely with probability `alpha` at most, so a source that has not
drifted alarms within m parts with probability at most ``alpha * m / every``: with the
defaults at most 0.2 in a million parts. This holds for parts drawn like the calibration
images; a long run of a single product is no such draw, and may differ from the mix.

Feature drift: the median novelty of the last `window` parts with a prediction, whatever
their verdict, exceeds what 99 % of the calibration images show; without their novelties, the
model's own limit of 1. A median does not heed single foreign parts.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cada_edge.calibration.drift import score_drift
from cada_edge.calibration.record import stored_novelties, stored_scores
from cada_edge.types import NOVELTY_LIMIT, Float32Array, Prediction, Verdict, require

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle

WINDOW, EVERY, ALPHA = 200, 50, 1e-5
_NOVELTY_QUANTILE = 0.99


@dataclass(frozen=True)
class DriftReport:
    """The state of one source.

    Attributes:
        source_id: whose frames.
        n: passed parts in the window.
        n_calibration: calibration scores compared with; 0 where the bundle keeps none.
        distance: of the two distribution functions, in [0, 1]; ``None`` until a window is full.
        p_value: of that distance, in [0, 1]; ``None`` as above.
        drifted: the scores have drifted.
        median: score, of the window; ``None`` where it is empty.
        median_calibration: score; ``None`` where the bundle keeps none.
        novelty_median: of the window; ``None`` where it is empty.
        novelty_limit: what it is compared with.
        feature_drifted: the median novelty of a full window is above that limit.
    """

    source_id: str
    n: int
    n_calibration: int
    distance: float | None
    p_value: float | None
    drifted: bool
    median: float | None
    median_calibration: float | None
    novelty_median: float | None
    novelty_limit: float
    feature_drifted: bool


@dataclass(frozen=True)
class Reference:
    """What calibration saw.

    Attributes:
        scores: float32 (n,), finite, of images that pass; may be empty.
        novelty_limit: above it a median is drift, > 0.
    """

    scores: Float32Array
    novelty_limit: float = NOVELTY_LIMIT

    @staticmethod
    def of(bundle: Bundle) -> Reference:
        """From the figures that calibration left in `bundle`. Raises `BundleError` when they cannot be read."""
        threshold = bundle.manifest.threshold
        highest = threshold.value if threshold else math.inf
        passing = [s for s in stored_scores(bundle).values() if s is not None and s <= highest]
        return Reference(np.array(passing, np.float32), _novelty_limit(list(stored_novelties(bundle).values())))


class DriftMonitor:
    """Watches any number of sources. Pure: no clock, no I/O. For one thread.

    Args:
        reference: of the bundle that runs; a new bundle needs a new monitor.
        window: parts looked back on, >= 20.
        every: judged parts between two tests, in 1..window.
        alpha: probability of a false alarm per test, in (0, 1).
    """

    def __init__(self, reference: Reference, window: int = WINDOW, every: int = EVERY, alpha: float = ALPHA) -> None:
        require(window >= 20, "window", window, "an integer >= 20")
        require(1 <= every <= window, "every", every, f"an integer in 1..{window}")
        require(0 < alpha < 1, "alpha", alpha, "a number in (0, 1)")
        self._reference, self._window, self._every, self._alpha = reference, window, every, alpha
        self._sources: dict[str, _Source] = {}

    def add(self, verdict: Verdict, prediction: Prediction | None) -> DriftReport | None:
        """Take one verdict; returns a report each time a test has been made."""
        if verdict.source_id not in self._sources:
            self._sources[verdict.source_id] = _Source.empty(verdict.source_id, self._reference, self._window)
        source = self._sources[verdict.source_id]
        if prediction is not None and len(prediction) == 1 and math.isfinite(novelty := float(prediction.novelty[0])):
            source.novelties.append(novelty)
            source.untested += 1
        if verdict.passed and verdict.score is not None:
            source.scores.append(verdict.score)
        if source.untested < self._every:
            return None
        source.report, source.untested = self._tested(source), 0
        return source.report

    def reports(self) -> tuple[DriftReport, ...]:
        """The latest report of every source seen so far."""
        return tuple(source.report for source in self._sources.values())

    def _tested(self, source: _Source) -> DriftReport:
        novelty = float(np.median(source.novelties)) if source.novelties else None
        limit, full = self._reference.novelty_limit, len(source.novelties) == self._window
        report = replace(
            source.report,
            n=len(source.scores),
            median=float(np.median(source.scores)) if source.scores else None,
            novelty_median=novelty,
            feature_drifted=full and novelty is not None and novelty > limit,
        )
        if len(source.scores) < self._window or not len(self._reference.scores):
            return report
        drift = score_drift(self._reference.scores, np.array(source.scores, np.float32))
        drifted = drift.p_value < self._alpha
        return replace(report, distance=drift.distance, p_value=drift.p_value, drifted=drifted)


@dataclass
class _Source:
    scores: deque[float]
    novelties: deque[float]
    report: DriftReport
    untested: int = 0

    @staticmethod
    def empty(source_id: str, reference: Reference, window: int) -> _Source:
        n = len(reference.scores)
        median = float(np.median(reference.scores)) if n else None
        limit = reference.novelty_limit
        nothing = DriftReport(source_id, 0, n, None, None, False, None, median, None, limit, False)
        return _Source(deque(maxlen=window), deque(maxlen=window), nothing)


def _novelty_limit(novelties: list[float]) -> float:
    """What 99 % of the calibration images stay within, at most `NOVELTY_LIMIT`; the highest of few."""
    if not novelties:
        return NOVELTY_LIMIT
    rank = min(len(novelties), math.ceil(_NOVELTY_QUANTILE * (len(novelties) + 1)))
    return min(NOVELTY_LIMIT, sorted(novelties)[rank - 1])
