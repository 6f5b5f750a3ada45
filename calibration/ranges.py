"""INT8 ranges: from the activations of good images to one symmetric range per tensor.

Each tensor's magnitudes are counted in a histogram while images stream by. Four rules turn it
into the range that 127 steps shall cover:

========== ====================================================================================
max        the largest magnitude seen: nothing is clipped
percentile the magnitude that `PERCENTILE` of the values do not exceed
entropy    the range whose 128 levels tell most of the distribution: Migacz, "8-bit Inference
           with TensorRT" (GTC 2017)
mse        the range with the least mean square of rounding and clipping together
========== ====================================================================================

Zeros are left out: every range holds them exactly, and behind a ReLU they would rule the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cada_edge.errors import ConfigError, DataError, ExportError
from cada_edge.types import UInt8Array

RangeMethod = Literal["max", "percentile", "entropy", "mse"]
RANGE_METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)
PERCENTILE = 0.9999
LEVELS = 127  # steps from 0 to the range: symmetric int8, -128 unused

_BINS = 2048
_TRIED = 128  # ranges that `mse` and `entropy` compare
Float64Array = npt.NDArray[np.float64]
Activations = Mapping[str, npt.NDArray[Any]]


@dataclass
class Histogram:
    """Magnitudes of one tensor in `_BINS` equal bins from 0 to `limit`, zeros left out.

    Where a value is larger, the limit doubles and neighbouring bins are joined, so that one
    pass over the images is enough and their order changes nothing but the limit's start.

    Attributes:
        limit: upper end, a power of two; 0 before the first value other than 0.
        largest: largest magnitude seen.
        counts: float64 (2048,).
    """

    limit: float = 0.0
    largest: float = 0.0
    counts: Float64Array = field(default_factory=lambda: np.zeros(_BINS))

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count the magnitudes of finite `values`, of any shape."""
        found = np.abs(values.astype(np.float32, copy=False).ravel())
        found = found[found > 0]
        if not len(found):
            return
        self.largest = max(self.largest, float(found.max()))
        self._grow()
        rows = np.minimum((found * np.float32(_BINS / self.limit)).astype(np.int64), _BINS - 1)
        self.counts += np.bincount(rows, minlength=_BINS)

    def _grow(self) -> None:
        if not self.limit:
            self.limit = float(2.0 ** np.ceil(np.log2(self.largest)))
        while self.limit < self.largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2)])
            self.limit *= 2.0

    @property
    def centres(self) -> Float64Array:
        """float64 (2048,): the magnitude each bin stands for."""
        return np.asarray((np.arange(_BINS) + 0.5) * (self.limit / _BINS), np.float64)


def collect(
    batches: Iterable[tuple[list[str], UInt8Array]], activations: Callable[[UInt8Array], Activations]
) -> dict[str, Histogram]:
    """Histograms of every tensor that `activations` gives for a batch.

    Args:
        batches: names of images, and the images uint8 (N, H, W, 3).
        activations: runs the model and returns tensors by name, the images along their first axis.

    Raises:
        DataError: no image.
        ExportError: an activation is NaN or infinite; names tensor and image.
    """
    histograms: dict[str, Histogram] = {}
    for labels, batch in batches:
        for name, values in activations(batch).items():
            _require_finite(name, values, labels)
            histograms.setdefault(name, Histogram()).add(values)
    if not histograms:
        raise DataError("there are no images to calibrate INT8 ranges on")
    return histograms


def _require_finite(name: str, values: npt.NDArray[Any], labels: list[str]) -> None:
    rows = values.reshape(len(labels), -1) if values.shape[0] == len(labels) else values.reshape(1, -1)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise ExportError(
            f"activation {name!r} is NaN or infinite on {labels[int(broken[0])]!r}, so it has no INT8 range; "
            "the weights are broken: train the bundle again"
        )


def range_of(histogram: Histogram, method: RangeMethod) -> float:
    """The magnitude that the last of 127 steps shall stand for, > 0. Raises `ConfigError` for an unknown method."""
    if method not in _RULES:
        raise ConfigError(f"range method: got {method!r}, expected one of {RANGE_METHODS}")
    if not histogram.limit:
        return 1.0  # a tensor of zeros alone: any range holds it
    return min(_RULES[method](histogram), histogram.largest)


def ranges_of(histograms: Mapping[str, Histogram], method: RangeMethod) -> dict[str, float]:
    """`range_of` for every tensor."""
    return {name: range_of(histogram, method) for name, histogram in histograms.items()}


def _percentile(histogram: Histogram) -> float:
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    return float((int(np.searchsorted(share, PERCENTILE)) + 1) * histogram.limit / _BINS)


def _mse(histogram: Histogram) -> float:
    centres, counts = histogram.centres, histogram.counts
    tried = histogram.largest * np.linspace(1 / _TRIED, 1.0, _TRIED)
    step = tried[:, None] / LEVELS
    error = np.minimum(np.rint(centres / step), LEVELS) * step - centres
    # Inside a step values spread evenly; a bin wider than a step hides that, so the rounding has a floor.
    error = np.where(centres < tried[:, None], np.maximum(error**2, step**2 / 12), error**2)
    return float(tried[int(np.argmin(error @ counts))])


def _entropy(histogram: Histogram) -> float:
    counts = histogram.counts
    top = int(np.flatnonzero(counts)[-1]) + 1
    least = LEVELS + 1
    ends = np.unique(np.linspace(least, max(top, least), _TRIED).astype(int))
    losses = [_divergence(counts, int(end)) for end in ends]
    return float(ends[int(np.argmin(losses))] * histogram.limit / _BINS)


def _divergence(counts: Float64Array, end: int) -> float:
    """Kullback-Leibler divergence of 128 levels over the first `end` bins from the clipped distribution."""
    clipped = counts[:end].copy()
    clipped[-1] += counts[end:].sum()
    level = np.arange(end) * (LEVELS + 1) // end
    filled = counts[:end] > 0
    mass = np.bincount(level, counts[:end], LEVELS + 1)
    spread = np.maximum(np.bincount(level, filled, LEVELS + 1), 1)
    coarse = np.where(filled, (mass / spread)[level], 0.0)
    p, q = clipped / clipped.sum(), coarse / max(coarse.sum(), 1.0)
    told = (p > 0) & (q > 0)
    missed = p[(p > 0) & (q == 0)].sum()  # clipped mass on a bin that was empty
    return float(np.sum(p[told] * np.log(p[told] / q[told])) + missed)


_RULES: Mapping[str, Callable[[Histogram], float]] = {
    "max": lambda histogram: histogram.largest,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
