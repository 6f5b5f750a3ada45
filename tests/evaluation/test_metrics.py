"""Figures against brute force on small arrays."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
import pytest

from cada_edge.evaluation.metrics import f1_max, image_metrics, mean_measure, roc
from cada_edge.evaluation.pixels import BINS, Binning, PixelHistogram
from cada_edge.evaluation.results import Measure
from cada_edge.heatmap import upsample
from cada_edge.types import ImageSpec

STRETCH = ImageSpec(size_hw=(32, 32))


def pair_auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Share of (negative, positive) pairs in the right order, ties as half."""
    pairs = list(product(scores[~positive], scores[positive]))
    total: float = sum(float(p > n) + 0.5 * float(p == n) for n, p in pairs)
    return total / len(pairs)


def slow_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """AUPRO from its definition: every threshold, every region, trapezoids up to `limit`."""
    regions = []
    for row, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [(row, labels == index) for index in range(1, count)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        hit = maps >= threshold
        points.append((hit[~masks].mean(), float(np.mean([hit[row][region].mean() for row, region in regions]))))
    fpr, pro = np.array(points).T
    x, y = np.append(fpr[fpr <= limit], limit), np.append(pro[fpr <= limit], np.interp(limit, fpr, pro))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)


def example(seed: int, n: int = 6, side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Maps float32 and masks bool, (n, side, side); every other picture has defects."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, side, side), np.bool_)
    for index in range(0, n, 2):
        for _ in range(3):
            top, left = rng.integers(0, side - 6, 2)
            masks[index, top : top + rng.integers(1, 6), left : left + rng.integers(1, 6)] = True
    maps = rng.gamma(2, 1, (n, side, side)) + masks * rng.random((n, 1, 1)) * 4
    return maps.astype(np.float32), masks


def pooled(maps: np.ndarray, masks: np.ndarray) -> PixelHistogram:
    """All pictures in one histogram."""
    binning = Binning.over(maps)
    parts = [
        PixelHistogram.of(binning.bins(m), mask if mask.any() else None) for m, mask in zip(maps, masks, strict=True)
    ]
    return sum(parts, PixelHistogram.empty())


@pytest.mark.parametrize("seed", range(4))
def test_pixel_auroc_is_that_of_all_pixels(seed: int) -> None:
    """Histograms agree with counting every pair of pixels."""
    maps, masks = example(seed, n=2, side=16)
    assert pooled(maps, masks).auroc().value == pytest.approx(pair_auroc(maps.ravel(), masks.ravel()), abs=2e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [0.3, 1.0])
def test_aupro_follows_its_definition(seed: int, limit: float) -> None:
    """Histograms agree with the mean overlap at every single threshold."""
    maps, masks = example(seed)
    assert pooled(maps, masks).aupro(limit).value == pytest.approx(slow_aupro(maps, masks, limit), abs=5e-4)


def test_one_outlier_does_not_cost_resolution() -> None:
    """A picture a thousand times brighter leaves the other pictures' AUROC as it was."""
    maps, masks = example(1)
    loud = np.concatenate([maps, 1e4 + maps[:1]])
    both = np.concatenate([masks, np.zeros_like(masks[:1])])
    positive, negative = loud[both], loud[~both]
    truth = (np.searchsorted(np.sort(negative), positive) / len(negative)).mean()
    assert pooled(loud, both).auroc().value == pytest.approx(truth, abs=1e-3)


def test_small_regions_count_as_much_as_large_ones() -> None:
    """Finding one tiny region of two is half the overlap, however large the other is."""
    maps, mask = np.zeros((1, 32, 32), np.float32), np.zeros((1, 32, 32), np.bool_)
    mask[0, 0, 0] = mask[0, 10:30, 10:30] = True
    maps[0, 0, 0] = 1.0
    histogram = pooled(maps, mask)
    assert (histogram.regions, histogram.overlap[BINS - 1]) == (2, 1.0)


def test_an_auroc_below_one_half_stays_there() -> None:
    """A detector that is wrong every time scores 0, not 1."""
    found = image_metrics(np.array([3, 2, 1, 0], np.float32), np.array([False, False, True, True]))
    assert found["image_auroc"].value == 0.0


@pytest.mark.parametrize(
    ("labels", "reason"), [([], "no test images"), ([0, 0], "no defective"), ([1, 1], "no good test images")]
)
def test_one_kind_of_image_has_no_figure(labels: list[int], reason: str) -> None:
    """There is a reason and a dash instead of a made-up number."""
    found = image_metrics(np.zeros(len(labels), np.float32), np.array(labels, np.bool_))
    assert all(measure.value is None and reason in measure.reason for measure in found.values())
    assert found["image_ap"].text() == "-"


def test_image_auroc_counts_ties_as_half() -> None:
    """The library's figure is the share of pairs in order."""
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 5, 60).astype(np.float32), rng.random(60) > 0.5
    assert image_metrics(scores, labels)["image_auroc"].value == pytest.approx(pair_auroc(scores, labels))


def test_f1_max_tries_every_threshold() -> None:
    """No threshold gives a better F1."""
    rng = np.random.default_rng(3)
    scores, labels = rng.random(40).astype(np.float32), rng.random(40) > 0.6
    best = 0.0
    for threshold in scores:
        hit = scores >= threshold
        best = max(best, 2 * (hit & labels).sum() / (hit.sum() + labels.sum()))
    assert f1_max(scores, labels) == pytest.approx(best)


def test_no_masks_give_no_pixel_figures() -> None:
    """Good pictures alone say why there is no AUPRO."""
    maps, masks = example(0)
    assert pooled(maps, np.zeros_like(masks)).aupro() == Measure(None, "no defect masks")


def test_a_mean_says_how_many_it_covers() -> None:
    """Missing values are left out, and counted."""
    assert mean_measure([Measure(0.5), Measure(None, "no masks"), Measure(0.7)]) == Measure(0.6, "2 of 3 products")
    assert mean_measure([Measure(None, "no masks")]) == Measure(None, "no masks")


def test_the_roc_is_read_at_the_rates_asked() -> None:
    """Perfect separation catches everything at no false reject."""
    grid = np.array([0.0, 0.5, 1.0])
    found = roc(np.array([0, 1, 2, 3], np.float32), np.array([False, False, True, True]), grid)
    assert found is not None
    assert found.tolist() == [1, 1, 1]


def test_upsampling_keeps_half_pixel_centres() -> None:
    """A ramp stays a ramp with its middle in the middle."""
    cells = np.tile(np.arange(4, dtype=np.float32), (4, 1))
    assert upsample(cells, (4, 8), STRETCH)[0] == pytest.approx([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


def test_letterbox_padding_is_cut_off() -> None:
    """A wide picture takes its map from the middle rows, where it lay in the input."""
    cells = np.zeros((8, 8), np.float32)
    cells[2:6] = 1.0
    full = upsample(cells, (40, 80), ImageSpec(size_hw=(32, 32), resize="letterbox"))
    assert full.shape == (40, 80)
    assert full[8:32].min() == 1.0
    square = upsample(cells, (80, 80), ImageSpec(size_hw=(32, 32), resize="letterbox"))
    assert square == pytest.approx(upsample(cells, (80, 80), STRETCH), abs=1e-2)
