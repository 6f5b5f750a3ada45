"""The whole chain on real inspection images: train, export, calibrate, evaluate, small enough for CI."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cada_edge.bundle import Bundle
from cada_edge.calibration import CalibrateConfig, calibrate
from cada_edge.data.dataset import Dataset, Item, scan
from cada_edge.evaluation import EvaluateConfig, Evaluation, evaluate
from cada_edge.export import ParityReport, export
from cada_edge.imaging import prepare, read_image
from cada_edge.models import RevDistConfig
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.training import FitConfig, TrainConfig, train
from cada_edge.types import MapSpec

pytestmark = [pytest.mark.real, pytest.mark.slow]

CONFIG = TrainConfig(
    size_hw=(128, 128),
    detector=RevDistConfig(width=16, bottleneck=16),
    map_spec=MapSpec(size_hw=(32, 32)),
    fit=FitConfig(iterations=250, batch_size=8),
    device="cpu",
)


def quiet(*_: object) -> None:
    """Take progress and say nothing."""


@pytest.fixture(scope="module")
def dataset(real_data: Path) -> Dataset:
    """Every second image of all products."""
    whole = scan(real_data)
    return replace(whole, items=(*whole.train()[::2], *whole.test()[::2]))


@pytest.fixture(scope="module")
def exported(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, ParityReport]:
    """One small model for all products, with its graph, compared on 200 real images."""
    bundle = train(CONFIG, dataset.train(), tmp_path_factory.mktemp("work"), quiet)
    assert bundle is not None
    paths = [item.path for item in dataset.items]
    spread = [paths[i * len(paths) // 200] for i in range(200)]
    return export(bundle, OrtRunner, spread)


@pytest.fixture(scope="module")
def evaluation(exported: tuple[Bundle, ParityReport], dataset: Dataset) -> Evaluation:
    """Measured under the absolute-unified protocol."""
    with OrtRunner(exported[0]) as runner:
        return evaluate(exported[0], runner, dataset, EvaluateConfig("absolute"), quiet)


def test_the_graph_judges_200_real_images_as_the_model_does(exported: tuple[Bundle, ParityReport]) -> None:
    """Score and map differ by rounding only, far below the gate's tolerance."""
    report = exported[1]
    assert report
    assert report.images >= 200
    assert max(report.score.max, report.map.max) < 1e-4


def test_one_threshold_comes_from_images_never_seen(exported: tuple[Bundle, ParityReport], dataset: Dataset) -> None:
    """Calibration uses held-out good images alone and promises what was asked for."""
    with OrtRunner(exported[0]) as runner:
        calibrated, result = calibrate(exported[0], runner, dataset.train(), CalibrateConfig(target_frr=0.05), quiet)
    threshold = calibrated.manifest.threshold
    assert threshold is not None
    assert threshold.n_images == len(result.scores)
    assert 0.05 < threshold.bound_frr < 0.15


def _apartness(scores: list[np.ndarray]) -> float:
    """How far products lie apart, in units of how much a product's own good parts vary."""
    between = np.std([np.median(values) for values in scores])
    return float(between / np.mean([np.std(values) for values in scores]))


def _good_scores(runner: OrtRunner, items: list[Item]) -> tuple[np.ndarray, np.ndarray]:
    """Raw and aligned scores of good images."""
    prediction = runner.infer(np.stack([prepare(read_image(item.path), runner.spec) for item in items]))
    return prediction.raw_score, prediction.score


def test_alignment_brings_products_onto_one_scale(exported: tuple[Bundle, ParityReport], dataset: Dataset) -> None:
    """Good parts of different products score more alike after alignment than before."""
    with OrtRunner(exported[0]) as runner:
        good = [item for item in dataset.test() if item.defect is None]
        pairs = [_good_scores(runner, [i for i in good if i.product == product]) for product in dataset.products()]
    raw, aligned = ([pair[i] for pair in pairs] for i in (0, 1))
    assert _apartness(aligned) < 0.5 * _apartness(raw)


def test_alignment_does_not_cost_detection(evaluation: Evaluation) -> None:
    """Pooled over all products, the aligned scores separate defects at least as well as the raw ones."""
    figures = {alignment.name: alignment.metrics.image_auroc for alignment in evaluation.alignments}
    assert figures["cada"].value is not None
    assert figures["raw"].value is not None
    assert figures["cada"].value > figures["raw"].value
