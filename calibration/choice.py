"""Which images to calibrate on: a few that stand for all, whatever product they show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cada_edge.errors import ConfigError
from cada_edge.types import Float32Array

_PER_CENTRE = 4
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def cover_choice(descriptors: Float32Array, count: int) -> list[int]:
    """Rows that cover all rows, with more from where there are many. No labels are read.

    A quarter of them are centres, by farthest-first traversal (Gonzalez 1985, "Clustering to
    minimize the maximum intercluster distance": at most twice the least possible radius): a
    rare product lies far from the others and is met early. The rest is shared among the
    centres' neighbourhoods by their size; each gives rows from its middle to its rim.

    Args:
        descriptors: float32 (N, D), finite; columns are scaled by their spread.
        count: how many to choose, >= 1; all N where there are fewer.

    Returns:
        Different rows, sorted.

    Raises `ConfigError` for a count below 1 or no rows.
    """
    if count < 1 or not len(descriptors):
        raise ConfigError(f"calibration images: got {count} of {len(descriptors)}, expected at least 1")
    if count >= len(descriptors):
        return list(range(len(descriptors)))
    scaled = _scaled(descriptors)
    centres = _farthest_first(scaled, max(1, count // _PER_CENTRE))
    distance = np.stack([_squared(scaled, scaled[row]) for row in centres])
    owner = distance.argmin(axis=0)
    chosen: list[int] = []
    for number, share in enumerate(_shares(np.bincount(owner, minlength=len(centres)), count)):
        members = np.flatnonzero(owner == number)
        outward = members[np.argsort(distance[number, members], kind="stable")]
        chosen += [int(outward[i * len(outward) // share]) for i in range(share)]
    return sorted(chosen)


def cover_radius(descriptors: Float32Array, chosen: list[int]) -> float:
    """Distance of the worst covered row to its nearest chosen one, root mean square over scaled columns."""
    scaled = _scaled(descriptors)
    reach = np.min([_squared(scaled, scaled[row]) for row in chosen], axis=0)
    return float(np.sqrt(reach.max() / scaled.shape[1]))


def _farthest_first(scaled: Float64Array, count: int) -> list[int]:
    chosen = [int(np.argmin(_squared(scaled, scaled.mean(axis=0))))]
    reach = _squared(scaled, scaled[chosen[0]])
    while len(chosen) < count and reach.max() > 0:
        chosen.append(int(np.argmax(reach)))
        reach = np.minimum(reach, _squared(scaled, scaled[chosen[-1]]))
    return chosen


def _shares(sizes: IntArray, count: int) -> list[int]:
    """How many rows each neighbourhood gives: at least one, at most all, the rest in proportion to its size."""
    shares = np.minimum(sizes, 1)
    while shares.sum() < count:
        room = np.where(shares < sizes, sizes / (shares + 0.5), 0.0)  # one seat at a time, after Sainte-Lague
        shares[int(np.argmax(room))] += 1
    return [int(share) for share in shares]


def _scaled(descriptors: Float32Array) -> Float64Array:
    exact = descriptors.astype(np.float64)
    spread = exact.std(axis=0)
    return np.asarray((exact - exact.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _squared(rows: Float64Array, row: Float64Array) -> Float64Array:
    return np.asarray(np.square(rows - row).sum(axis=1))
