"""Five ways to bring products onto one scale, from the same predictions.

* ``raw``: the detector's own scores.
* ``class-aware``: what labels would give. Each product c has its own
  ``u_c``, the mean of its normal maps, and ``gamma_c``, its mean normal image score
  (mean of the top fraction of cells), and ``S' = (S - u_c) / (gamma_c - u_c)``: the form
  in which the CADA paper (arXiv 2404.00724) aligns by class.
* ``class-aware-z``: the z-score with labels: image scores by the mean and standard
  deviation of the product's normal image scores, maps by those of its normal map cells.
* ``class-predicted``: labels in training only. A classifier (`cada_edge.evaluation.classify`)
  names the product of each image, whose ``(u_c, gamma_c)`` then align it.
* ``cada``: the bundle's head, which knows no product.

The variants of the paper's figure 4: class-aware with labels in training and test, with labels
in training only, class-agnostic (CADA) and none. Class statistics come from good training images
that the detector did not fit (bundle roles ``align`` and ``calibrate``), never from test images.
They include the images that later set the threshold, which favours class-aware a little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cada_edge.alignment import MIN_SPREAD
from cada_edge.calibration import Judged
from cada_edge.evaluation.metrics import BoolArray
from cada_edge.evaluation.results import AlignmentName
from cada_edge.types import Float32Array

MIN_FOR_SPREAD = 2  # images; the standard deviation of one score says nothing


@dataclass(frozen=True)
class ClassStatistics:
    """Of one product's held-out good images, all in raw map units.

    Attributes:
        u: mean of the maps.
        gamma: mean image score.
        score_std: standard deviation of the image scores, >= 0.
        cell_std: standard deviation of all map cells, >= 0.
        n_images: how many images these rest on, >= 1.
    """

    u: float
    gamma: float
    score_std: float
    cell_std: float
    n_images: int


@dataclass(frozen=True)
class Aligned:
    """N images under one alignment; rows outside `valid` mean nothing.

    Attributes:
        scores: float32 (N,).
        gain: float32 (N,), with `shift` takes a CADA map to this alignment: ``map * gain + shift``.
        shift: float32 (N,).
        valid: bool (N,), False where the product has no statistics.
        novel: bool (N,), rejected whatever the score: beyond the head's novelty limit. All False
            but under ``cada``: the other alignments know no head.
    """

    scores: Float32Array
    gain: Float32Array
    shift: Float32Array
    valid: BoolArray
    novel: BoolArray

    def rejected(self, value: float) -> BoolArray:
        """bool (N,): what a line with threshold `value` would not let pass."""
        above: BoolArray = self.scores.astype(np.float64) > value
        return above | self.novel


def class_statistics(held: Judged | None) -> dict[str, ClassStatistics]:
    """Statistics of each product that has held-out good images."""
    if held is None:
        return {}
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(held.items):
        rows.setdefault(item.product, []).append(row)
    scores, maps = held.prediction.raw_score, held.prediction.raw_map
    return {
        product: ClassStatistics(
            u=float(maps[index].mean(dtype=np.float64)),
            gamma=float(scores[index].mean(dtype=np.float64)),
            score_std=float(scores[index].std(dtype=np.float64)),
            cell_std=float(maps[index].std(dtype=np.float64)),
            n_images=len(index),
        )
        for product, index in rows.items()
    }


def align(
    name: AlignmentName, judged: Judged, statistics: Mapping[str, ClassStatistics], named: Mapping[str, str]
) -> Aligned:
    """Bring `judged` onto the scale of alignment `name`.

    Args:
        name: which alignment.
        judged: N images.
        statistics: of the products with labelled, held-out good images.
        named: sha256 to the product that the classifier names, for ``class-predicted``.
    """
    prediction, nothing = judged.prediction, np.zeros(len(judged), np.bool_)
    if name == "cada":
        ones = np.ones(len(judged), np.float32)
        return Aligned(prediction.score, ones, 0 * ones, ~nothing, prediction.novel())
    if name == "raw":
        return Aligned(prediction.raw_score, prediction.gamma - prediction.u, prediction.u, ~nothing, nothing)
    if name == "class-aware-z":
        spread = {c: s for c, s in statistics.items() if s.n_images >= MIN_FOR_SPREAD}
        return _by_class(judged, {c: (s.gamma, s.score_std, s.u, s.cell_std) for c, s in spread.items()})
    forms = {c: (s.u, s.gamma - s.u, s.u, s.gamma - s.u) for c, s in statistics.items()}
    if name == "class-aware":
        return _by_class(judged, forms)
    return _by_class(judged, forms, [named.get(item.sha256, "") for item in judged.items])


def _by_class(
    judged: Judged, forms: Mapping[str, tuple[float, float, float, float]], named: Sequence[str] | None = None
) -> Aligned:
    """Subtract and divide by (score centre, score width, map centre, map width) of each image's product.

    The product is the one `named`, or without names the true one. Where the true one has no
    form the row is not valid either way, so that all class-aware figures rest on the same images.
    """
    true = [item.product for item in judged.items]
    picked = true if named is None else named
    valid = np.array([a in forms and b in forms for a, b in zip(true, picked, strict=True)], np.bool_)
    table = np.array([forms.get(product, (0.0, 1.0, 0.0, 1.0)) for product in picked], np.float32).reshape(-1, 4)
    score_centre, score_width, map_centre, map_width = table.T
    prediction, width = judged.prediction, np.maximum(map_width, np.float32(MIN_SPREAD))
    return Aligned(
        scores=(prediction.raw_score - score_centre) / np.maximum(score_width, np.float32(MIN_SPREAD)),
        gain=(prediction.gamma - prediction.u) / width,
        shift=(prediction.u - map_centre) / width,
        valid=valid,
        novel=np.zeros(len(judged), np.bool_),
    )
