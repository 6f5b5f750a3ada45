"""New good images set the threshold anew: alone or beside the earlier ones, without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from cada_edge.bundle import Bundle
from cada_edge.calibration import CalibrateConfig, calibrate, stored_scores
from cada_edge.data.dataset import Dataset
from cada_edge.errors import BundleError, DataError
from cada_edge.protocols import Runner

CONFIG = CalibrateConfig(target_frr=0.05)
ADD = replace(CONFIG, add=True)


Parts = Callable[[int, int], Dataset]


@pytest.fixture
def calibrated(bundle: Bundle, runner: Runner, good: Dataset) -> Bundle:
    """Calibrated on the twenty images that training set aside."""
    return calibrate(bundle, runner, good.items, CONFIG)[0]


def test_new_images_replace_the_earlier_ones(calibrated: Bundle, runner: Runner, parts: Parts) -> None:
    """Without --add the threshold, its images and the stored scores are those of the new images alone."""
    new = parts(25, 60)
    again, result = calibrate(calibrated, runner, new.items, CONFIG)
    digests = {item.sha256 for item in new.items}
    assert (result.threshold.n_images, result.n_earlier) == (25, 0)
    assert set(stored_scores(again)) == again.roles()["threshold"] == digests


def test_added_images_join_the_earlier_ones(
    calibrated: Bundle, bundle: Bundle, runner: Runner, good: Dataset, parts: Parts
) -> None:
    """With --add the threshold is the very one that all images at once would have given."""
    new = parts(25, 60)
    again, result = calibrate(calibrated, runner, new.items, ADD)
    together, whole = calibrate(bundle, runner, (*good.items, *new.items), CONFIG)
    assert result.threshold == whole.threshold
    assert (len(result.selection.items), result.n_earlier) == (25, 20)
    assert stored_scores(again) == stored_scores(together)


def test_an_image_added_twice_counts_once(calibrated: Bundle, runner: Runner, good: Dataset) -> None:
    """Adding the same images again changes nothing."""
    again, result = calibrate(calibrated, runner, good.items, ADD)
    assert result.threshold == calibrated.manifest.threshold
    assert result.n_earlier == 0
    assert result.before is not None
    assert result.before.drift is None
    assert stored_scores(again) == stored_scores(calibrated)


def test_the_change_is_shown(calibrated: Bundle, runner: Runner, parts: Parts) -> None:
    """Brighter parts: the old threshold would reject all of them, and the scores have drifted."""
    _, result = calibrate(calibrated, runner, parts(25, 120).items, CONFIG)
    assert result.before is not None
    assert result.before.threshold == calibrated.manifest.threshold
    assert result.before.n_rejected == 25
    assert result.before.drift is not None
    assert result.before.drift.drifted
    assert json.loads(json.dumps(result.to_json()))["before"]["drift"]["drifted"] is True


def test_a_first_calibration_has_no_before(bundle: Bundle, runner: Runner, good: Dataset) -> None:
    """Nothing is compared with nothing."""
    assert calibrate(bundle, runner, good.items, CONFIG)[1].before is None


def test_the_stored_scores_name_no_image(calibrated: Bundle) -> None:
    """Digests and numbers only."""
    text = calibrated.files["calibration.json"].decode()
    assert len(stored_scores(calibrated)) == 20
    assert "bolt" not in text
    assert "png" not in text


def test_scores_of_other_weights_are_not_added_to(calibrated: Bundle, runner: Runner, parts: Parts) -> None:
    """After training again the stored scores mean nothing: --add refuses, a plain calibration replaces them."""
    retrained = calibrated.with_file("head.safetensors", b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    new = parts(25, 60)
    with pytest.raises(DataError, match=r"no calibration scores for its present weights.*without --add"):
        calibrate(retrained, runner, new.items, ADD)
    assert len(stored_scores(calibrate(retrained, runner, new.items, CONFIG)[0])) == 25


def test_the_exported_graph_leaves_the_scores_valid(calibrated: Bundle) -> None:
    """Export adds a file and changes no score."""
    assert stored_scores(calibrated.with_file("model.onnx", b"graph")) == stored_scores(calibrated)


@pytest.mark.parametrize(
    "content", [b"[]", b"{", b'{"schema": 9}', b'{"schema": 1, "scores": {"a": "x"}, "weights": ""}']
)
def test_damaged_scores_are_refused(calibrated: Bundle, content: bytes) -> None:
    """What does not list scores is named."""
    with pytest.raises(BundleError, match=r"calibration\.json"):
        stored_scores(calibrated.with_file("calibration.json", content))


def test_foreign_parts_are_refused(calibrated: Bundle, runner: Runner, parts: Parts) -> None:
    """A folder of parts unlike everything known sets no threshold, whatever the rate."""
    with pytest.raises(DataError, match="all 25 good images are unlike everything the model knows"):
        calibrate(calibrated, runner, parts(25, 210).items, CONFIG)


def test_a_few_foreign_parts_among_ours_are_counted(
    calibrated: Bundle, runner: Runner, good: Dataset, parts: Parts
) -> None:
    """Within the rate they are rejects of their product, and they are kept for a later --add."""
    foreign = parts(1, 210)
    again, result = calibrate(calibrated, runner, (*good.items, *foreign.items), replace(CONFIG, target_frr=0.1))
    assert (result.n_novel, result.products[0].n_novel) == (1, 1)
    assert list(stored_scores(again).values()).count(None) == 1
