"""INT8 ranges from activations, and the images they come from."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from cada_edge.calibration.choice import cover_choice, cover_radius
from cada_edge.calibration.ranges import LEVELS, RANGE_METHODS, Histogram, RangeMethod, collect, range_of
from cada_edge.errors import ConfigError, DataError, ExportError
from cada_edge.types import Float32Array

IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


def bell(count: int = 20_000, seed: int = 0) -> Float32Array:
    """Standard normal numbers."""
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


def histogram(*parts: Float32Array) -> Histogram:
    """A histogram of `parts`, added one after another."""
    made = Histogram()
    for part in parts:
        made.add(part)
    return made


def squared_error(values: Float32Array, limit: float) -> float:
    """Mean square of what symmetric INT8 with this range does to `values`."""
    step = limit / LEVELS
    return float(np.mean((np.clip(np.rint(values / step), -LEVELS, LEVELS) * step - values) ** 2))


def test_a_histogram_counts_every_value_but_zeros() -> None:
    """Values are counted once, whatever their sign, however often the limit had to grow; zeros are not."""
    made = histogram(bell() * 0.01, np.zeros(50, np.float32), bell() * 100)
    assert made.counts.sum() == 40_000
    assert made.limit >= made.largest > 100


def test_the_order_of_images_changes_no_range() -> None:
    """Small values first or large ones first: the same histogram, so the same range."""
    small, large = bell(), bell(seed=1) * 50
    first, second = histogram(small, large), histogram(large, small)
    assert first.limit == second.limit
    for method in RANGE_METHODS:
        assert range_of(first, method) == pytest.approx(range_of(second, method), rel=0.02)


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_no_range_exceeds_what_was_seen(method: RangeMethod) -> None:
    """Every rule gives a number above 0 and at most the largest magnitude."""
    made = histogram(bell())
    assert 0 < range_of(made, method) <= made.largest


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_one_stray_value_rules_max_alone(method: RangeMethod) -> None:
    """A single value at 20 among normal ones stretches the range of `max`, not of the other rules."""
    made = histogram(bell(200_000), np.full(1, 20, np.float32))
    assert range_of(made, "max") == 20
    assert range_of(made, method) < 15


def test_the_mse_rule_has_the_least_error() -> None:
    """Measured on the values themselves, its range is within 5 % of the best of a fine search."""
    values = np.random.default_rng(3).laplace(size=50_000).astype(np.float32)
    best = min(squared_error(values, limit) for limit in np.linspace(0.5, float(np.abs(values).max()), 400))
    assert squared_error(values, range_of(histogram(values), "mse")) <= 1.05 * best


def test_a_tensor_of_zeros_has_a_range() -> None:
    """Nothing to measure is no error: zeros fit any range."""
    assert range_of(histogram(np.zeros(10, np.float32)), "mse") == 1.0


def test_an_unknown_method_is_refused_by_name() -> None:
    """The message holds what was given and what there is."""
    with pytest.raises(ConfigError, match=r"'median'.*mse"):
        range_of(histogram(bell()), cast("RangeMethod", "median"))


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_an_activation_that_is_not_finite_names_tensor_and_image(broken: float) -> None:
    """NaN and infinity have no range; the message says where they are."""
    values = np.ones((2, 3), np.float32)
    values[1, 2] = broken
    with pytest.raises(ExportError, match=r"'relu_3' is NaN or infinite on 'b.png'"):
        collect([(["a.png", "b.png"], IMAGES)], lambda _: {"relu_3": values})


def test_no_images_no_ranges() -> None:
    """An empty calibration set is refused."""
    with pytest.raises(DataError, match="no images"):
        collect([], lambda _: {})


def clusters(sizes: list[int]) -> Float32Array:
    """Rows around as many far-apart centres, in this order."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(20 * i, 1, (n, 6)) for i, n in enumerate(sizes)]).astype(np.float32)


def test_the_choice_covers_a_rare_kind_and_honours_numbers() -> None:
    """Of 400 usual, 200 other and 3 rare images, the rare ones are there and the usual ones lead."""
    rows = np.array(cover_choice(clusters([400, 200, 3]), 32))
    usual, other, rare = (int(((rows >= a) & (rows < b)).sum()) for a, b in ((0, 400), (400, 600), (600, 603)))
    assert rare >= 1
    assert usual > other > rare


def test_the_choice_covers_better_than_the_first_images() -> None:
    """The worst covered image is nearer to a chosen one than with the first N of a sorted folder."""
    data = clusters([50, 50, 50, 50])
    assert cover_radius(data, cover_choice(data, 16)) < 0.5 * cover_radius(data, list(range(16)))


def test_the_choice_is_repeatable_and_without_repetition() -> None:
    """The same images give the same rows, each once, also where many images are equal."""
    data = np.repeat(clusters([5, 5]), 8, axis=0)
    rows = cover_choice(data, 20)
    assert rows == cover_choice(data, 20)
    assert len(set(rows)) == len(rows) == 20


def test_fewer_images_than_asked_for_are_all_taken() -> None:
    """Five images and a wish for ten: all five."""
    assert cover_choice(clusters([5]), 10) == [0, 1, 2, 3, 4]
