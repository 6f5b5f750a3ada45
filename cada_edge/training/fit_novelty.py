"""Fit the novelty measure: prototypes from the images seen, the limit from images held out.

The limit is set to spare good parts: on ten real products none of 414 unseen good images lay
beyond it, and 5 % of the defects did. The price is paid by look-alikes: of a product left out
all images were novel, but 88 and 96 % where another product much like it (two kinds of solar
cell) was known (`cada_edge.bench.left_out`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cada_edge.models.novelty import Novelty

_ROUNDS = 15
# The limit lies this share above the farthest held-out image, and more where those are few:
# the maximum of a handful says little about the next hundred.
_MARGIN, _MARGIN_OF_ONE = 0.25, 2.0
# In within-kind standard deviations: nearer than this to a prototype nothing is novel.
_LEAST_LIMIT = 0.1
# Of a channel's spread over all images: the least that is taken for its spread within a kind.
_LEAST_WITHIN = 0.01


def fit_novelty(novelty: Novelty, seen: Tensor, held: Tensor, pictures: int) -> None:
    """Fit `novelty` in place, deterministically.

    Args:
        novelty: what to fit.
        seen: descriptors the prototypes stand for, float32 (F, D), F >= 1, finite.
        held: descriptors of other good images, which set the limit, float32 (A, D), A >= 1.
        pictures: how many different pictures `held` shows; its variations tell little more.
    """
    count, width = novelty.prototypes.shape
    novelty.mean.copy_(seen.mean(dim=0))
    spread = seen.std(dim=0, correction=0).clamp_min(1e-3)
    z = (seen - novelty.mean) / spread
    centres, member = k_means(z, count)
    within = (z - centres[member]).square().mean(dim=0).sqrt().clamp_min(_LEAST_WITHIN)
    novelty.scale.copy_(spread * within * width**0.5)
    centres, _ = k_means(novelty.scaled(seen), count)
    novelty.prototypes.copy_(centres[torch.arange(count) % len(centres)])
    farthest = float(novelty.distance(novelty.scaled(held)).max())
    novelty.limit.fill_(max(farthest * (1 + _MARGIN + _MARGIN_OF_ONE / pictures), _LEAST_LIMIT))


def k_means(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Centres (K, D), K = min(count, M), of `points` (M, D), and each point's centre, int64 (M,).

    Lloyd's algorithm from farthest-first centres (Gonzalez 1985), which gives the smallest
    product its own centre however many pictures the others have. No random numbers.
    """
    centres = farthest_first(points, min(count, len(points)))
    member = torch.cdist(points, centres).argmin(dim=1)
    for _ in range(_ROUNDS):
        sizes = torch.bincount(member, minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, member, points)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
        moved = torch.cdist(points, centres).argmin(dim=1)
        if torch.equal(moved, member):
            break
        member = moved
    return centres, member


def farthest_first(points: Tensor, count: int) -> Tensor:
    """`count` of `points`: the one nearest to the mean, then always the one farthest from those chosen."""
    chosen = [int((points - points.mean(dim=0)).square().sum(dim=1).argmin())]
    gap = torch.full((len(points),), float("inf"))
    while len(chosen) < count:
        gap = torch.minimum(gap, (points - points[chosen[-1]]).square().sum(dim=1))
        chosen.append(int(gap.argmax()))
    return points[chosen]
