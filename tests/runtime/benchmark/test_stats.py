from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cada_edge.errors import ConfigError
from cada_edge.runtime.benchmark.budget import Budget
from cada_edge.runtime.benchmark.page import cells
from cada_edge.runtime.benchmark.stats import QUANTILES, needed, ratio, stated, summarise
from cada_edge.runtime.benchmark.svg import round_marks

TIMES = st.lists(st.integers(1, 10**10), min_size=1, max_size=400)


@given(TIMES)
def test_quantiles_are_numpys_where_they_are_stated(times: list[int]) -> None:
    """What is stated equals numpy's quantile; what is not stated is None."""
    found = summarise(times)
    for name, q in QUANTILES.items():
        expected = np.quantile(times, q) if stated(q, len(times)) else None
        assert found.quantiles[name] == (None if expected is None else pytest.approx(expected))
    assert found.max == max(times)
    assert found.n == len(times)


@given(TIMES, st.floats(0.01, 100))
def test_all_figures_scale_with_the_unit(times: list[int], factor: float) -> None:
    """Slower by a factor is slower by that factor in every figure."""
    one, other = summarise(times), summarise(np.array(times) * factor)
    assert other.mean == pytest.approx(one.mean * factor)
    if one.jitter is not None:
        assert other.jitter == pytest.approx(one.jitter * factor, rel=1e-6, abs=1e-6)


def test_one_frame_has_no_jitter() -> None:
    """Neighbours make it: of one frame it is a dash, not a zero that looks measured."""
    assert summarise([1_000_000]).jitter is None
    assert cells("total", summarise([1_000_000]))[-1] == "-"
    assert summarise([1_000_000, 1_000_000]).jitter == 0


@pytest.mark.parametrize(("quantile", "least"), [(0.5, 5), (0.9, 29), (0.99, 299), (0.999, 2995)])
def test_a_quantile_needs_enough_frames(quantile: float, least: int) -> None:
    """The largest of so many samples lies beyond the quantile with 95 % confidence, of one less it does not."""
    assert needed(quantile) == least
    assert 1 - quantile**least >= 0.95
    assert least == 5 or 1 - quantile ** (least - 1) < 0.95
    assert not stated(quantile, least - 1)


@settings(max_examples=20)
@given(TIMES.filter(lambda times: len(times) >= 5), st.floats(0.1, 10))
def test_a_paired_ratio_of_proportional_samples_is_exact(times: list[int], factor: float) -> None:
    """The same moments are drawn on both sides: a constant factor has an interval of no width."""
    found = ratio(np.array(times) * factor, times, 0.5, paired=True)
    assert (found.value, found.low, found.high) == pytest.approx((factor,) * 3)


def test_the_interval_covers_the_true_ratio() -> None:
    """Of 200 runs with a true ratio of medians of 1.25, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        a, b = rng.lognormal(np.log(1.25), 0.2, 150), rng.lognormal(0, 0.2, 150)
        found = ratio(a, b, 0.5, seed=seed)
        held += found.low <= 1.25 <= found.high
    assert 180 <= held <= 200


def test_equal_runs_do_not_differ_and_slower_ones_do() -> None:
    """A tenth slower shows at 300 frames; the same is not called different."""
    rng = np.random.default_rng(1)
    a, b = rng.gamma(100, 1e5, 300), rng.gamma(100, 1e5, 300)
    assert not ratio(a, a, 0.5, paired=True).differs
    assert ratio(a * 1.1, b, 0.5).differs


def test_too_few_samples_have_no_ratio() -> None:
    """A p99 of 100 frames is refused, not made up."""
    with pytest.raises(ConfigError, match="299"):
        ratio([1] * 100, [1] * 100, 0.99)
    with pytest.raises(ConfigError, match="at least 1"):
        summarise([])


@pytest.mark.parametrize("text", ["", "20", "20ms", "ms@p99", "20ms@p95", "-1ms@p50", "0ms@p50", "20 parsecs@p99"])
def test_a_budget_that_cannot_be_parsed_says_what_one_looks_like(text: str) -> None:
    """No text is guessed at."""
    with pytest.raises(ConfigError, match="20ms@p99"):
        Budget.parse(text, 300)


def test_a_budget_is_compared_with_its_own_statistic() -> None:
    """Of 1 to 300 ms the median keeps 151 ms, the maximum does not; p99.9 needs more frames."""
    found = summarise([i * 1_000_000 for i in range(1, 301)])
    assert Budget.parse("151ms@p50", 300).kept(found)
    assert not Budget.parse("0.151s@max", 300).kept(found)
    with pytest.raises(ConfigError, match="2995"):
        Budget.parse("20ms@p99.9", 300)


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0, 7, [0, 2, 4, 6]),
        (3.127, 4.02, [3.2, 3.4, 3.6, 3.8, 4.0]),
        (123.41, 123.46, [123.41, 123.42, 123.43, 123.44, 123.45, 123.46]),
        (5, 5, [5]),
    ],
)
def test_axes_are_marked_at_round_numbers(low: float, high: float, marks: list[float]) -> None:
    """Nobody reads an axis of 3.127, 3.306, 3.484."""
    assert round_marks(low, high) == pytest.approx(marks)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_marks_lie_on_the_axis_and_are_few(low: float, span: float) -> None:
    """At most seven, in order, none beyond the ends; what is counted has no halves."""
    for least in (0.0, 1.0):
        marks = round_marks(low, low + span, least)
        assert 1 <= len(marks) <= 7
        assert marks == sorted(marks)
        assert marks[0] >= low - 1e-6 * max(span, 1e-3)
        assert marks[-1] <= low + span + 1e-6 * max(span, 1e-3)
