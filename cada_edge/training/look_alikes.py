"""Pictures that show the same part again: bursts, exposures, near-copies.

A camera on a line takes many pictures of one part, and archives hold near-copies. Split by
chance between fitting and calibrating, they would let the threshold be set on pictures the
detector has as good as seen, and its promise would not hold on the line. So look-alikes share
a role. They are found in the features alone; file names and times are never read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

# Bursts of more than ten pictures are not seen: their tenth neighbour lies inside the burst.
# Looking further (40th neighbour at a share of 0.2, 160th at 0.1) sees them, and 20 parts of a
# calm product for one part as well: a product that looks the same from part to part lies to
# others as a burst lies to its product. All of it would fit the detector and none calibrate,
# a worse end than a burst that is split.
# Two pictures are look-alikes when they are nearer to each other than this share of the
# distance at which each has its tenth neighbour: a scale that every product brings along.
# Within evenly spread products the ratio of nearest to tenth is 0.6 to 0.9.
_SHARE, _NEIGHBOUR = 0.5, 10
_CHUNK_ROWS = 512
# In median distances to another group. Whole products of few pictures lie at 3.9 or more.
_LONE = 3.0


def look_alike_groups(descriptors: Tensor) -> npt.NDArray[np.int64]:
    """Group number of each picture.

    Args:
        descriptors: float32 (N, D), one per picture, N >= 1.

    Returns:
        int64 (N,); equal numbers are look-alikes, directly or through others.
    """
    count = len(descriptors)
    if count < 3:
        return np.arange(count)
    scaled = _scaled(descriptors)
    reach = torch.cat([_neighbour_distance(scaled, start) for start in range(0, count, _CHUNK_ROWS)])
    pairs = torch.cat([_close_pairs(scaled, reach, start) for start in range(0, count, _CHUNK_ROWS)])
    rows, columns = pairs.numpy().T
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    groups: npt.NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def leave_out_groups(descriptors: Tensor, group: Tensor, picture: Tensor) -> Tensor:
    """What to leave out together with each view: its burst, or its picture alone.

    A product with few pictures looks like one burst. Left out whole, it would be measured as an
    unknown product, its scale set far too high and its defects forgiven. So a group that has no
    near neighbour outside goes picture by picture: where that is wrong, a burst's scale is a
    little too low, and good parts are rejected instead.

    Args:
        descriptors: float32 (N, D), one per view.
        group: look-alikes, as `look_alike_groups` numbers them, int64 (N,).
        picture: which picture each view shows, int64 (N,).

    Returns:
        int64 (N,); views with equal numbers are left out together.
    """
    scaled = _scaled(descriptors)
    outside = torch.cat([_to_other_groups(scaled, group, start) for start in range(0, len(group), _CHUNK_ROWS)])
    near = group[outside.isfinite() & (outside <= _LONE * outside.median())]
    return torch.where(torch.isin(group, near), group, group.max() + 1 + picture)


def _to_other_groups(scaled: Tensor, group: Tensor, start: int) -> Tensor:
    """Distance of some rows to the nearest row of another group, (rows,); infinite where there is none."""
    rows = slice(start, start + _CHUNK_ROWS)
    distance = torch.cdist(scaled[rows], scaled)
    return distance.masked_fill(group[rows, None] == group[None, :], float("inf")).amin(dim=1)


def _scaled(descriptors: Tensor) -> Tensor:
    return (descriptors - descriptors.mean(dim=0)) / descriptors.std(dim=0, correction=0).clamp_min(1e-6)


def _distances(scaled: Tensor, start: int) -> Tensor:
    """From some rows to all, (rows, N), infinite to themselves."""
    chunk = scaled[start : start + _CHUNK_ROWS]
    distance = torch.cdist(chunk, scaled)
    distance[torch.arange(len(chunk)), torch.arange(start, start + len(chunk))] = float("inf")
    return distance


def _neighbour_distance(scaled: Tensor, start: int) -> Tensor:
    neighbour = min(_NEIGHBOUR, len(scaled) - 1)
    return _distances(scaled, start).kthvalue(neighbour, dim=1).values


def _close_pairs(scaled: Tensor, reach: Tensor, start: int) -> Tensor:
    """Row numbers of look-alikes, int64 (P, 2)."""
    own = reach[start : start + _CHUNK_ROWS, None]
    close = _distances(scaled, start) < _SHARE * torch.minimum(own, reach[None, :])
    return close.nonzero() + torch.tensor([start, 0])
