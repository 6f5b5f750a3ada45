"""Promises of hard mining and augmentation."""

from __future__ import annotations

import numpy as np
import torch

from cada_edge.training.augment import augment
from cada_edge.training.config import AugmentConfig
from cada_edge.training.distributed import World
from cada_edge.training.losses import mined_distance, mining_level

ALONE = World(0, 1, 0, 0, torch.device("cpu"))


def test_mining_rises_over_the_first_tenth() -> None:
    """Every cell counts at first; after a tenth of the run only hard ones do in full."""
    assert mining_level(0.0) == -3.0
    assert mining_level(0.05) == -1.0
    assert mining_level(0.1) == mining_level(1.0) == 1.0


def test_easy_cells_keep_their_small_weight() -> None:
    """One hard cell among easy ones counts in full, the others by their weight."""
    distance = torch.full((1, 4, 4), 0.1)
    distance[0, 0, 0] = 1.0
    loss = mined_distance([distance], level=1.0, easy_weight=0.1, world=ALONE)
    torch.testing.assert_close(loss, torch.tensor((1.0 + 15 * 0.1 * 0.1) / 16))


def test_mining_off_is_the_mean() -> None:
    """Weight one is plain distillation."""
    distance = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mined_distance([distance], 1.0, 1.0, ALONE), distance.mean())


def test_augmentation_is_seeded_and_small() -> None:
    """The same numbers give the same view, and a view stays close to its picture."""
    image = np.full((64, 80, 3), 120, np.uint8)
    image[20:40, 20:60] = 200
    one, two = (augment(image, AugmentConfig(), np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == image.shape
    assert 0 < np.abs(one.astype(int) - image).mean() < 20


def test_no_augmentation_changes_nothing() -> None:
    """All amounts at zero leave the picture as it is."""
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    still = AugmentConfig(brightness=0, contrast=0, shift=0, rotate_deg=0)
    np.testing.assert_array_equal(augment(image, still, np.random.default_rng(1)), image)
