"""Which convolutions bear INT8: one at a time is quantised, and what that does to scores is measured.

Quantisation noises of different layers are nearly independent, so their mean squares add up: the
layers that do most harm are left out until the rest fits a budget, and that is measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from onnx import ModelProto

from cada_edge.calibration.ranges import RANGE_METHODS, Histogram, RangeMethod, ranges_of
from cada_edge.export.gate import rejects
from cada_edge.export.qdq import Layer, quantise
from cada_edge.types import Prediction

Judge = Callable[[ModelProto], Prediction]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MethodEffect:
    """What one range method does to scores when every layer is INT8.

    Attributes:
        method: of the ranges.
        score_rms: root mean square of the score's difference from float32.
        score_max: largest difference.
        flips: images of the probe whose verdict differs.
    """

    method: RangeMethod
    score_rms: float
    score_max: float
    flips: int


@dataclass(frozen=True)
class LayerEffect:
    """What INT8 in one layer alone does to scores: root mean square of their difference."""

    layer: str
    score_rms: float


@dataclass(frozen=True)
class Selection:
    """Which layers are INT8.

    Attributes:
        chosen: they are.
        effects: of every layer, the most harmful first.
        score_rms: measured with all of `chosen` quantised; ``inf`` when none is.
    """

    chosen: tuple[Layer, ...]
    effects: tuple[LayerEffect, ...]
    score_rms: float

    @property
    def kept(self) -> tuple[str, ...]:
        """Layers left out, the most harmful first."""
        chosen = {one.name for one in self.chosen}
        return tuple(effect.layer for effect in self.effects if effect.layer not in chosen)


def compare_methods(
    proto: ModelProto,
    layers: Sequence[Layer],
    histograms: Mapping[str, Histogram],
    judge: Judge,
    *,
    threshold: float,
    methods: Sequence[RangeMethod] = RANGE_METHODS,
) -> tuple[MethodEffect, ...]:
    """Effect of every method, the mildest first."""
    reference = judge(proto)
    found = []
    for method in methods:
        result = judge(quantise(proto, layers, ranges_of(histograms, method)))
        gap = np.abs(result.score.astype(np.float64) - reference.score)
        rms = score_rms(result, reference)
        flips = int(np.sum(rejects(result, threshold) != rejects(reference, threshold)))
        found.append(MethodEffect(method, rms, float(gap.max()), flips))
    return tuple(sorted(found, key=lambda one: one.score_rms))


def select_layers(
    proto: ModelProto,
    layers: Sequence[Layer],
    ranges: Mapping[str, float],
    judge: Judge,
    *,
    budget: float,
    progress: Progress | None = None,
) -> Selection:
    """Leave out the most harmful layers until scores move by at most `budget`, root mean square.

    Args:
        proto: the graph, float32.
        layers: candidates.
        ranges: of their tensors.
        judge: runs a graph on the probe images.
        budget: in units of the aligned score.
        progress: called with (layers tried, layers in all).
    """
    reference = judge(proto)

    def effect(chosen: Sequence[Layer]) -> float:
        return score_rms(judge(quantise(proto, chosen, ranges)), reference)

    effects: list[tuple[float, Layer]] = []
    for layer in layers:
        effects.append((effect([layer]), layer))
        if progress:
            progress(len(effects), len(layers))
    effects.sort(key=lambda pair: (pair[0], pair[1].name))
    count = _affordable([rms for rms, _ in effects], budget)
    order = [layer for _, layer in effects]
    measured = effect(order[:count]) if count else float("inf")
    while count and measured > budget:
        count -= max(1, len(order) // 16)
        measured = effect(order[: max(count, 0)]) if count > 0 else float("inf")
    harmful_first = tuple(LayerEffect(layer.name, rms) for rms, layer in reversed(effects))
    return Selection(tuple(order[: max(count, 0)]), harmful_first, measured)


def _affordable(ascending: Sequence[float], budget: float) -> int:
    """How many of the mildest effects add up, as squares, to at most the budget's square."""
    return sum(total <= budget**2 for total in accumulate(rms**2 for rms in ascending))


def score_rms(result: Prediction, reference: Prediction) -> float:
    """Root mean square of the scores' difference."""
    return float(np.sqrt(np.mean(np.square(result.score.astype(np.float64) - reference.score))))
