"""The threshold's guarantees, against SciPy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from cada_edge.calibration import (
    calibrate_threshold,
    clopper_pearson,
    describe,
    frr_bound,
    images_needed,
    rate_points,
)
from cada_edge.errors import ConfigError, DataError


def scores_of(n: int) -> np.ndarray:
    """float32 (n,): 0, 1, ... n - 1."""
    return np.arange(n, dtype=np.float32)


@given(st.integers(1, 400), st.data(), st.floats(0.5, 0.999))
def test_the_bound_is_the_beta_quantile(n: int, data: st.DataObject, confidence: float) -> None:
    """The bound computed without SciPy is SciPy's beta quantile."""
    rank = data.draw(st.integers(1, n))
    assert frr_bound(n, rank, confidence) == pytest.approx(beta.ppf(confidence, n - rank + 1, rank), rel=1e-9)


@given(st.integers(1, 80), st.data(), st.floats(0.5, 0.999))
def test_the_interval_is_clopper_pearson(n: int, data: st.DataObject, confidence: float) -> None:
    """The interval of a rate computed without SciPy is SciPy's exact one."""
    hits = data.draw(st.integers(0, n))
    exact = binomtest(hits, n).proportion_ci(confidence, method="exact")
    assert clopper_pearson(hits, n, confidence) == pytest.approx((exact.low, exact.high), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("n", "target", "value"), [(99, 0.01, 98), (199, 0.01, 197), (19, 0.05, 18), (231, 0.01, 229)])
def test_conformal_takes_the_order_statistic(n: int, target: float, value: float) -> None:
    """k = ceil((n + 1) (1 - target)), also where rounding would push it up by one."""
    assert calibrate_threshold(scores_of(n), target, 0.95, "").value == value


@pytest.mark.parametrize("n", [299, 473, 1000])
def test_tolerance_takes_the_lowest_score_whose_bound_holds(n: int) -> None:
    """The bound is within the target, and one score lower it would not be."""
    threshold = calibrate_threshold(scores_of(n), 0.01, 0.95, "", method="tolerance")
    rank = int(threshold.value) + 1
    assert threshold.bound_frr <= 0.01 < frr_bound(n, rank - 1, 0.95)


def test_the_expected_rate_is_within_the_target_by_simulation() -> None:
    """Over many calibrations, fresh good parts are rejected no more often than asked."""
    rng = np.random.default_rng(0)
    rates = [_true_rate(rng, "conformal") for _ in range(2000)]
    assert 0.045 < np.mean(rates) <= 0.05 + 3 * np.std(rates) / np.sqrt(len(rates))


def test_the_bound_holds_with_its_confidence_by_simulation() -> None:
    """With method tolerance, at most one calibration in ten exceeds the target at 90 %."""
    rng = np.random.default_rng(1)
    exceeded = np.mean([_true_rate(rng, "tolerance") > 0.05 for _ in range(500)])
    assert exceeded <= 0.1 + 3 * np.sqrt(0.09 / 500)


def _true_rate(rng: np.random.Generator, method: str) -> float:
    """Calibrate on 119 scores drawn from U(0, 1), whose false-reject rate is 1 - threshold."""
    scores = rng.random(119).astype(np.float32)
    return 1 - calibrate_threshold(scores, 0.05, 0.9, "", method=method).value  # type: ignore[arg-type]  # parametrised


def test_images_beyond_the_novelty_limit_count_as_rejected() -> None:
    """One of 199 images is rejected anyway: at 1 % the threshold is the highest score, the bound that of one reject."""
    threshold = calibrate_threshold(scores_of(198), 0.01, 0.95, "", n_novel=1)
    assert (threshold.value, threshold.n_images, threshold.bound_frr) == (197.0, 199, frr_bound(199, 198, 0.95))


def test_more_novel_images_than_the_rate_allows_are_refused() -> None:
    """No threshold can meet 1 % when 3 % are rejected anyway; --allow-small takes the highest score."""
    with pytest.raises(DataError, match=r"6 of 206 good images are unlike everything.*3\.39 % or more"):
        calibrate_threshold(scores_of(200), 0.01, 0.95, "", n_novel=6)
    with pytest.raises(DataError, match="all 30 good images are unlike"):
        calibrate_threshold(scores_of(0), 0.05, 0.95, "", n_novel=30)
    threshold = calibrate_threshold(scores_of(200), 0.01, 0.95, "", allow_small=True, n_novel=6)
    assert (threshold.method, threshold.value, threshold.bound_frr) == ("maximum", 199.0, frr_bound(206, 200, 0.95))


def test_several_rates_at_once() -> None:
    """Each rate has the threshold it would have alone; one out of reach has none and says how many images it takes."""
    strict, asked, loose = rate_points(scores_of(150), 0, [0.01, 0.1, 0.001, 0.01], 0.95, "conformal")
    assert (strict.target_frr, strict.value, strict.bound_frr, strict.images_needed) == (0.001, None, None, 999)
    assert asked.value == calibrate_threshold(scores_of(150), 0.01, 0.95, "").value
    assert loose.bound_frr == calibrate_threshold(scores_of(150), 0.1, 0.95, "").bound_frr


def test_ties_only_make_it_safer() -> None:
    """When all scores are equal, none of the calibration images is rejected."""
    scores = np.full(100, 3.0, np.float32)
    assert not (scores > calibrate_threshold(scores, 0.05, 0.95, "").value).any()


def test_order_does_not_matter() -> None:
    """Shuffled scores give the same threshold."""
    shuffled = np.random.default_rng(2).permutation(scores_of(150))
    assert calibrate_threshold(shuffled, 0.02, 0.95, "a") == calibrate_threshold(scores_of(150), 0.02, 0.95, "a")


@pytest.mark.parametrize(("method", "needed"), [("conformal", 99), ("tolerance", 299)])
def test_too_few_images_say_how_many_it_takes(method: str, needed: int) -> None:
    """One image short is an error naming the number needed and the rate within reach."""
    assert images_needed(0.01, 0.95, method) == needed  # type: ignore[arg-type]  # parametrised
    with pytest.raises(ConfigError, match=f"at least {needed}, ask for 1.0[12] % or more"):
        calibrate_threshold(scores_of(needed - 1), 0.01, 0.95, "", method=method)  # type: ignore[arg-type]
    calibrate_threshold(scores_of(needed), 0.01, 0.95, "", method=method)  # type: ignore[arg-type]  # parametrised


def test_allow_small_takes_the_maximum_and_says_so() -> None:
    """One image only gives its own score, with a bound of 95 %."""
    threshold = calibrate_threshold(scores_of(1), 0.01, 0.95, "", allow_small=True)
    assert (threshold.method, threshold.value) == ("maximum", 0.0)
    assert threshold.bound_frr == pytest.approx(0.95)
    assert describe(threshold) == (
        "Threshold 0 from 1 good images: the highest score, as they do not support 1 %; "
        "with 95 % confidence not more than 95.00 % good parts rejected."
    )


def test_the_sentence_states_the_guarantee() -> None:
    """Threshold, images, expected rate, confidence and bound stand in one sentence."""
    sentence = describe(calibrate_threshold(scores_of(231), 0.01, 0.95, ""))
    assert sentence == (
        "Threshold 229 from 231 good images: expect at most 1 % good parts rejected; "
        "with 95 % confidence not more than 2.04 %."
    )


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 5.0, float("nan"), float("inf")])
def test_a_rate_outside_0_to_1_is_refused(target: float) -> None:
    """The message names the field and gives an example."""
    with pytest.raises(ConfigError, match=r"target_frr.*0\.01 for 1 %"):
        calibrate_threshold(scores_of(10), target, 0.95, "")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    """A single NaN among the scores is an error, not a low threshold."""
    scores = scores_of(100)
    scores[7] = bad
    with pytest.raises(DataError, match="1 of 100 calibration scores are not finite"):
        calibrate_threshold(scores, 0.05, 0.95, "")


def test_no_scores_are_refused() -> None:
    """Nothing to calibrate on is an error."""
    with pytest.raises(DataError, match="at least one score"):
        calibrate_threshold(scores_of(0), 0.05, 0.95, "")


def test_an_unknown_method_is_refused() -> None:
    """The message lists the methods there are."""
    with pytest.raises(ConfigError, match="'conformal' or 'tolerance'"):
        calibrate_threshold(scores_of(100), 0.05, 0.95, "", method="best")  # type: ignore[arg-type]  # the point
