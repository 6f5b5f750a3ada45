"""Which images calibrate, and what the bundle remembers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cada_edge.bundle import Bundle
from cada_edge.calibration import CalibrateConfig, calibrate
from cada_edge.data.dataset import Dataset, Item, scan
from cada_edge.errors import BundleError, ConfigError, DataError, EngineError
from cada_edge.imaging import write_png
from cada_edge.protocols import Runner
from cada_edge.types import MIN_SPREAD, Prediction, UInt8Array

CONFIG = CalibrateConfig(target_frr=0.05)


def test_images_seen_in_training_never_calibrate(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """Of the folder the model was trained on, only the third set aside is used."""
    _, result = calibrate(bundle, runner, good.items, CONFIG)
    assert {item.sha256 for item in result.selection.items} == {item.sha256 for item in good.items[2::3]}
    assert (len(result.scores), result.selection.n_seen) == (20, 40)


def test_the_threshold_comes_from_those_scores_alone(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """With 20 images at 5 % the threshold is the highest of their scores."""
    calibrated, result = calibrate(bundle, runner, good.items, CONFIG)
    assert calibrated.manifest.threshold == result.threshold
    assert result.threshold.value == float(np.sort(result.scores)[-1])


def test_copies_count_once(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """The same bytes under another name change nothing but the count of duplicates."""
    copies = tuple(replace(item, path=item.path, product="copy") for item in good.items)
    _, once = calibrate(bundle, runner, good.items, CONFIG)
    _, twice = calibrate(bundle, runner, good.items + copies, CONFIG)
    assert twice.threshold == once.threshold
    assert twice.selection.n_duplicate == 20


def test_defects_never_calibrate(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """An item with a defect label is dropped and counted."""
    marked = (replace(good.items[2], defect="crack"), *good.items)
    _, result = calibrate(bundle, runner, marked, CONFIG)
    assert result.selection.n_defect == 1
    assert all(item.defect is None for item in result.selection.items)


def test_the_order_of_files_does_not_matter(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """Reversed items give a byte-identical bundle."""
    forward, _ = calibrate(bundle, runner, good.items, CONFIG)
    backward, _ = calibrate(bundle, runner, good.items[::-1], CONFIG)
    assert forward.sha256 == backward.sha256


def test_the_bundle_remembers_how(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """One line of provenance holds settings, counts and data digest, and no product name."""
    calibrated, result = calibrate(bundle, runner, good.items, CONFIG)
    calibrated, _ = calibrate(calibrated, runner, good.items, CONFIG)
    (stage,) = calibrated.manifest.provenance
    assert (stage.name, stage.config["target_frr"], stage.results["n_used"]) == ("calibrate", 0.05, 20)
    assert stage.data_sha256 == result.threshold.data_sha256
    assert b"bolt" not in calibrated.manifest.to_json()


def test_false_rejects_are_counted_per_product(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """All rejects of a threshold within the caps are caps."""
    _, result = calibrate(bundle, runner, good.items, CalibrateConfig(target_frr=0.2))
    assert [(p.product, p.n_images, p.n_rejected) for p in result.products] == [("cap", 10, 3), ("bolt", 10, 0)]


def test_progress_reaches_the_total(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """The last call says that all images are done."""
    calls: list[tuple[int, int]] = []
    calibrate(bundle, runner, good.items, CONFIG, lambda done, total: calls.append((done, total)))
    assert calls == [(16, 20), (20, 20)]


def test_nothing_unseen_is_an_error(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """Only training images: the message counts them and asks for others."""
    with pytest.raises(DataError, match="20 were used in training; give good images"):
        calibrate(bundle, runner, good.items[::3], CONFIG)


def test_no_images_at_all_is_an_error(bundle: Bundle, runner: Runner) -> None:
    """An empty list is not a threshold."""
    with pytest.raises(DataError, match="none of 0 images"):
        calibrate(bundle, runner, (), CONFIG)


def test_one_image_is_refused_before_anything_runs(bundle: Bundle, runner: Runner) -> None:
    """Too few images are refused from the count alone: the file is not even opened."""
    item = Item(Path("nowhere.png"), "0" * 64, "", "train")
    with pytest.raises(ConfigError, match=r"1 good images cannot support 5 %.*at least 19, ask for 50.00 %"):
        calibrate(bundle, runner, (item,), CONFIG)


def test_a_bundle_that_hides_its_images_is_refused(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """Without images.json nobody can tell what is held out."""
    for files in ({}, {"images.json": b"[]"}, {"images.json": b'{"schema": 9, "roles": {}}'}):
        with pytest.raises(BundleError, match=r"images\.json"):
            calibrate(replace(bundle, files=files), runner, good.items, CONFIG)


def test_a_score_that_is_not_finite_names_the_picture(bundle: Bundle, runner: Runner, tmp_path: Path) -> None:
    """A model that answers NaN is not calibrated."""
    for index in range(20):
        write_png(tmp_path / f"{index}.png", np.full((16, 16 + index, 3), 255 if index == 19 else 9, np.uint8))
    with pytest.raises(EngineError, match=r"9\.png.*not finite"):
        calibrate(bundle, runner, scan(tmp_path).items, CONFIG)


def test_scores_on_the_guard_are_counted(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """Images whose predicted spread is no more than its guard are told, for their scores are coarse."""

    class Flat(type(runner)):  # type: ignore[misc]  # the class of a fixture
        def infer(self, batch: UInt8Array) -> Prediction:
            found: Prediction = super().infer(batch)
            return replace(found, gamma=found.u + np.float32(MIN_SPREAD))

    assert calibrate(bundle, runner, good.items, CONFIG)[1].n_guarded == 0
    result = calibrate(bundle, Flat(), good.items, CONFIG)[1]
    assert result.n_guarded == len(result.selection.items)


def test_calibration_needs_no_heavy_package() -> None:
    """Importing it brings neither torch nor SciPy nor scikit-learn."""
    code = "import sys, cada_edge.calibration; print({'torch', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
