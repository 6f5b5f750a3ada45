"""The drift test, against SciPy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from cada_edge.calibration import score_drift


def sample(n: int, shift: float, seed: int) -> np.ndarray:
    """float32 (n,): normal scores around `shift`."""
    return (shift + np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@pytest.mark.parametrize(("n", "m", "shift"), [(40, 30, 0.0), (40, 30, 0.6), (200, 20, 0.9), (300, 250, 0.2)])
def test_distance_and_p_value_are_those_of_kolmogorov_and_smirnov(n: int, m: int, shift: float) -> None:
    """The distance is SciPy's, the p-value within 0.03 or a quarter of the exact one."""
    drift = score_drift(sample(n, 0.0, 1), sample(m, shift, 2))
    exact = ks_2samp(sample(n, 0.0, 1), sample(m, shift, 2))
    assert drift.distance == pytest.approx(exact.statistic, abs=1e-12)
    assert drift.p_value == pytest.approx(exact.pvalue, rel=0.25, abs=0.03)


def test_the_same_line_seldom_alarms() -> None:
    """Of 500 pairs of one distribution, about 1 % or fewer are called drift."""
    alarms = [score_drift(sample(80, 0.0, 2 * i), sample(30, 0.0, 2 * i + 1)).drifted for i in range(500)]
    assert np.mean(alarms) <= 0.02


def test_a_shift_of_one_deviation_is_seen() -> None:
    """Thirty new images a standard deviation higher are drift, with both medians told."""
    drift = score_drift(sample(200, 0.0, 1), sample(30, 1.0, 2))
    assert drift.drifted
    assert drift.median_new - drift.median_earlier > 0.5


@pytest.mark.parametrize("sizes", [(1, 1), (1, 500), (3, 2)])
def test_very_few_images_never_alarm(sizes: tuple[int, int]) -> None:
    """However far away, one to three images prove nothing."""
    drift = score_drift(sample(sizes[0], 0.0, 1), sample(sizes[1], 9.0, 2))
    assert 0 <= drift.p_value <= 1
    assert not drift.drifted


def test_equal_scores_do_not_differ() -> None:
    """A constant score before and after has distance 0 and p 1."""
    drift = score_drift(np.ones(50, np.float32), np.ones(20, np.float32))
    assert (drift.distance, drift.p_value) == (0.0, 1.0)
