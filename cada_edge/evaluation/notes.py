"""What a reader must know to read the figures right; only what applies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from cada_edge.calibration import Judged
from cada_edge.evaluation.alignments import ClassStatistics
from cada_edge.evaluation.masks import CONVENTIONS
from cada_edge.evaluation.parts import Parts
from cada_edge.evaluation.pixels import PixelHistogram
from cada_edge.evaluation.protocols import RULES, Labelled
from cada_edge.evaluation.results import AlignmentResult, EvaluateConfig
from cada_edge.types import MIN_SPREAD, NOVELTY_LIMIT

FEW_HELD = 10  # images; below, a product's own statistics are rough


def listed(products: Iterable[str]) -> str:
    """Product names as a sentence part."""
    return ", ".join(name or "(unnamed)" for name in products)


def notes(
    config: EvaluateConfig,
    results: Sequence[AlignmentResult],
    test: Labelled,
    *,
    parts: Parts,
    statistics: Mapping[str, ClassStatistics],
    named: Mapping[str, str],
    pixels: Mapping[str, PixelHistogram],
) -> tuple[str, ...]:
    """The protocol's statement first, then whatever applies."""
    return (
        RULES[config.protocol].statement,
        *_of_products(test, parts, pixels),
        *_of_labels(results, parts, statistics),
        *_of_names(results, test, named, statistics),
        *_of_thresholds(results),
        *_of_maps(test.judged),
        *_of_novelty(test),
        *_of_pixels(pixels),
        *_of_leaks(parts),
    )


def _of_products(test: Labelled, parts: Parts, pixels: Mapping[str, PixelHistogram]) -> Iterator[str]:
    if parts.never_trained:
        yield (
            f"Never trained: {listed(parts.never_trained)}. The bundle lists no training image of them in this data; "
            "they are judged and listed apart, and are in no figure of the whole."
        )
    everything = test.products(np.ones(len(test.product), np.bool_))
    unmasked = [name for name in everything if not pixels.get(name, PixelHistogram.empty()).regions]
    if unmasked:
        yield f"No defect masks, so not in the pixel figures: {listed(unmasked)}."


def _of_labels(
    results: Sequence[AlignmentResult], parts: Parts, statistics: Mapping[str, ClassStatistics]
) -> Iterator[str]:
    if not parts.held:
        yield (
            "The data holds none of the images that training set aside: no class-aware alignment and no thresholds "
            "but the bundle's own. Evaluate on the folder the model was trained on to have them."
        )
        return
    for result in results:
        lost = set(result.excluded) - set(parts.never_trained)
        if lost:
            yield f"{result.name} leaves out products without enough held-out good images: {listed(sorted(lost))}."
    few = [f"{name or '(unnamed)'} ({s.n_images})" for name, s in sorted(statistics.items()) if s.n_images < FEW_HELD]
    if few:
        yield f"Class statistics rest on fewer than {FEW_HELD} held-out good images for: {', '.join(few)}."


def _of_names(
    results: Sequence[AlignmentResult],
    test: Labelled,
    named: Mapping[str, str],
    statistics: Mapping[str, ClassStatistics],
) -> Iterator[str]:
    if not statistics:
        return
    if all(result.name != "class-predicted" for result in results):
        yield (
            "No class-predicted alignment: its classifier reads the encoder's descriptors, which were not asked for or "
            "need torch (pip install 'cada-edge[train]')."
        )
        return
    items = [item for item in test.judged.items if item.product in statistics]
    right = sum(named[item.sha256] == item.product for item in items)
    share = f"{100 * right / len(items):.1f} %" if items else "none"
    yield f"class-predicted: its classifier names the right product for {right} of {len(items)} test images ({share})."


def _of_thresholds(results: Sequence[AlignmentResult]) -> Iterator[str]:
    small = [point.target_frr for point in results[0].operating if point.method == "maximum"]
    if small:
        rates = ", ".join(f"{100 * rate:g} %" for rate in small)
        yield f"Too few calibration images for {rates}: the highest good score is the threshold there."


def _of_maps(judged: Judged) -> Iterator[str]:
    prediction = judged.prediction
    flat = int(np.count_nonzero(np.ptp(prediction.map, axis=(1, 2)) == 0))
    if flat:
        yield f"{flat} of {len(judged)} test images have a constant anomaly map: the detector sees nothing in them."
    held_up = int(np.count_nonzero(prediction.guarded()))
    if held_up:
        yield (
            f"For {held_up} of {len(judged)} test images the predicted gamma - u is no more than its guard, "
            f"{MIN_SPREAD:g}: their aligned scores are noise enlarged."
        )


def _of_novelty(test: Labelled) -> Iterator[str]:
    novel = test.judged.prediction.novel()
    if not novel.any():
        return
    good, defects, never = (
        f"{np.count_nonzero(novel & rows)} of {np.count_nonzero(rows)}"
        for rows in (test.trained & ~test.defective, test.trained & test.defective, ~test.trained)
    )
    unseen = f", {never} images of products never trained" if not test.trained.all() else ""
    yield (
        f"Unlike everything the model knows (novelty above {NOVELTY_LIMIT:g}): {good} good and {defects} defective "
        f"test images{unseen}. A line leaves them undecided, so CADA's rates at a threshold count them as rejected; "
        "the AUROC figures rest on scores alone."
    )


def _of_pixels(pixels: Mapping[str, PixelHistogram]) -> Iterator[str]:
    if any(histogram.regions for histogram in pixels.values()):
        yield CONVENTIONS


def _of_leaks(parts: Parts) -> Iterator[str]:
    if parts.leaked:
        yield f"{parts.leaked} test images are byte-identical to images of training or calibration and were left out."
