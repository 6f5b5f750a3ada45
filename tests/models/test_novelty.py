"""Promises of the novelty measure: the known stays below 1, the unknown does not, and nothing divides by zero."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="models need the train extra")

import torch  # after the skip

from cada_edge.models.novelty import Novelty
from cada_edge.training.fit_novelty import fit_novelty, k_means

CHANNELS = 24


def product(level: float, count: int, seed: int) -> torch.Tensor:
    """Descriptors of one product: unit noise around `level` on every second channel, float32 (count, 24)."""
    noise = torch.randn(count, CHANNELS, generator=torch.Generator().manual_seed(seed))
    noise[:, ::2] += level
    return noise


def fitted(*levels: float, count: int = 60, prototypes: int = 16) -> Novelty:
    """A measure that knows products of these levels."""
    novelty = Novelty(CHANNELS, prototypes)
    seen = torch.cat([product(level, count, 1 + i) for i, level in enumerate(levels)])
    held = torch.cat([product(level, max(count // 4, 1), 101 + i) for i, level in enumerate(levels)])
    fit_novelty(novelty, seen, held, len(held))
    return novelty


def test_new_parts_of_known_products_stay_below_the_limit() -> None:
    """Good parts that set neither prototypes nor limit are not novel."""
    novelty = fitted(0.0, 8.0)
    assert float(novelty(torch.cat([product(0.0, 200, 7), product(8.0, 200, 8)])).max()) < 1


@pytest.mark.parametrize("level", [4.0, -8.0, 50.0])
def test_an_unknown_product_lies_beyond_the_limit(level: float) -> None:
    """Between the known products or outside them, every part of another one is novel."""
    assert float(fitted(0.0, 8.0)(product(level, 50, 9)).min()) > 1


def test_a_small_product_is_known_too() -> None:
    """Six pictures among three hundred get prototypes of their own."""
    novelty = Novelty(CHANNELS, 16)
    seen = torch.cat([product(0.0, 300, 1), product(8.0, 6, 2)])
    fit_novelty(novelty, seen, product(0.0, 60, 3), 60)
    assert float(novelty(product(8.0, 100, 4)).max()) < 1


@pytest.mark.parametrize("count", [1, 3])
def test_identical_and_few_pictures_give_a_finite_measure(count: int) -> None:
    """No spread, or fewer pictures than prototypes: the known is 0 away, the rest finite."""
    novelty = Novelty(CHANNELS, 16)
    same = torch.ones(count, CHANNELS)
    fit_novelty(novelty, same, same[:1], 1)
    assert novelty(same).tolist() == pytest.approx([0.0] * count, abs=1e-3)
    assert bool(novelty(same + 5).isfinite().all())
    assert float(novelty(same + 5).min()) > 1


def test_no_number_is_never_known() -> None:
    """A NaN in the descriptor stays NaN, which every later stage rejects."""
    broken = product(0.0, 2, 5)
    broken[0, 3] = float("nan")
    assert fitted(0.0)(broken).isnan().tolist() == [True, False]


def test_the_fit_draws_no_random_numbers() -> None:
    """Same descriptors, same prototypes and limit, whatever the generator's state."""
    first = fitted(0.0, 8.0).state_dict()
    torch.manual_seed(1)
    second = fitted(0.0, 8.0).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_k_means_gives_each_point_its_nearest_centre() -> None:
    """Centres are means of their members, at most as many as there are points."""
    points = torch.cat([product(0.0, 30, 1), product(20.0, 3, 2)])
    centres, member = k_means(points, 2)
    assert sorted(member.bincount().tolist()) == [3, 30]
    torch.testing.assert_close(centres[member[-1]], points[30:].mean(dim=0))
    assert len(k_means(points[:2], 5)[0]) == 2
