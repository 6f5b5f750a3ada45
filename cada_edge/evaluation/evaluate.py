"""A bundle judged on a data set: predictions once, every alignment and figure from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cada_edge.bundle import Bundle
from cada_edge.calibration import Judged, judge
from cada_edge.data.dataset import Dataset, Item
from cada_edge.errors import DataError
from cada_edge.evaluation.alignments import Aligned, align, class_statistics
from cada_edge.evaluation.masks import CONVENTIONS, Progress, pixel_histograms
from cada_edge.evaluation.pixels import PixelHistogram
from cada_edge.evaluation.protocols import (
    RULES,
    Labelled,
    gap_closure,
    image_auroc,
    metrics_under,
    operating_point,
    stored_point,
)
from cada_edge.evaluation.results import (
    ALIGNMENTS,
    AlignmentName,
    AlignmentResult,
    EvaluateConfig,
    Evaluation,
    ImageResult,
    Measure,
)
from cada_edge.protocols import Runner
from cada_edge.types import to_json
from cada_edge.version import __version__


def evaluate(
    bundle: Bundle, runner: Runner, dataset: Dataset, config: EvaluateConfig, progress: Progress | None = None
) -> Evaluation:
    """Judge `dataset` under the configured protocol and all four alignments.

    Args:
        bundle: a trained bundle; its ``images.json`` tells which images are held out.
        runner: runs that bundle.
        dataset: test images; its train images serve for thresholds and class statistics.
        config: protocol and target rates.
        progress: called with (what, done, total).

    Raises:
        DataError: no test images, an unreadable picture, or a mask of another size.
        BundleError: the bundle does not say what it was trained on.
    """
    report = progress or (lambda what, done, total: None)  # noqa: ARG005  # the null progress takes them too
    items, leaked = _test_items(bundle, dataset)
    held = _judge_held(bundle, runner, dataset, config, report)
    test = Labelled.of(judge(runner, items, config.batch_size, lambda d, t: report("judge test images", d, t)))
    statistics = class_statistics(held)
    aligned = {name: align(name, test.judged, statistics) for name in ALIGNMENTS}
    calibration = _calibration_part(bundle, held)
    pixels = pixel_histograms(test, aligned, runner.spec, report)
    results = []
    for name in ALIGNMENTS:
        held_aligned = None if calibration is None else (calibration, align(name, calibration, statistics))
        results.append(
            _result(
                name,
                bundle=bundle,
                config=config,
                test=test,
                aligned=aligned[name],
                held=held_aligned,
                pixels=pixels[name],
            )
        )
    return Evaluation(
        config=config,
        provenance=_provenance(bundle, dataset, test, held, calibration),
        alignments=tuple(results),
        gap_closure=_gap(config, test, aligned),
        images=_images(dataset, test, aligned),
        notes=(
            *_notes(config, results, test, held=held, leaked=leaked, pixels=pixels["cada"]),
            *([CONVENTIONS] if any(histogram.regions for histogram in pixels["cada"].values()) else []),
            *dataset.notes,
        ),
        maps=test.judged.prediction.map,
    )


def _test_items(bundle: Bundle, dataset: Dataset) -> tuple[tuple[Item, ...], int]:
    """Test images that neither training nor the threshold has seen, and how many were left out for that."""
    known = frozenset().union(*bundle.roles().values())
    found = dataset.test()
    items = tuple(item for item in found if item.sha256 not in known)
    if not items:
        why = f"all {len(found)} test images were used in training or calibration" if found else "no test images"
        raise DataError(f"{dataset.root}: {why}; expected <product>/test/good and <product>/test/<defect>")
    return items, len(found) - len(items)


def _judge_held(
    bundle: Bundle, runner: Runner, dataset: Dataset, config: EvaluateConfig, report: Progress
) -> Judged | None:
    by_role = bundle.roles()
    held = by_role.get("align", frozenset()) | by_role.get("calibrate", frozenset())
    items = {item.sha256: item for item in dataset.train() if item.sha256 in held}
    if not items:
        return None
    return judge(runner, tuple(items.values()), config.batch_size, lambda d, t: report("judge held-out images", d, t))


def _calibration_part(bundle: Bundle, held: Judged | None) -> Judged | None:
    """The rows of `held` whose role is to calibrate."""
    if held is None:
        return None
    wanted = bundle.roles().get("calibrate", frozenset())
    rows = [row for row, item in enumerate(held.items) if item.sha256 in wanted]
    return held.take(rows) if rows else None


def _result(
    name: AlignmentName,
    *,
    bundle: Bundle,
    config: EvaluateConfig,
    test: Labelled,
    aligned: Aligned,
    held: tuple[Judged, Aligned] | None,
    pixels: Mapping[str, PixelHistogram],
) -> AlignmentResult:
    rule, stored = RULES[config.protocol], bundle.manifest.threshold
    metrics, products = metrics_under(rule, test, aligned, pixels)
    points = [operating_point(rate, config, test, aligned, held) for rate in config.targets_frr] if held else []
    return AlignmentResult(
        name=name,
        metrics=metrics,
        products=products,
        operating=tuple(point for point in points if point is not None),
        stored=stored_point(stored, test, aligned) if stored and name == "cada" else None,
        excluded=test.products(~aligned.valid),
    )


def _gap(config: EvaluateConfig, test: Labelled, aligned: Mapping[AlignmentName, Aligned]) -> Measure:
    """Over the products that class-aware can judge, so that all three see the same images."""
    rows = aligned["class-aware"].valid
    return gap_closure(
        lambda a: image_auroc(RULES[config.protocol], test, a, rows),
        aligned["raw"],
        aligned["class-aware"],
        aligned["cada"],
    )


def _images(dataset: Dataset, test: Labelled, aligned: Mapping[AlignmentName, Aligned]) -> tuple[ImageResult, ...]:
    def scores(row: int) -> dict[AlignmentName, float | None]:
        return {name: float(a.scores[row]) if a.valid[row] else None for name, a in aligned.items()}

    def below(path: Path) -> str:
        return path.relative_to(dataset.root).as_posix()

    return tuple(
        ImageResult(
            name=below(item.path),
            sha256=item.sha256,
            product=item.product,
            defect=item.defect,
            masks=tuple(below(mask) for mask in item.masks),
            scores=scores(row),
        )
        for row, item in enumerate(test.judged.items)
    )


def _provenance(
    bundle: Bundle, dataset: Dataset, test: Labelled, held: Judged | None, calibration: Judged | None
) -> dict[str, Any]:
    return {
        "version": __version__,
        "bundle_sha256": bundle.sha256,
        "data_sha256": dataset.sha256,
        "n_test_good": int(np.count_nonzero(~test.defective)),
        "n_test_defective": int(np.count_nonzero(test.defective)),
        "n_held_out": len(held) if held else 0,
        "n_calibration": len(calibration) if calibration else 0,
        "threshold": to_json(bundle.manifest.threshold) if bundle.manifest.threshold else None,
        "detector": asdict(bundle.manifest.detector),
        "head": asdict(bundle.manifest.head),
        "stages": [asdict(stage) for stage in bundle.manifest.provenance],
    }


def _notes(
    config: EvaluateConfig,
    results: Sequence[AlignmentResult],
    test: Labelled,
    *,
    held: Judged | None,
    leaked: int,
    pixels: Mapping[str, PixelHistogram],
) -> tuple[str, ...]:
    """What a reader must know; only what applies."""
    notes = [RULES[config.protocol].statement]
    everything = test.products(np.ones(len(test.product), np.bool_))
    unmasked = [name or "(unnamed)" for name in everything if not pixels.get(name, PixelHistogram.empty()).regions]
    if unmasked:
        notes.append(f"No defect masks, so not in the pixel figures: {', '.join(unmasked)}.")
    if held is None:
        notes.append(
            "The data holds none of the images that training set aside: no class-aware alignment and no thresholds "
            "but the bundle's own. Evaluate on the folder the model was trained on to have them."
        )
    for result in results:
        if result.excluded and held is not None:
            names = ", ".join(name or "(unnamed)" for name in result.excluded)
            notes.append(f"{result.name} leaves out products without held-out good images: {names}.")
    small = [point.target_frr for point in results[0].operating if point.method == "maximum"]
    if small:
        rates = ", ".join(f"{100 * rate:g} %" for rate in small)
        notes.append(f"Too few calibration images for {rates}: the highest good score is the threshold there.")
    if leaked:
        notes.append(f"{leaked} test images are byte-identical to images of training or calibration and were left out.")
    return tuple(notes)
