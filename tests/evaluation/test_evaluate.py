"""One code path, three protocols, four alignments: on a line made to need alignment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cada_edge.bundle import Bundle
from cada_edge.calibration import CalibrateConfig, calibrate
from cada_edge.data.dataset import Dataset, scan
from cada_edge.errors import BundleError, ConfigError, DataError
from cada_edge.evaluation import EvaluateConfig, Evaluation, evaluate
from cada_edge.imaging import write_png
from cada_edge.protocols import Runner

MakeBundle = Callable[[Dataset], Bundle]
FIVE = (0.05,)


@pytest.fixture(scope="module")
def absolute(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> Evaluation:
    """The line under the absolute protocol at 5 %."""
    return evaluate(make_bundle(line), runner, line, EvaluateConfig(targets_frr=FIVE))


@pytest.fixture
def copy(line: Dataset, tmp_path: Path) -> Path:
    """The line's folder, free to be damaged."""
    return shutil.copytree(line.root, tmp_path / "copy")


def auroc(evaluation: Evaluation, name: str) -> float:
    """Image AUROC of one alignment."""
    value = evaluation.alignment(name).metrics.image_auroc.value  # type: ignore[arg-type]  # a literal below
    assert value is not None
    return value


def test_three_mixed_products_separate_only_after_alignment(absolute: Evaluation) -> None:
    """The toy example: raw ranks by product, CADA by defect, as well as labels do."""
    assert auroc(absolute, "raw") == pytest.approx(2 / 3)
    assert auroc(absolute, "cada") == auroc(absolute, "class-aware") == 1.0
    assert absolute.gap_closure.value == 1.0


def test_alignment_restores_the_recall(absolute: Evaluation) -> None:
    """One raw threshold finds the defects of one product only, the aligned one all of them."""
    raw, cada = (absolute.alignment(name).operating[0] for name in ("raw", "cada"))
    assert raw.recall == pytest.approx(1 / 3)
    assert cada.recall == 1.0
    assert {rates.product: rates.caught for rates in raw.products} == {"bolt": 0, "cap": 0, "disc": 12}


def test_within_a_product_alignment_changes_no_ranking(absolute: Evaluation) -> None:
    """Each product alone has the same AUROC under raw and class-aware."""
    raw, aware = absolute.alignment("raw").products, absolute.alignment("class-aware").products
    assert {name: m.image_auroc for name, m in raw.items()} == {name: m.image_auroc for name, m in aware.items()}


def test_the_model_protocol_averages_products(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """Per product raw scores are perfect, so labels have nothing to gain and the gap is a dash."""
    found = evaluate(make_bundle(line), runner, line, EvaluateConfig("model", FIVE))
    assert auroc(found, "raw") == 1.0
    assert found.gap_closure.value is None
    assert "no gap to close" in found.gap_closure.reason
    assert len({rates.threshold for rates in found.alignment("raw").operating[0].products}) == 1


def test_the_separate_protocol_gives_each_product_a_threshold(
    line: Dataset, make_bundle: MakeBundle, runner: Runner
) -> None:
    """With a threshold per product even raw scores find every defect."""
    found = evaluate(make_bundle(line), runner, line, EvaluateConfig("separate", FIVE))
    (point,) = found.alignment("raw").operating
    assert len({rates.threshold for rates in point.products}) == 3
    assert point.recall == 1.0
    assert (point.method, point.n_calibration) == ("maximum", 10)


def test_the_figures_do_not_depend_on_the_batch(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """One image at a time or seven: the same evaluation."""
    one, seven = (evaluate(make_bundle(line), runner, line, EvaluateConfig(batch_size=n)) for n in (1, 7))
    assert one.to_json()["alignments"] == seven.to_json()["alignments"]


def test_the_stored_threshold_is_reported_too(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """Calibrated on the same images, it is the one that evaluation finds for that rate."""
    bundle, _ = calibrate(make_bundle(line), runner, line.train(), CalibrateConfig(target_frr=0.05))
    cada = evaluate(bundle, runner, line, EvaluateConfig(targets_frr=FIVE)).alignment("cada")
    assert cada.stored == cada.operating[0]


def test_the_json_is_complete_and_strict(absolute: Evaluation) -> None:
    """It survives a strict JSON round trip and holds every score and its protocol."""
    document = json.loads(json.dumps(absolute.to_json(), allow_nan=False))
    assert (document["schema"], document["config"]["protocol"], len(document["images"])) == (1, "absolute", 72)
    assert set(document["images"][0]["scores"]) == {"raw", "class-aware", "class-aware-z", "cada"}


def test_a_test_image_that_was_trained_on_is_left_out(copy: Path, make_bundle: MakeBundle, runner: Runner) -> None:
    """A byte-identical copy proves nothing; the notes count it."""
    shutil.copy(copy / "bolt/train/good/000.png", copy / "bolt/test/good/leak.png")
    dataset = scan(copy)
    found = evaluate(make_bundle(dataset), runner, dataset, EvaluateConfig())
    assert len(found.images) == 72
    assert any("1 test images are byte-identical" in note for note in found.notes)


def test_a_test_image_that_set_the_threshold_is_left_out(
    line: Dataset, make_bundle: MakeBundle, runner: Runner
) -> None:
    """Calibrated on the good test images, a bundle cannot be judged on them; a later calibration frees them."""
    good = [item for item in line.test() if item.defect is None]
    config = CalibrateConfig(target_frr=0.05)
    seen, _ = calibrate(make_bundle(line), runner, good, config)
    found = evaluate(seen, runner, line, EvaluateConfig())
    assert all(image.defect is not None for image in found.images)
    assert any(f"{len(good)} test images are byte-identical" in note for note in found.notes)
    again, _ = calibrate(seen, runner, line.train(), config)
    assert len(evaluate(again, runner, line, EvaluateConfig()).images) == len(line.test())


def test_a_product_without_held_out_images_is_left_out_of_class_aware(
    line: Dataset, make_bundle: MakeBundle, runner: Runner
) -> None:
    """Its cell is a dash, it is named, and the gap compares the other products only."""
    bolts = {item.sha256 for item in line.train() if item.product == "bolt"}
    bundle = make_bundle(line)
    roles = {role: digests if role == "fit" else digests - bolts for role, digests in bundle.roles().items()}
    found = evaluate(bundle.with_roles(roles), runner, line, EvaluateConfig())
    assert found.alignment("class-aware").excluded == ("bolt",)
    assert found.gap_closure.value == 1.0
    assert {image.scores["class-aware"] for image in found.images if image.product == "bolt"} == {None}
    assert any("class-aware leaves out" in note and "bolt" in note for note in found.notes)


def test_without_any_held_out_image_the_stored_threshold_remains(
    copy: Path, line: Dataset, make_bundle: MakeBundle, runner: Runner
) -> None:
    """On other data than the training folder: no class-aware, no thresholds, and a note."""
    bundle, _ = calibrate(make_bundle(line), runner, line.train(), CalibrateConfig(target_frr=0.05))
    rng = np.random.default_rng(0)
    for folder in copy.glob("*/train"):
        shutil.rmtree(folder)
        (folder / "good").mkdir(parents=True)
        write_png(folder / "good/new.png", rng.integers(0, 255, (32, 32, 3)).astype(np.uint8))
    found = evaluate(bundle, runner, scan(copy), EvaluateConfig())
    cada = found.alignment("cada")
    assert (cada.operating, found.gap_closure.value) == ((), None)
    assert cada.stored is not None
    assert cada.stored.recall == 1.0
    assert any("but the bundle's own" in note for note in found.notes)


def test_a_test_folder_without_defects_still_tells_false_rejects(
    copy: Path, make_bundle: MakeBundle, runner: Runner
) -> None:
    """Ranking figures are dashes with a reason, the false-reject rate is there."""
    for folder in copy.glob("*/test/hole"):
        shutil.rmtree(folder)
    dataset = scan(copy)
    cada = evaluate(make_bundle(dataset), runner, dataset, EvaluateConfig()).alignment("cada")
    assert (cada.metrics.image_auroc.text(), cada.metrics.image_auroc.reason) == ("-", "no defective test images")
    assert cada.metrics.aupro.reason == "no defect masks"
    assert cada.operating[0].frr is not None
    assert cada.operating[0].recall is None


def test_no_test_images_is_an_error(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """A folder of training images only cannot be evaluated."""
    with pytest.raises(DataError, match="no test images"):
        evaluate(make_bundle(line), runner, replace(line, items=line.train()), EvaluateConfig())


def test_a_mask_of_another_size_is_never_resized(copy: Path, make_bundle: MakeBundle, runner: Runner) -> None:
    """The error names the mask and both sizes."""
    write_png(copy / "cap/ground_truth/hole/000_mask.png", np.full((16, 32), 255, np.uint8))
    dataset = scan(copy)
    with pytest.raises(DataError, match=r"000_mask\.png: mask is \(16, 32\).*\(32, 32\)"):
        evaluate(make_bundle(dataset), runner, dataset, EvaluateConfig())


def test_products_without_masks_are_named(copy: Path, make_bundle: MakeBundle, runner: Runner) -> None:
    """They leave the pixel figures, and a note says so."""
    shutil.rmtree(copy / "disc/ground_truth")
    dataset = scan(copy)
    found = evaluate(make_bundle(dataset), runner, dataset, EvaluateConfig())
    assert "No defect masks, so not in the pixel figures: disc." in found.notes
    assert found.alignment("cada").metrics.aupro.value is not None
    assert found.alignment("cada").products["disc"].aupro.text() == "-"


def test_a_bundle_that_hides_its_images_is_refused(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> None:
    """Without images.json held-out images cannot be told from others."""
    with pytest.raises(BundleError, match=r"images\.json"):
        evaluate(replace(make_bundle(line), files={}), runner, line, EvaluateConfig())


@pytest.mark.parametrize(
    "wrong", [{"protocol": "best"}, {"targets_frr": ()}, {"targets_frr": (2.0,)}, {"confidence": 1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    """The message shows what was given and what is expected."""
    with pytest.raises(ConfigError, match="expected"):
        EvaluateConfig(**wrong)  # type: ignore[arg-type]  # the point of the test
