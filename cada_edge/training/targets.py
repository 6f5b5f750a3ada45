"""What the CADA head should say of each image: the statistics of its held-out look-alikes.

A head that regresses an image's *own* statistics learns to explain a defect away. So the
target of an image is a mean over the nearest *other* good images, none of which the detector
was fitted on (in-sample maps are biased low), in the space of encoder descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# An image's own statistics enter its target with this weight before normalisation: under one
# per cent among look-alikes, yet all there is for an image that has none.
_SELF_WEIGHT = 0.018
_ISOLATION = 2.0  # in medians of the second-neighbour distance: beyond it, nobody is a look-alike
_PRIOR_IMAGES = 3.0  # a spread estimated from few images leans on the pooled relative spread


@dataclass(frozen=True)
class MapStatistics:
    """Of the raw maps of good images.

    Attributes:
        mean: mean of each map, float32 (N,).
        peak: image score of each raw map, its highest cells averaged, float32 (N,).
    """

    mean: Tensor
    peak: Tensor


def neighbour_weights(queries: Tensor, anchors: Tensor, own: Tensor | None, neighbours: int, typical: float) -> Tensor:
    """How much each anchor says about each query: float32 (Q, A), rows sum to 1.

    A Gaussian kernel over the nearest anchors. Its standard deviation is each query's own
    distance to its second-nearest anchor, so that a product with five images is not averaged
    with its neighbours' neighbours.

    Args:
        queries: descriptors, standardised, float32 (Q, D).
        anchors: descriptors of held-out good images, float32 (A, D).
        own: bool (Q, A), True where the anchor shows the same picture as the query; these count
            next to nothing. ``None`` where queries and anchors are different images.
        neighbours: anchors that count at most.
        typical: see `typical_distance`.
    """
    distance = torch.cdist(queries, anchors)
    others = distance if own is None else distance.masked_fill(own, float("inf"))
    width = torch.minimum(_second_smallest(others), torch.tensor(_ISOLATION * typical))[:, None].clamp_min(1e-6)
    weights = torch.exp(-0.5 * (others / width) ** 2)
    kept = torch.zeros_like(weights, dtype=torch.bool)
    nearest = others.topk(min(neighbours, others.shape[1]), dim=1, largest=False).indices
    kept.scatter_(1, nearest, value=True)
    weights = weights * kept
    if own is not None:
        weights = torch.where(own, _SELF_WEIGHT, weights)
    # With nobody near and no own value, the nearest one must do.
    lonely = weights.sum(dim=1, keepdim=True) < 1e-12
    weights = torch.where(lonely, torch.zeros_like(weights).scatter_(1, nearest[:, :1], 1.0), weights)
    return weights / weights.sum(dim=1, keepdim=True)


def _second_smallest(distance: Tensor) -> Tensor:
    k = min(2, distance.shape[1])
    values = distance.topk(k, dim=1, largest=False).values[:, -1]
    return torch.where(values.isfinite(), values, distance.min(dim=1).values).nan_to_num(posinf=1.0)


def typical_distance(anchors: Tensor, picture: Tensor) -> float:
    """Median distance of an anchor to the second-nearest view of another picture.

    Args:
        anchors: descriptors, standardised, float32 (A, D).
        picture: which picture each shows, int64 (A,); an image's own variations are no neighbours.
    """
    same = picture[:, None] == picture[None, :]
    return float(_second_smallest(torch.cdist(anchors, anchors).masked_fill(same, float("inf"))).median())


def own_weights(queries: Tensor, anchors: Tensor, own: Tensor | None) -> Tensor:
    """Weights under which each query is its own only neighbour, or its nearest anchor is: float32 (Q, A)."""
    distance = torch.cdist(queries, anchors)
    nearest = torch.zeros_like(distance).scatter_(1, distance.argmin(dim=1, keepdim=True), 1.0)
    if own is None:
        return nearest
    weights = own.float()
    return weights / weights.sum(dim=1, keepdim=True)


def neighbourhood_targets(weights: Tensor, statistics: MapStatistics, *, spread: bool = True) -> tuple[Tensor, Tensor]:
    """(u, gamma) of each query's kind: two float32 (Q,), gamma >= u; equal only where maps are constant.

    ``u`` is the neighbourhood's mean of map means. ``gamma`` is its mean of peaks plus, with
    `spread`, one standard deviation of peaks, the paper's "maximum" read over a kind instead of
    over a single image: kinds whose good parts vary more get more room.
    """
    u = weights @ statistics.mean
    peak = weights @ statistics.peak
    if not spread:
        return u, peak
    variance = (weights @ statistics.peak.square() - peak.square()).clamp_min(0)
    count = 1.0 / weights.square().sum(dim=1)
    std = variance.sqrt()
    pooled = (std / peak.clamp_min(1e-6)).median() * peak
    return u, peak + (count * std + _PRIOR_IMAGES * pooled) / (count + _PRIOR_IMAGES)
