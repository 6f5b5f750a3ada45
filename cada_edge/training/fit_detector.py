"""Fit a detector on stored features by gradient descent: AdamW, one-cycle schedule, hard mining, exact resumption."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cada_edge.errors import ConfigError, TrainingError
from cada_edge.models.detector import GradientDetector, LayeredDetector
from cada_edge.training.checkpoint import Checkpoint
from cada_edge.training.config import FitConfig
from cada_edge.training.distributed import World
from cada_edge.training.features import FeatureStore, Tick
from cada_edge.training.losses import mined_distance, mining_level

_WARM_UP_SHARE = 0.1


class _Losses(nn.Module):
    """Gives replication a `forward` to hook into."""

    def __init__(self, detector: GradientDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return self.detector.cell_losses(features)


def fit_detector(
    detector: GradientDetector,
    store: FeatureStore,
    config: FitConfig,
    *,
    seed: int,
    world: World,
    checkpoint: Checkpoint,
    tick: Tick,
) -> float:
    """Fit `detector` in place on `store`; return the last loss.

    Interrupted and started again, it goes on from the checkpoint to the same weights: batches
    depend on seed and step alone, and dropout goes on where it stood.

    Raises:
        ConfigError: the batch cannot be shared among the processes.
        TrainingError: the loss is not finite.
    """
    check_batch(config.batch_size, world.size)
    detector.to(world.device).train()
    optimiser = torch.optim.AdamW(detector.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    first, loss = checkpoint.load(detector, optimiser, world)
    replica = world.replicate(_Losses(detector))
    for step, indices in _batches(len(store.views), config, seed, first):
        mine = indices[world.rank :: world.size]
        loss = _step(replica, optimiser, store.rows(mine, world.device), step=step, config=config, world=world)
        tick(step + 1, config.iterations)
        if world.leads and ((step + 1) % config.checkpoint_every == 0 or step + 1 == config.iterations):
            checkpoint.save(step + 1, loss, detector, optimiser)
    detector.eval()
    return loss


def check_batch(batch_size: int, processes: int) -> None:
    """Raise `ConfigError` unless the batch divides evenly among the processes."""
    if batch_size % processes:
        raise ConfigError(f"FitConfig.batch_size: got {batch_size}, expected a multiple of {processes} processes")


def _step(
    replica: nn.Module,
    optimiser: torch.optim.Optimizer,
    features: list[Tensor],
    *,
    step: int,
    config: FitConfig,
    world: World,
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, config)
    loss = mined_distance(replica(features), mining_level(step / config.iterations), config.mining, world)
    # Of all processes: one that stopped alone would leave the others waiting for it.
    value = float(world.sum(loss.detach().clone())) / world.size
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss became {value} at step {step + 1} of {config.iterations}; "
            f"lower --learning-rate (now {config.learning_rate}) or try another --seed"
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch ships no annotation for it
    nn.utils.clip_grad_norm_(replica.parameters(), 1.0)
    optimiser.step()
    return value


def learning_rate(step: int, config: FitConfig) -> float:
    """One cycle: linear up over a tenth of the run, then a cosine down to a hundredth of the peak."""
    warm_up = max(1, round(_WARM_UP_SHARE * config.iterations))
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    phase = (step - warm_up) / max(1, config.iterations - warm_up)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


def _batches(rows: int, config: FitConfig, seed: int, first: int) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """(step, row indices): a shuffled pass after another, cut into batches, from step `first` on."""
    size = config.batch_size
    passes: dict[int, npt.NDArray[np.int64]] = {}
    for step in range(first, config.iterations):
        positions = np.arange(step * size, (step + 1) * size)
        numbers = sorted({int(p) // rows for p in positions})  # several when there are fewer rows than a batch holds
        passes = {n: passes[n] if n in passes else _shuffled(rows, seed, n) for n in numbers}
        yield step, np.array([passes[int(p) // rows][int(p) % rows] for p in positions])


def _shuffled(rows: int, seed: int, number: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, number]).permutation(rows)


@torch.inference_mode()
def set_layer_levels(detector: LayeredDetector, store: FeatureStore, world: World) -> None:
    """Store each layer's mean distance over held-out good images, so that layers weigh the same."""
    total = torch.zeros_like(detector.layer_level)
    for features in store.batches(world.device):
        distances = detector.layer_distances(features)
        total += torch.stack([d.mean() for d in distances]) * len(distances[0])
    detector.layer_level.copy_((total / len(store.views)).clamp_min(1e-6))
