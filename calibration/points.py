"""What other target rates would cost: thresholds for several rates from the same scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cada_edge.calibration.threshold import Method, calibrate_threshold, images_needed
from cada_edge.types import Float32Array

USUAL_TARGETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class RatePoint:
    """One target rate and what the images at hand say of it.

    Attributes:
        target_frr: false-reject rate, in (0, 1).
        value: the threshold that meets it, or None where the images do not support the rate.
        bound_frr: rate not exceeded with probability `confidence`, or None as for `value`.
        confidence: in (0, 1).
        images_needed: fewest good images that support the rate.
    """

    target_frr: float
    value: float | None
    bound_frr: float | None
    confidence: float
    images_needed: int


def rate_points(
    scores: Float32Array, n_novel: int, targets: Iterable[float], confidence: float, method: Method
) -> tuple[RatePoint, ...]:
    """One point per different target, strictest first; arguments as `calibrate_threshold`."""
    return tuple(_point(scores, n_novel, target, confidence, method) for target in sorted(set(targets)))


def _point(scores: Float32Array, n_novel: int, target: float, confidence: float, method: Method) -> RatePoint:
    found = calibrate_threshold(scores, target, confidence, "", method=method, allow_small=True, n_novel=n_novel)
    supported = found.method == method
    return RatePoint(
        target_frr=target,
        value=found.value if supported else None,
        bound_frr=found.bound_frr if supported else None,
        confidence=confidence,
        images_needed=images_needed(target, confidence, method),
    )
