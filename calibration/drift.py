"""Whether new good images score as those did that set the threshold before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cada_edge.types import Float32Array

DRIFT_P_VALUE = 0.01
_TERMS = 100  # of the Kolmogorov series: more than doubles resolve where it matters


@dataclass(frozen=True)
class Drift:
    """Two-sample Kolmogorov-Smirnov test of earlier against new scores.

    Attributes:
        n_earlier: images of the earlier calibration.
        n_new: new images, none of them among the earlier.
        distance: largest difference of the two distribution functions, in [0, 1].
        p_value: how often samples of one distribution differ as much, in [0, 1]; small means drift.
        median_earlier: aligned score.
        median_new: aligned score.
    """

    n_earlier: int
    n_new: int
    distance: float
    p_value: float
    median_earlier: float
    median_new: float

    @property
    def drifted(self) -> bool:
        """Whether the p-value is below `DRIFT_P_VALUE`."""
        return self.p_value < DRIFT_P_VALUE


def score_drift(earlier: Float32Array, new: Float32Array) -> Drift:
    """Compare two samples of scores, float32 (n,) and (m,), both non-empty and finite.

    The p-value is the asymptotic one with the correction for small samples of Stephens 1970,
    "Use of the Kolmogorov-Smirnov, Cramer-von Mises and related statistics without extensive
    tables", for the effective size n m / (n + m).
    """
    both = np.concatenate([earlier, new])
    below = [np.searchsorted(np.sort(sample), both, side="right") / len(sample) for sample in (earlier, new)]
    distance = float(np.abs(below[0] - below[1]).max())
    root = math.sqrt(len(earlier) * len(new) / len(both))
    return Drift(
        n_earlier=len(earlier),
        n_new=len(new),
        distance=distance,
        p_value=_kolmogorov((root + 0.12 + 0.11 / root) * distance),
        median_earlier=float(np.median(earlier)),
        median_new=float(np.median(new)),
    )


def _kolmogorov(x: float) -> float:
    """P(K > x) for the Kolmogorov distribution, in [0, 1]."""
    if x < 0.2:  # the series converges too slowly, and the probability is 1 to ten digits
        return 1.0
    series = math.fsum((-1) ** (j - 1) * math.exp(-2.0 * j * j * x * x) for j in range(1, _TERMS + 1))
    return min(1.0, max(0.0, 2.0 * series))
