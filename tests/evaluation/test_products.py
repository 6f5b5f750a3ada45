"""What each product will see, labels in training only, and data that does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cada_edge.bundle import Bundle
from cada_edge.calibration import clopper_pearson
from cada_edge.data.dataset import Dataset, scan
from cada_edge.errors import DataError, EngineError
from cada_edge.evaluation import EvaluateConfig, Evaluation, OperatingPoint, ProductRates, evaluate
from cada_edge.evaluation.report import render, worst
from cada_edge.imaging import write_png
from cada_edge.protocols import Runner
from cada_edge.types import Float32Array, Prediction, UInt8Array

MakeBundle = Callable[[Dataset], Bundle]


def one_colour_per_product(batch: UInt8Array) -> Float32Array:
    """Three flags from the blue level, which differs by product and not by defect: float32 (N, 3)."""
    blue = np.median(batch[..., 2], axis=(1, 2))
    return np.stack([blue < 30, (blue >= 30) & (blue < 60), blue >= 60], axis=1).astype(np.float32)


def untrained(bundle: Bundle, dataset: Dataset, product: str) -> Bundle:
    """The bundle as if training had never seen `product`."""
    own = {item.sha256 for item in dataset.train() if item.product == product}
    return bundle.with_roles({role: digests - own for role, digests in bundle.roles().items()})


class Wrapped:
    """A runner whose predictions are changed on the way out."""

    def __init__(self, runner: Runner, change: Callable[[Prediction], Prediction]) -> None:
        self.spec, self.map_spec, self._runner, self._change = runner.spec, runner.map_spec, runner, change

    def infer(self, batch: UInt8Array) -> Prediction:
        """As `Runner.infer`."""
        return self._change(self._runner.infer(batch))

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> Wrapped:  # noqa: PYI034  # Python 3.10 has no typing.Self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def named(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> Evaluation:
    """The line with descriptors that tell its products apart."""
    return evaluate(make_bundle(line), runner, line, EvaluateConfig(), describe=one_colour_per_product)


@pytest.fixture(scope="module")
def with_new(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> Evaluation:
    """The line judged by a bundle that never saw the disc."""
    bundle = untrained(make_bundle(line), line, "disc")
    return evaluate(bundle, runner, line, EvaluateConfig(), describe=one_colour_per_product)


def rates(product: str, false_rejects: int, n_good: int) -> ProductRates:
    """Counts of one product without defects."""
    interval = clopper_pearson(false_rejects, n_good, 0.95) if n_good else None
    return ProductRates(product, 1.0, n_good, false_rejects, 0, 0, interval)


def test_a_classifier_that_is_always_right_equals_labels(named: Evaluation) -> None:
    """Class-predicted scores are then those of class-aware, and the notes say how often it was right."""
    for image in named.images:
        assert image.named == image.product
        assert image.scores["class-predicted"] == image.scores["class-aware"]
    assert named.alignment("class-predicted").gap_closure.value == 1.0
    assert any("right product for 72 of 72 test images (100.0 %)" in note for note in named.notes)


def test_a_classifier_that_is_wrong_costs_what_it_costs(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """Blind descriptors name one product for all; the ranking falls back to that of raw scores."""
    blind = evaluate(
        make_bundle(line), runner, line, EvaluateConfig(), describe=lambda batch: np.zeros((len(batch), 2), np.float32)
    )
    assert len({image.named for image in blind.images}) == 1
    assert blind.alignment("class-predicted").gap_closure.value == pytest.approx(0.0)


def test_without_descriptors_the_variant_is_left_out(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """Four alignments remain, and the notes say why."""
    found = evaluate(make_bundle(line), runner, line, EvaluateConfig())
    assert found.names == ("raw", "class-aware", "class-aware-z", "cada")
    assert any("No class-predicted alignment" in note for note in found.notes)


def test_a_descriptor_that_is_not_finite_names_its_picture(
    line: Dataset, make_bundle: MakeBundle, runner: Runner
) -> None:
    """A NaN is an error, never a guess at the product."""
    nan = np.float32(np.nan)
    with pytest.raises(EngineError, match=r"\.png: its descriptor is not finite"):
        evaluate(
            make_bundle(line), runner, line, EvaluateConfig(), describe=lambda b: np.full((len(b), 2), nan, np.float32)
        )


def test_the_worst_product_carries_its_counts() -> None:
    """A rate of 1 in 4 is no rate of 10 in 40: the larger sample comes first in a tie, with its counts."""
    point = OperatingPoint(0.05, "conformal", 100, 0.07, (rates("few", 1, 4), rates("many", 10, 40), rates("no", 0, 0)))
    assert [own.product for own in point.worst_first] == ["many", "few"]
    assert worst(point) == "25.0 many (10/40)"
    assert (point.to_json()["worst_false_rejects"], point.to_json()["worst_n_good"]) == (10, 40)
    assert worst(replace(point, products=(rates("few", 0, 4), rates("many", 0, 40)))) == "none rejected (0/44)"


def test_every_product_has_its_interval_in_report_and_json(named: Evaluation, line: Dataset, runner: Runner) -> None:
    """Counts, rate and interval per product and target."""
    html = render(named, line.root, runner.spec, images=False)
    assert "False rejects that each product will see" in html
    point = named.to_json()["alignments"][-1]["operating_points"][1]
    for own in point["products"]:
        assert own["frr_interval"][0] <= own["frr"] <= own["frr_interval"][1]
        assert f'<td class="first">{own["false_rejects"]}/12</td>' in html


def test_a_product_never_trained_is_judged_apart(with_new: Evaluation) -> None:
    """It has figures and counts of its own, is in no figure of the whole, and class-aware leaves it out."""
    cada, point = with_new.alignment("cada"), with_new.alignment("cada").operating[1]
    assert with_new.never_trained == ("disc",)
    assert (list(cada.products), list(cada.never_trained)) == (["bolt", "cap"], ["disc"])
    assert ([p.product for p in point.products], [p.product for p in point.never_trained]) == (
        ["bolt", "cap"],
        ["disc"],
    )
    assert all(with_new.alignment(name).excluded == ("disc",) for name in ("class-aware", "class-predicted"))
    assert any(note.startswith("Never trained: disc.") for note in with_new.notes)


def test_the_report_lists_products_never_trained_as_such(with_new: Evaluation, line: Dataset, runner: Runner) -> None:
    """Its row says so, and the JSON names it."""
    assert "disc (never trained)" in render(with_new, line.root, runner.spec, images=False)
    assert json.loads(json.dumps(with_new.to_json(), allow_nan=False))["never_trained"] == ["disc"]


def test_only_products_never_trained_is_an_error(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """The message names both sides."""
    bundle = untrained(untrained(make_bundle(line), line, "disc"), line, "cap")
    items = tuple(item for item in line.items if item.split == "train" or item.product != "bolt")
    with pytest.raises(DataError, match="test images of cap, disc only, the bundle was trained on bolt"):
        evaluate(bundle, runner, replace(line, items=items), EvaluateConfig())


def test_a_product_of_three_images_is_named_with_its_count(
    line: Dataset, make_bundle: MakeBundle, runner: Runner
) -> None:
    """One image to fit, two held out: its own statistics are there, and a note says on what they rest."""
    bolts = [item for item in line.train() if item.product == "bolt"][3:]
    small = replace(line, items=tuple(item for item in line.items if item not in bolts))
    found = evaluate(make_bundle(small), runner, small, EvaluateConfig())
    assert found.alignment("class-aware-z").excluded == ()
    assert any("fewer than 10 held-out good images for: bolt (2)" in note for note in found.notes)


def test_one_held_out_image_has_no_spread(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """The z-score leaves that product out rather than divide by nothing."""
    bolts = [item for item in line.train() if item.product == "bolt"][2:]
    small = replace(line, items=tuple(item for item in line.items if item not in bolts))
    found = evaluate(make_bundle(small), runner, small, EvaluateConfig())
    assert found.alignment("class-aware-z").excluded == ("bolt",)
    assert found.alignment("class-aware").excluded == ()


def test_constant_maps_are_counted(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """They rank nothing, every figure stays finite, and the notes count them."""
    flat = Wrapped(runner, lambda p: replace(p, map=0 * p.map, score=0 * p.score))
    found = evaluate(make_bundle(line), flat, line, EvaluateConfig())
    assert found.alignment("cada").metrics.image_auroc.value == 0.5
    assert any("72 of 72 test images have a constant anomaly map" in note for note in found.notes)
    json.dumps(found.to_json(), allow_nan=False)
    render(found, line.root, runner.spec, images=False)


def test_a_spread_at_its_guard_is_counted(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """Where gamma hardly exceeds u the aligned score is enlarged noise, and a note says for how many."""
    tight = Wrapped(runner, lambda p: replace(p, gamma=p.u))
    found = evaluate(make_bundle(line), tight, line, EvaluateConfig())
    assert any("For 72 of 72 test images the predicted gamma - u" in note for note in found.notes)


def test_a_nan_in_a_map_names_its_picture(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """One cell is enough to refuse the evaluation."""
    broken = Wrapped(runner, lambda p: replace(p, map=np.where(p.map == p.map.max(), np.float32(np.nan), p.map)))
    with pytest.raises(EngineError, match=r"\.png: the model's score or map is not finite"):
        evaluate(make_bundle(line), broken, line, EvaluateConfig())


def test_identical_test_images_are_judged(tmp_path: Path, make_bundle: MakeBundle, runner: Runner) -> None:
    """All test images alike: chance, no false precision, no crash in any plot."""
    rng = np.random.default_rng(0)
    for folder, level, count in (("train/good", None, 9), ("test/good", 130, 4), ("test/spot", 130, 4)):
        (tmp_path / "pin" / folder).mkdir(parents=True)
        for index in range(count):
            image = np.full((32, 32, 3), level or 0, np.uint8)
            write_png(
                tmp_path / f"pin/{folder}/{index}.png",
                image if level else rng.integers(120, 140, (32, 32, 3), dtype=np.uint8),
            )
    dataset = scan(tmp_path)
    found = evaluate(make_bundle(dataset), runner, dataset, EvaluateConfig(), describe=one_colour_per_product)
    assert found.alignment("cada").metrics.image_auroc.value == 0.5
    render(found, tmp_path, runner.spec)
