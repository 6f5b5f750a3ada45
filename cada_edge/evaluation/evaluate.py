"""A bundle judged on a data set: predictions once, every alignment and figure from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cada_edge.bundle import Bundle
from cada_edge.calibration import Judged, judge
from cada_edge.data.dataset import Dataset
from cada_edge.evaluation.alignments import Aligned, ClassStatistics, align, class_statistics
from cada_edge.evaluation.classify import Describe, ProductClassifier
from cada_edge.evaluation.masks import Histograms, Progress, pixel_histograms
from cada_edge.evaluation.notes import notes
from cada_edge.evaluation.operating import OperatingPoint
from cada_edge.evaluation.parts import Parts, divide
from cada_edge.evaluation.protocols import (
    RULES,
    Labelled,
    gap_closure,
    image_auroc,
    metrics_of_each,
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
from cada_edge.types import Threshold, to_json
from cada_edge.version import __version__


def evaluate(
    bundle: Bundle,
    runner: Runner,
    dataset: Dataset,
    config: EvaluateConfig,
    progress: Progress | None = None,
    *,
    describe: Describe | None = None,
) -> Evaluation:
    """Judge `dataset` under the configured protocol and all alignments.

    Args:
        bundle: a trained bundle; its ``images.json`` tells which images are held out.
        runner: runs that bundle.
        dataset: test images; its train images serve for thresholds and class statistics.
        config: protocol and target rates.
        progress: called with (what, done, total).
        describe: the bundle's descriptors, for ``class-predicted``; without it that alignment
            is left out.

    Raises:
        DataError: no test images, an unreadable picture, or a mask of another size.
        BundleError: the bundle does not say what it was trained on.
        EngineError: a score, map or descriptor that is not finite; names the picture.
    """
    report = progress or (lambda what, done, total: None)  # noqa: ARG005  # the null progress takes them too
    parts = divide(bundle, dataset)
    held = _judge_held(runner, parts, config, report)
    judged = judge(runner, parts.test, config.batch_size, lambda d, t: report("judge test images", d, t))
    test, statistics = Labelled.of(judged, parts.never_trained), class_statistics(held)
    classifier = describe and ProductClassifier(describe, runner.spec, config.batch_size, report)
    named = _name(classifier, parts, statistics) if classifier and statistics else {}
    names = tuple(name for name in ALIGNMENTS if named or name != "class-predicted")
    aligned = {name: align(name, judged, statistics, named) for name in names}
    study = _Study(
        config=config,
        stored=bundle.manifest.threshold,
        test=test,
        aligned=aligned,
        calibration=_calibration_part(held, parts, statistics, named, names),
        pixels=pixel_histograms(test, aligned, runner.spec, report),
    )
    results = tuple(study.result(name) for name in names)
    return Evaluation(
        config=config,
        provenance=_provenance(bundle, dataset, study, held),
        alignments=results,
        images=_images(dataset, test, aligned, named),
        notes=(
            *notes(config, results, test, parts=parts, statistics=statistics, named=named, pixels=study.pixels["cada"]),
            *dataset.notes,
        ),
        maps=judged.prediction.map,
    )


@dataclass(frozen=True)
class _Study:
    """All that the figures of any alignment are drawn from.

    Attributes:
        config: the evaluation's settings.
        stored: the bundle's own threshold, if it has one.
        test: the test images.
        aligned: their scores under each alignment.
        calibration: calibration images, and their scores under each alignment; None without any.
        pixels: pixel scores in and outside the masks, per alignment and product.
    """

    config: EvaluateConfig
    stored: Threshold | None
    test: Labelled
    aligned: Mapping[AlignmentName, Aligned]
    calibration: tuple[Judged, Mapping[AlignmentName, Aligned]] | None
    pixels: Histograms

    def result(self, name: AlignmentName) -> AlignmentResult:
        """All figures of one alignment."""
        rule, aligned, pixels = RULES[self.config.protocol], self.aligned[name], self.pixels[name]
        trained, never = aligned.valid & self.test.trained, aligned.valid & ~self.test.trained
        stored = self.stored if name == "cada" else None
        return AlignmentResult(
            name=name,
            metrics=metrics_under(rule, self.test, aligned, pixels),
            products=metrics_of_each(self.test, aligned, trained, pixels),
            never_trained=metrics_of_each(self.test, aligned, never, pixels),
            operating=tuple(point for rate in self.config.targets_frr for point in self._operating(name, rate)),
            stored=stored_point(stored, self.config, self.test, aligned) if stored else None,
            excluded=self.test.products(~aligned.valid),
            gap_closure=self._gap(name),
        )

    def _operating(self, name: AlignmentName, rate: float) -> Iterator[OperatingPoint]:
        """The operating point at one target rate, if there is any."""
        if self.calibration is not None:
            judged, aligned = self.calibration
            point = operating_point(rate, self.config, self.test, self.aligned[name], (judged, aligned[name]))
            if point is not None:
                yield point

    def _gap(self, name: AlignmentName) -> Measure:
        """Over the products that class-aware can judge, so that all see the same images."""
        rows = self.aligned["class-aware"].valid & self.aligned[name].valid
        return gap_closure(
            lambda a: image_auroc(RULES[self.config.protocol], self.test, a, rows),
            self.aligned["raw"],
            self.aligned["class-aware"],
            self.aligned[name],
        )


def _judge_held(runner: Runner, parts: Parts, config: EvaluateConfig, report: Progress) -> Judged | None:
    if not parts.held:
        return None
    return judge(runner, parts.held, config.batch_size, lambda d, t: report("judge held-out images", d, t))


def _name(classifier: ProductClassifier, parts: Parts, statistics: Mapping[str, ClassStatistics]) -> dict[str, str]:
    """Digest to named product, of all images to align: products with statistics only, on either side."""
    known = [item for item in parts.naming if item.product in statistics]
    unknown = [item for item in (*parts.test, *parts.held) if item.product in statistics]
    return classifier.name(known, unknown) if known and unknown else {}


def _calibration_part(
    held: Judged | None,
    parts: Parts,
    statistics: Mapping[str, ClassStatistics],
    named: Mapping[str, str],
    names: Sequence[AlignmentName],
) -> tuple[Judged, dict[AlignmentName, Aligned]] | None:
    """The rows of `held` that calibrate, under each alignment."""
    rows = [row for row, item in enumerate(held.items) if item.sha256 in parts.calibration] if held else []
    if held is None or not rows:
        return None
    judged = held.take(rows)
    return judged, {name: align(name, judged, statistics, named) for name in names}


def _images(
    dataset: Dataset, test: Labelled, aligned: Mapping[AlignmentName, Aligned], named: Mapping[str, str]
) -> tuple[ImageResult, ...]:
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
            trained=bool(test.trained[row]),
            named=named.get(item.sha256),
        )
        for row, item in enumerate(test.judged.items)
    )


def _provenance(bundle: Bundle, dataset: Dataset, study: _Study, held: Judged | None) -> dict[str, Any]:
    trained, defective = study.test.trained, study.test.defective
    return {
        "version": __version__,
        "bundle_sha256": bundle.sha256,
        "data_sha256": dataset.sha256,
        "n_test_good": int(np.count_nonzero(~defective & trained)),
        "n_test_defective": int(np.count_nonzero(defective & trained)),
        "n_test_never_trained": int(np.count_nonzero(~trained)),
        "n_held_out": len(held) if held else 0,
        "n_calibration": len(study.calibration[0]) if study.calibration else 0,
        "threshold": to_json(bundle.manifest.threshold) if bundle.manifest.threshold else None,
        "detector": asdict(bundle.manifest.detector),
        "head": asdict(bundle.manifest.head),
        "stages": [asdict(stage) for stage in bundle.manifest.provenance],
    }
