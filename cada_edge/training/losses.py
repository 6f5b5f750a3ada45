"""The distillation loss with hard mining."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cada_edge.training.distributed import World

# Hard mining starts with every cell (mean - 3 std) and, after this share of the run, leaves
# full weight only to cells above mean + 1 std: ReContrast (Guo et al., NeurIPS 2023).
_RAMP_SHARE, _RAMP_FROM, _RAMP_TO = 0.1, -3.0, 1.0


def mining_level(progress: float) -> float:
    """Standard deviations above the mean that count as hard; `progress` of the run, 0..1."""
    return _RAMP_FROM + (_RAMP_TO - _RAMP_FROM) * min(1.0, progress / _RAMP_SHARE)


def mined_distance(distances: Sequence[Tensor], level: float, easy_weight: float, world: World) -> Tensor:
    """Sum over layers of the mean distance, easy cells weighted down.

    The limit between easy and hard is taken over the batch of *all* processes, so that many
    processes compute what one would.

    Args:
        distances: per layer, float (N, h, w), >= 0.
        level: see `mining_level`.
        easy_weight: 0..1, what an easy cell still counts.
        world: the processes that share the batch.
    """
    total = distances[0].new_zeros(())
    for distance in distances:
        fixed = distance.detach()
        sums = world.sum(torch.stack([fixed.sum(), fixed.square().sum(), fixed.new_tensor(float(fixed.numel()))]))
        mean = sums[0] / sums[2]
        std = (sums[1] / sums[2] - mean * mean).clamp_min(0).sqrt()
        weight = torch.where(fixed < mean + level * std, easy_weight, 1.0)
        total = total + (distance * weight).mean()
    return total
