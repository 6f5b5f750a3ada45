"""The reference arithmetic, against scipy and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter1d

from cada_edge import MapSpec, image_score, normalise
from cada_edge.alignment import MIN_SPREAD, gaussian_window, smooth, spread
from cada_edge.types import Float32Array

unit = st.floats(0, 2, width=32)
maps_of_any_shape = hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=unit)


def spec(shape: tuple[int, ...], taps: int = 1, sigma: float = 1.0, top: float = 0.1) -> MapSpec:
    """A MapSpec for maps of `shape` (N, h, w)."""
    return MapSpec((shape[1], shape[2]), taps, sigma, top)


@given(maps=maps_of_any_shape, sigma=st.floats(0.3, 6))
def test_smooth_is_scipys_gaussian_with_nearest_edges(maps: Float32Array, sigma: float) -> None:
    """Smoothing equals scipy.ndimage's truncated Gaussian with replicated edges."""
    taps = min(5, 2 * min(maps.shape[1:]) - 1)
    expected = maps.astype(np.float64)
    for axis in (1, 2):
        expected = gaussian_filter1d(expected, sigma, axis=axis, mode="nearest", radius=taps // 2)
    np.testing.assert_allclose(smooth(maps, spec(maps.shape, taps, sigma)), expected, atol=2e-6)


def test_one_tap_switches_smoothing_off() -> None:
    """smooth_taps = 1 returns the map as it was and leaves the caller's array alone."""
    maps = np.random.default_rng(0).random((2, 5, 7), np.float32)
    before = maps.copy()
    np.testing.assert_array_equal(smooth(maps, spec(maps.shape)), before)
    smooth(maps, spec(maps.shape, 5, 2.0))
    np.testing.assert_array_equal(maps, before)


@given(taps=st.integers(0, 15).map(lambda k: 2 * k + 1), sigma=st.floats(0.1, 20))
def test_window_is_symmetric_and_sums_to_one(taps: int, sigma: float) -> None:
    """Smoothing neither shifts nor brightens a map."""
    window = gaussian_window(taps, sigma)
    np.testing.assert_allclose(window, window[::-1])
    assert window.sum() == pytest.approx(1.0, abs=1e-6)


@given(maps=maps_of_any_shape, top=st.floats(0.01, 1))
def test_image_score_is_the_mean_of_the_highest_cells(maps: Float32Array, top: float) -> None:
    """The score equals sorting every cell and averaging the top ones."""
    contract = spec(maps.shape, top=top)
    brute = [np.sort(m.ravel().astype(np.float64))[::-1][: contract.top_k].mean() for m in maps]
    np.testing.assert_allclose(image_score(maps, contract), brute, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("where", [0, 7, 24])
def test_a_nan_anywhere_makes_the_score_nan(where: int) -> None:
    """A map that cannot be read never gets a low score."""
    maps = np.zeros((2, 5, 5), np.float32)
    maps[0].flat[where] = np.nan
    score = image_score(maps, spec(maps.shape))
    assert np.isnan(score[0])
    assert score[1] == 0.0


def test_an_empty_batch_has_an_empty_score() -> None:
    """No images, no scores, no error."""
    assert image_score(np.zeros((0, 4, 4), np.float32), spec((0, 4, 4))).shape == (0,)


def test_normalise_puts_mean_at_zero_and_maximum_at_one() -> None:
    """After alignment 0 is a normal map's mean and 1 its maximum, whatever the product."""
    u, gamma = np.array([0.1, 0.4], np.float32), np.array([0.3, 1.4], np.float32)
    maps = np.stack([np.array([[u_, g_]]) for u_, g_ in zip(u, gamma, strict=True)]).astype(np.float32)
    np.testing.assert_allclose(normalise(maps, u, gamma), [[[0, 1]]] * 2, atol=1e-6)


@given(u=st.floats(-1, 2, width=32), gamma=st.floats(-1, 2, width=32))
def test_spread_is_never_small_enough_to_amplify_noise(u: float, gamma: float) -> None:
    """The divisor is at least MIN_SPREAD even where the head predicts gamma <= u."""
    assert spread(np.array([u], np.float32), np.array([gamma], np.float32))[0] >= np.float32(MIN_SPREAD)


def test_alignment_stays_float32() -> None:
    """Nothing widens to float64 on the way to the score."""
    maps, one = np.ones((1, 5, 5), np.float32), np.ones(1, np.float32)
    made = (smooth(maps, spec(maps.shape, 3)), normalise(maps, one, one), image_score(maps, spec(maps.shape)))
    assert {a.dtype for a in made} == {np.dtype(np.float32)}


def test_three_mixed_classes_become_separable() -> None:
    """The paper's toy: three products no raw threshold can separate are separated after alignment."""
    rng = np.random.default_rng(1)
    scale = np.repeat(np.array([1.0, 3.0, 9.0], np.float32), 50)
    u, gamma = 0.1 * scale, 0.2 * scale
    good = (u + (gamma - u) * rng.uniform(0.7, 1.0, 150)).astype(np.float32)
    bad = (u + (gamma - u) * rng.uniform(1.5, 2.0, 150)).astype(np.float32)
    assert good.max() > bad.min()
    aligned_good = normalise(good[:, None, None], u, gamma)
    aligned_bad = normalise(bad[:, None, None], u, gamma)
    assert aligned_good.max() < aligned_bad.min()
