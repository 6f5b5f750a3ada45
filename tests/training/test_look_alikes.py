"""Promises of the look-alike groups: bursts stay together, different parts stay apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cada_edge.training.look_alikes import leave_out_groups, look_alike_groups


def _product(count: int, centre: float, spread: float, seed: int) -> torch.Tensor:
    return centre + spread * torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))


def test_different_parts_stay_apart() -> None:
    """Evenly varying parts of two products, one calm and one varied, each stand alone."""
    parts = torch.cat([_product(60, 0.0, 0.1, 1), _product(60, 5.0, 1.0, 2)])
    assert len(set(look_alike_groups(parts))) == 120


def test_a_burst_shares_one_group() -> None:
    """Four near-copies of one part are one group, whatever their product's own spread."""
    parts = torch.cat([_product(60, 0.0, 0.1, 1), _product(60, 5.0, 1.0, 2)])
    burst = parts[70] + 0.05 * torch.randn(3, 32, generator=torch.Generator().manual_seed(3))
    groups = look_alike_groups(torch.cat([parts, burst]))
    assert len(set(groups[[70, 120, 121, 122]])) == 1
    assert len(set(groups)) == 120


def test_a_small_calm_product_is_not_taken_for_a_burst() -> None:
    """Twenty parts that hardly differ, far from every other product, stay twenty parts: some must calibrate."""
    parts = torch.cat([_product(20, centre, 0.05, seed) for seed, centre in enumerate((0.0, 5.0, -4.0))])
    assert len(set(look_alike_groups(parts))) == 60


def test_order_makes_no_difference() -> None:
    """The same pictures in another order form the same groups."""
    parts = _product(40, 0.0, 1.0, 1)
    parts = torch.cat([parts, parts[:10] + 0.01])
    order = np.random.default_rng(0).permutation(50)
    plain, shuffled = look_alike_groups(parts), look_alike_groups(parts[order])
    same = plain[:, None] == plain[None, :]
    np.testing.assert_array_equal(same[np.ix_(order, order)], shuffled[:, None] == shuffled[None, :])


@pytest.mark.parametrize("count", [1, 2, 3, 11, 600])
def test_any_number_of_pictures(count: int) -> None:
    """From one picture to more than one chunk, every picture gets a group."""
    assert look_alike_groups(_product(count, 0.0, 1.0, 4)).shape == (count,)


def test_constant_features_form_no_group() -> None:
    """Pictures that the encoder cannot tell apart are left single instead of becoming one huge group."""
    assert len(set(look_alike_groups(torch.ones(20, 32)))) == 20


def _left_out(parts: torch.Tensor) -> list[int]:
    groups = torch.from_numpy(look_alike_groups(parts))
    return leave_out_groups(parts, groups, torch.arange(len(parts))).tolist()


def test_a_burst_within_a_product_is_left_out_whole() -> None:
    """Near-copies of one of sixty parts go together: one would find itself in the next."""
    parts = torch.cat([_product(60, 0.0, 1.0, 1), _product(60, 5.0, 1.0, 2)])
    burst = parts[70] + 0.05 * torch.randn(3, 32, generator=torch.Generator().manual_seed(3))
    numbers = _left_out(torch.cat([parts, burst]))
    assert len({numbers[row] for row in (70, 120, 121, 122)}) == 1


def test_a_whole_small_product_is_left_out_picture_by_picture() -> None:
    """Eight parts far from everything look like one burst, but are never measured as unknown ones."""
    parts = torch.cat([_product(40, 0.0, 1.0, 1), _product(40, 6.0, 1.0, 2), _product(8, -8.0, 0.5, 3)])
    assert len(set(look_alike_groups(parts)[-8:])) == 1
    assert len(set(_left_out(parts)[-8:])) == 8


def test_the_only_product_is_left_out_picture_by_picture() -> None:
    """Where all pictures form one group, leaving it out would leave nothing."""
    parts = _product(9, 0.0, 0.1, 4)
    groups, pictures = torch.zeros(9, dtype=torch.int64), torch.arange(9)
    assert len(set(leave_out_groups(parts, groups, pictures).tolist())) == 9
