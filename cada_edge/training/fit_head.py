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
from cada_edge.training.targets import Anchors, MapStatistics, kind_targets, neighbourhoods

_REACH_MARGIN, _LEAST_REACH = 1.1, 0.5


@dataclass(frozen=True)
class HeadData:
    """What the head learns from.

    Attributes:
        seen: descriptors of the images the detector was fitted on, float32 (F, D).
        held: descriptors of good images it was not fitted on, float32 (H, D).
        picture: which picture each image of `seen`, then of `held`, shows (variations share it), int64 (F + H,).
        statistics: of the raw maps of `held` (H,), or, from a detector that can do without an
            image it has learned, of `seen` and `held` (F + H,).
    """

    seen: Tensor
    held: Tensor
    picture: Tensor
    statistics: MapStatistics

    @property
    def descriptors(self) -> Tensor:
        """Of all images, float32 (F + H, D)."""
        return torch.cat([self.seen, self.held])


def fit_head(head: CadaHead, data: HeadData, config: HeadFitConfig, seed: int, tick: Tick) -> float:
    """Fit `head` in place; return the root-mean-square error in standardised log-targets.

    Raises `TrainingError` when descriptors or maps are not finite.
    """
    everything = data.descriptors
    if not all(bool(t.isfinite().all()) for t in (everything, data.statistics.mean, data.statistics.peak)):
        raise TrainingError(
            "features or anomaly maps are not finite; check --encoder-weights and lower --learning-rate"
        )
    head.input_mean.copy_(everything.mean(dim=0))
    head.input_std.copy_(everything.std(dim=0, correction=0).clamp_min(1e-3))
    fit_novelty(head.novelty, data.seen, data.held, len(torch.unique(data.picture[len(data.seen) :])))
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
    """Log-targets (F + H, 2), standardised; the scaling is stored in the head."""
    queries = (data.descriptors - head.input_mean) / head.input_std
    count = len(data.statistics.mean)
    anchors = Anchors(queries[-count:], data.picture[-count:], data.statistics)
    denser = count / len(data.held)  # the same part of a product, however many of its images are anchors
    neighbours = None if config.target == "own" else round(config.neighbours * denser)
    around = neighbourhoods(queries, data.picture, anchors, neighbours)
    logs = to_log(*kind_targets(around, spread=config.target == "spread"))
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
