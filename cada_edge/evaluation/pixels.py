"""Pixel AUROC and AUPRO from histograms: exact in definition, bounded in memory.

How pixels are counted is said in `cada_edge.evaluation.masks.CONVENTIONS`. AUPRO is the MVTec AD
definition (Bergmann et al., IJCV 2021): mean over ground-truth regions (8-connected) of
the share of the region found, integrated over the false-positive rate of all defect-free
pixels up to 0.3 and divided by 0.3.

Why our own: both published packages require torch, which an evaluation on a device has not.
Beyond that, ``pyaupro`` 0.1.11 (MIT) holds every pixel in its exact mode, and its binned mode
averages pictures instead of pooling them and drops those without a defect; ``ADEval`` 1.1.0
(BSD, last released 2024) calls ``numpy.trapz``, which NumPy 2.4 no longer has. On the same
maps these histograms agree with pyaupro's exact mode to six digits.

Here scores fall into `BINS` bins, equal in ``asinh`` of the robustly scaled score, so one
outlying product cannot use up the resolution. Scores within one bin count as tied. Histograms
add, so per-product and pooled figures come from one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc

from cada_edge.evaluation.metrics import BoolArray, Float64Array
from cada_edge.evaluation.results import Measure
from cada_edge.types import Float32Array

BINS = 16384
AUPRO_LIMIT = 0.3

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Binning:
    """Monotone map from scores to bins 0..`BINS` - 1.

    Attributes:
        centre: score in the middle of the finest bins.
        scale: half-width of the finely divided range, > 0, score units.
        low: ``asinh`` coordinate of the lowest score.
        high: of the highest score, >= `low`.
    """

    centre: float
    scale: float
    low: float
    high: float

    @staticmethod
    def over(values: Float32Array) -> Binning:
        """Cover every value, finest where most of them lie."""
        lowest, quarter, median, most, highest = (float(q) for q in np.quantile(values, (0, 0.25, 0.5, 0.99, 1)))
        scale = max(most - quarter, 1e-6 * max(1.0, abs(median)))
        low, high = (float(np.arcsinh((edge - median) / scale)) for edge in (lowest, highest))
        return Binning(median, scale, low, high)

    def bins(self, values: Float32Array) -> Int64Array:
        """int64, as `values`: the bin of each score; scores outside go to the end bins."""
        position = np.arcsinh((values - np.float32(self.centre)) * np.float32(1 / self.scale))
        step = (BINS - 1) / max(self.high - self.low, 1e-12)
        position = (position - np.float32(self.low)) * np.float32(step)
        return np.asarray(np.clip(position, 0, BINS - 1), np.int64)


@dataclass(frozen=True)
class PixelHistogram:
    """Counts per score bin; ``+`` pools them.

    Attributes:
        good: float64 (BINS,), pixels outside every mask.
        defect: float64 (BINS,), pixels inside masks.
        overlap: float64 (BINS,), share of each region, summed over regions.
        regions: number of ground-truth regions.
    """

    good: Float64Array
    defect: Float64Array
    overlap: Float64Array
    regions: int

    @staticmethod
    def empty() -> PixelHistogram:
        """No pixels at all."""
        return PixelHistogram(np.zeros(BINS), np.zeros(BINS), np.zeros(BINS), 0)

    @staticmethod
    def of(bins: Int64Array, mask: BoolArray | None) -> PixelHistogram:
        """One picture: int64 (H, W) bins and its bool (H, W) mask, or None for a good part."""
        flat = bins.ravel()
        everything = np.bincount(flat, minlength=BINS).astype(np.float64)
        if mask is None or not mask.any():
            return PixelHistogram(everything, np.zeros(BINS), np.zeros(BINS), 0)
        inside = mask.ravel()
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        region = np.asarray(labels).ravel()[inside]
        share = 1.0 / np.bincount(region, minlength=count)[region]
        defect = np.bincount(flat[inside], minlength=BINS).astype(np.float64)
        overlap = np.asarray(np.bincount(flat[inside], weights=share, minlength=BINS), np.float64)
        return PixelHistogram(everything - defect, defect, overlap, count - 1)

    def __add__(self, other: PixelHistogram) -> PixelHistogram:
        return PixelHistogram(
            self.good + other.good,
            self.defect + other.defect,
            self.overlap + other.overlap,
            self.regions + other.regions,
        )

    def auroc(self) -> Measure:
        """Area under the pixel ROC, in [0, 1]."""
        missing = self._missing()
        if missing:
            return Measure(None, missing)
        return Measure(float(auc(_rates(self.good), _rates(self.defect))))

    def aupro(self, limit: float = AUPRO_LIMIT) -> Measure:
        """Area under the per-region overlap up to false-positive rate `limit`, over `limit`."""
        missing = self._missing()
        if missing:
            return Measure(None, missing)
        fpr, pro = _rates(self.good), _rates(self.overlap)
        within = fpr <= limit
        end = np.interp(limit, fpr, pro)
        return Measure(float(auc(np.append(fpr[within], limit), np.append(pro[within], end)) / limit))

    def _missing(self) -> str:
        if not self.regions:
            return "no defect masks"
        return "" if self.good.any() else "no defect-free pixels"


def _rates(histogram: Float64Array) -> Float64Array:
    """Share of the total at or above each bin, from the highest bin down, starting at 0."""
    rising = np.cumsum(histogram[::-1])
    return np.concatenate([[0.0], rising / rising[-1]])
