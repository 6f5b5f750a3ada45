"""Fit the CADA head on descriptors: full-batch, seconds on a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.errors import TrainingError
from cada_edge.models.head import CadaHead, to_log
from cada_edge.training.config import HeadFitConfig
from cada_edge.training.features import Tick
from cada_edge.training.fit_novelty import fit_novelty
from cada_edge.training.targets import (
    MapStatistics,
    neighbour_weights,
    neighbourhood_targets,
    own_weights,
    typical_distance,
)

_REACH_MARGIN, _LEAST_REACH = 1.1, 0.5


@dataclass(frozen=True)
class HeadData:
    """What the head learns from.

    Attributes:
        seen: descriptors of the images the detector was fitted on, float32 (F, D).
        anchors: descriptors of held-out good images, float32 (A, D).
        picture: which picture each anchor shows (variations share it), int64 (A,).
        statistics: of the anchors' raw maps, (A,) each.
    """

    seen: Tensor
    anchors: Tensor
    picture: Tensor
    statistics: MapStatistics


def fit_head(head: CadaHead, data: HeadData, config: HeadFitConfig, seed: int, tick: Tick) -> float:
    """Fit `head` in place; return the root-mean-square error in standardised log-targets.

    Raises `TrainingError` when descriptors or maps are not finite.
    """
    everything = torch.cat([data.seen, data.anchors])
    if not all(bool(t.isfinite().all()) for t in (everything, data.statistics.mean, data.statistics.peak)):
        raise TrainingError(
            "features or anomaly maps are not finite; check --encoder-weights and lower --learning-rate"
        )
    head.input_mean.copy_(everything.mean(dim=0))
    head.input_std.copy_(everything.std(dim=0, correction=0).clamp_min(1e-3))
    fit_novelty(head.novelty, data.seen, data.anchors, int(data.picture.max()) + 1)
    targets = _standardised_targets(head, data, config)
    with _one_thread():
        return _regress(head, everything, targets, config, seed=seed, tick=tick)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps this small are ruled by waking threads: on a busy machine one is 50 times faster than two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _standardised_targets(head: CadaHead, data: HeadData, config: HeadFitConfig) -> Tensor:
    """Log-targets (F + A, 2), standardised; the scaling is stored in the head."""
    seen, anchors = ((x - head.input_mean) / head.input_std for x in (data.seen, data.anchors))
    own = data.picture[:, None] == data.picture[None, :]
    typical = typical_distance(anchors, data.picture)

    def targets_of(queries: Tensor, same: Tensor | None) -> tuple[Tensor, Tensor]:
        if config.target == "own":
            weights = own_weights(queries, anchors, same)
        else:
            weights = neighbour_weights(queries, anchors, same, config.neighbours, typical)
        return neighbourhood_targets(weights, data.statistics, spread=config.target == "spread")

    parts = [targets_of(seen, None), targets_of(anchors, own)]
    logs = torch.cat([to_log(u, gamma) for u, gamma in parts])
    head.log_mean.copy_(logs.mean(dim=0))
    head.log_std.copy_(logs.std(dim=0, correction=0).clamp_min(1e-3))
    targets: Tensor = (logs - head.log_mean) / head.log_std
    head.reach.copy_((_REACH_MARGIN * targets.abs().amax(dim=0)).clamp_min(_LEAST_REACH))
    return targets


def _regress(
    head: CadaHead, descriptors: Tensor, targets: Tensor, config: HeadFitConfig, *, seed: int, tick: Tick
) -> float:
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations)
    head.train()
    for step in range(config.iterations):
        noise = torch.randn(descriptors.shape, generator=generator) * config.noise * head.input_std
        loss = F.smooth_l1_loss(head.standardised(descriptors + noise), targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships no annotation for it
        optimiser.step()
        schedule.step()
        if (step + 1) % 50 == 0 or step + 1 == config.iterations:
            tick(step + 1, config.iterations)
    head.eval()
    with torch.inference_mode():
        error = math.sqrt(float((head.standardised(descriptors) - targets).square().mean()))
    if not math.isfinite(error):
        raise TrainingError(
            f"the head's error became {error}; lower HeadFitConfig.learning_rate ({config.learning_rate})"
        )
    return error
