"""Promises of the head's targets: out of sample, local, and blind to single images."""

from __future__ import annotations

import torch

from cada_edge.training.targets import (
    MapStatistics,
    kind_targets,
    neighbour_weights,
    neighbourhood,
    typical_distance,
)

# What `typical_distance` says of unit Gaussian descriptors with 8 numbers.
TYPICAL = 2.5


def _two_products(per_product: tuple[int, int]) -> tuple[torch.Tensor, MapStatistics]:
    """Descriptors of two far-apart products, and map statistics of 0.2/0.4 against 0.6/1.2."""
    generator = torch.Generator().manual_seed(0)
    large, small = per_product
    descriptors = torch.randn(large + small, 8, generator=generator)
    descriptors[large:] += 30.0
    level = torch.cat([torch.full((large,), 1.0), torch.full((small,), 3.0)])
    return descriptors, MapStatistics(0.2 * level, 0.4 * level)


def _strangers(queries: int, anchors: torch.Tensor) -> torch.Tensor:
    """No query shows a picture that an anchor shows."""
    return torch.zeros(queries, len(anchors), dtype=torch.bool)


def _targets(weights: torch.Tensor, statistics: MapStatistics) -> tuple[torch.Tensor, torch.Tensor]:
    return kind_targets(neighbourhood(weights, statistics))


def test_rows_sum_to_one() -> None:
    """Weights are a mean: every row sums to one, whatever the distances."""
    anchors, _ = _two_products((20, 3))
    weights = neighbour_weights(torch.randn(7, 8) * 100, anchors, _strangers(7, anchors), 10, TYPICAL)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(7))


def test_small_product_keeps_its_own_statistics() -> None:
    """Three images of a product are not averaged with another product's, though ten neighbours are asked for."""
    anchors, statistics = _two_products((40, 3))
    u, _ = _targets(neighbour_weights(anchors[-3:] + 0.1, anchors, _strangers(3, anchors), 10, TYPICAL), statistics)
    torch.testing.assert_close(u, torch.full((3,), 0.6), rtol=1e-3, atol=1e-3)


def test_an_image_hardly_counts_in_its_own_target() -> None:
    """An image with a huge anomaly map of its own gets its look-alikes' target: nothing to learn to explain away."""
    anchors, statistics = _two_products((40, 0))
    spoiled = MapStatistics(statistics.mean.clone(), statistics.peak.clone())
    spoiled.mean[0] *= 10
    weights = neighbour_weights(anchors, anchors, torch.eye(40, dtype=torch.bool), 10, TYPICAL)
    u, _ = _targets(weights, spoiled)
    assert float(u[0]) < 0.2 * 1.2


def test_lonely_image_uses_what_there_is() -> None:
    """The only held-out image of its product stands for itself instead of borrowing another product's maps."""
    anchors, statistics = _two_products((40, 1))
    u, _ = _targets(neighbour_weights(anchors, anchors, torch.eye(41, dtype=torch.bool), 10, TYPICAL), statistics)
    assert float(u[-1]) > 0.5


def test_identical_images_do_not_divide_by_zero() -> None:
    """All images the same: targets are finite and the maximum stays above the mean."""
    anchors = torch.ones(5, 8)
    statistics = MapStatistics(torch.full((5,), 0.2), torch.full((5,), 0.4))
    u, gamma = _targets(neighbour_weights(anchors, anchors, torch.eye(5, dtype=torch.bool), 10, TYPICAL), statistics)
    assert bool(torch.isfinite(u).all())
    assert bool((gamma > u).all())


def test_a_varied_product_gets_more_room() -> None:
    """The maximum grows with how much a product's good parts differ."""
    anchors, _ = _two_products((40, 0))
    generator = torch.Generator().manual_seed(1)
    calm = MapStatistics(torch.full((40,), 0.2), torch.full((40,), 0.5))
    varied = MapStatistics(calm.mean, calm.peak + 0.1 * torch.randn(40, generator=generator))
    weights = neighbour_weights(anchors, anchors, _strangers(40, anchors), 10, TYPICAL)
    assert bool(_targets(weights, varied)[1].mean() > _targets(weights, calm)[1].mean() + 0.02)


def test_an_image_s_own_variations_are_no_neighbours() -> None:
    """However many variations an image has, the typical distance is that between different pictures."""
    pictures, _ = _two_products((40, 0))
    varied = torch.cat([pictures, pictures + 0.001, pictures - 0.001])
    numbers = torch.arange(40)
    once, thrice = typical_distance(pictures, numbers), typical_distance(varied, numbers.repeat(3))
    assert 1.5 < once < 4.0
    assert thrice > 0.8 * once
