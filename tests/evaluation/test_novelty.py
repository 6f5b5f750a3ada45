"""What the model does not know is a reject on the line, so it is one in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Dataset
from cada_edge.evaluation import EvaluateConfig, Evaluation, evaluate
from cada_edge.protocols import Runner
from cada_edge.types import Prediction, UInt8Array


class DiscIsStrange:
    """The runner given, to which the product with the highest maps (u > 70) is novel."""

    def __init__(self, runner: Runner) -> None:
        self.runner, self.spec, self.map_spec = runner, runner.spec, runner.map_spec

    def infer(self, batch: UInt8Array) -> Prediction:
        """As `Runner.infer`."""
        known = self.runner.infer(batch)
        return replace(known, novelty=np.where(known.u > 70, 2.0, 0.5).astype(np.float32))

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> DiscIsStrange:  # noqa: PYI034  # Python 3.10 has no typing.Self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def strange(line: Dataset, make_bundle: Callable[[Dataset], Bundle], runner: Runner) -> Evaluation:
    """The line, one of its three products beyond the novelty limit."""
    return evaluate(make_bundle(line), DiscIsStrange(runner), line, EvaluateConfig(targets_frr=(0.05,)))


def test_novel_images_count_as_rejected_under_cada_alone(strange: Evaluation) -> None:
    """All of the strange product is rejected, good or not; the raw detector has no head to ask."""
    raw, cada = (
        {rates.product: rates for rates in strange.alignment(name).operating[0].products} for name in ("raw", "cada")
    )
    assert (cada["disc"].false_rejects, cada["disc"].caught) == (12, 12)
    assert cada["bolt"].false_rejects < 6
    assert raw["disc"].false_rejects < 12


def test_novel_calibration_images_count_against_the_rate(strange: Evaluation) -> None:
    """A third of the calibration images is rejected whatever the threshold: the stated bound says so."""
    point = strange.alignment("cada").operating[0]
    assert point.n_calibration == 30
    assert point.bound_frr > 1 / 3
    assert strange.alignment("raw").operating[0].bound_frr < 0.2


def test_scores_are_ranked_as_they_are(strange: Evaluation) -> None:
    """Novelty changes no AUROC: it is a line's decision, not a score."""
    assert strange.alignment("cada").metrics.image_auroc.value == 1.0


def test_the_notes_count_novel_images(strange: Evaluation) -> None:
    """The reader learns how many good and how many defective images were never judged by score."""
    assert any("12 of 36 good and 12 of 36 defective" in note for note in strange.notes)
