"""What the CADA head should say of each image: the statistics of its held-out look-alikes.

A head that regresses an image's *own* statistics learns to explain a defect away. So the
target of an image is a mean over the nearest *other* good images, whose maps come from a
detector that has not learned them (in-sample maps are biased low), in the space of encoder
descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

# An image's own statistics enter its target with this weight before normalisation: under one
# per cent among look-alikes, yet all there is for an image that has none.
_SELF_WEIGHT = 0.018
_ISOLATION = 2.0  # in medians of the second-neighbour distance: beyond it, nobody is a look-alike
_WIDTH_SHARE = 10  # the kernel is as wide as the distance to the first tenth of the neighbours
_PRIOR_IMAGES = 3.0  # a spread estimated from few images leans on the pooled relative spread
_CHUNK_ROWS = 1024  # queries at a time: memory grows with the anchors, not with their square


@dataclass(frozen=True)
class MapStatistics:
    """Of the raw maps of good images.

    Attributes:
        mean: mean of each map, float32 (N,).
        peak: image score of each raw map, its highest cells averaged, float32 (N,).
    """

    mean: Tensor
    peak: Tensor


@dataclass(frozen=True)
class Anchors:
    """Good images whose maps tell what is normal.

    Attributes:
        descriptors: standardised, float32 (A, D).
        picture: which picture each shows, int64 (A,).
        statistics: of their raw maps, (A,) each.
    """

    descriptors: Tensor
    picture: Tensor
    statistics: MapStatistics


@dataclass(frozen=True)
class Neighbourhood:
    """What the look-alikes of each query show, float32 (Q,) each.

    Attributes:
        mean: average of their maps' means.
        peak: average of their maps' peaks.
        std: standard deviation of these peaks.
        size: how many look-alikes the weights amount to.
    """

    mean: Tensor
    peak: Tensor
    std: Tensor
    size: Tensor


def neighbour_weights(queries: Tensor, anchors: Tensor, own: Tensor, neighbours: int, typical: float) -> Tensor:
    """How much each anchor says about each query: float32 (Q, A), rows sum to 1.

    A Gaussian kernel over the nearest anchors. Its standard deviation is each query's own
    distance to one of the nearest of them (the second of 20), but no more than usual among
    neighbours, so that a product with five images is not averaged with its neighbours' neighbours.

    Args:
        queries: descriptors, standardised, float32 (Q, D).
        anchors: descriptors of good images, float32 (A, D).
        own: bool (Q, A), True where the anchor shows the same picture as the query; these count
            next to nothing.
        neighbours: anchors that count at most.
        typical: see `typical_distance`.
    """
    distance = torch.cdist(queries, anchors)
    others = distance.masked_fill(own, float("inf"))
    near = _nearest(others, max(2, neighbours // _WIDTH_SHARE))
    width = torch.minimum(near, torch.tensor(_ISOLATION * typical))[:, None].clamp_min(1e-6)
    weights = torch.exp(-0.5 * (others / width) ** 2)
    kept = torch.zeros_like(weights, dtype=torch.bool)
    nearest = others.topk(min(neighbours, others.shape[1]), dim=1, largest=False).indices
    kept.scatter_(1, nearest, value=True)
    weights = torch.where(own, _SELF_WEIGHT, weights * kept)
    # With nobody near and no own value, the nearest one must do.
    lonely = weights.sum(dim=1, keepdim=True) < 1e-12
    weights = torch.where(lonely, torch.zeros_like(weights).scatter_(1, nearest[:, :1], 1.0), weights)
    return weights / weights.sum(dim=1, keepdim=True)


def _nearest(distance: Tensor, rank: int) -> Tensor:
    """The `rank`-th smallest of each row, or what there is: (Q, A) to (Q,)."""
    values = distance.topk(min(rank, distance.shape[1]), dim=1, largest=False).values[:, -1]
    return torch.where(values.isfinite(), values, distance.min(dim=1).values).nan_to_num(posinf=1.0)


def typical_distance(anchors: Tensor, picture: Tensor) -> float:
    """Median distance of an anchor to the second-nearest view of another picture.

    Args:
        anchors: descriptors, standardised, float32 (A, D).
        picture: which picture each shows, int64 (A,); an image's own variations are no neighbours.
    """
    second = []
    for rows in _chunks(anchors):
        same = picture[rows, None] == picture[None, :]
        second.append(_nearest(torch.cdist(anchors[rows], anchors).masked_fill(same, float("inf")), 2))
    return float(torch.cat(second).median())


def own_weights(queries: Tensor, anchors: Tensor, own: Tensor) -> Tensor:
    """Weights under which each query is its own only neighbour, or its nearest anchor is: float32 (Q, A)."""
    distance = torch.cdist(queries, anchors)
    nearest = torch.zeros_like(distance).scatter_(1, distance.argmin(dim=1, keepdim=True), 1.0)
    weights = torch.where(own.any(dim=1, keepdim=True), own.float(), nearest)
    return weights / weights.sum(dim=1, keepdim=True)


def neighbourhoods(queries: Tensor, picture: Tensor, anchors: Anchors, neighbours: int | None) -> Neighbourhood:
    """What is normal around each query: float32 (Q, D), int64 (Q,) to (Q,) each.

    Args:
        queries: descriptors, standardised.
        picture: which picture each shows, numbered as in `anchors`.
        anchors: where to look.
        neighbours: anchors that count at most; ``None`` for `own_weights`.
    """
    typical = typical_distance(anchors.descriptors, anchors.picture)
    parts = []
    for rows in _chunks(queries):
        own = picture[rows, None] == anchors.picture[None, :]
        if neighbours is None:
            weights = own_weights(queries[rows], anchors.descriptors, own)
        else:
            weights = neighbour_weights(queries[rows], anchors.descriptors, own, neighbours, typical)
        parts.append(neighbourhood(weights, anchors.statistics))
    names = [field.name for field in fields(Neighbourhood)]
    return Neighbourhood(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _chunks(rows: Tensor) -> list[slice]:
    return [slice(start, start + _CHUNK_ROWS) for start in range(0, len(rows), _CHUNK_ROWS)]


def neighbourhood(weights: Tensor, statistics: MapStatistics) -> Neighbourhood:
    """Weighted averages over anchors: weights float32 (Q, A), rows summing to 1."""
    peak = weights @ statistics.peak
    variance = (weights @ statistics.peak.square() - peak.square()).clamp_min(0)
    return Neighbourhood(weights @ statistics.mean, peak, variance.sqrt(), 1.0 / weights.square().sum(dim=1))


def kind_targets(around: Neighbourhood, *, spread: bool = True) -> tuple[Tensor, Tensor]:
    """(u, gamma) of each query's kind: two float32 (Q,), gamma >= u; equal only where maps are constant.

    ``u`` is the neighbourhood's mean of map means. ``gamma`` is its mean of peaks plus, with
    `spread`, one standard deviation of peaks, the paper's "maximum" read over a kind instead of
    over a single image: kinds whose good parts vary more get more room.
    """
    if not spread:
        return around.mean, around.peak
    pooled = (around.std / around.peak.clamp_min(1e-6)).median() * around.peak
    room = (around.size * around.std + _PRIOR_IMAGES * pooled) / (around.size + _PRIOR_IMAGES)
    return around.mean, around.peak + room
