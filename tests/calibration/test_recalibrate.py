"""New good images set the threshold anew: alone or beside the earlier ones, without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from cada_edge.bundle import Bundle
from cada_edge.calibration import CalibrateConfig, calibrate, stored_novelties, stored_scores, weights_sha256
from cada_edge.data.dataset import Dataset
from cada_edge.errors import BundleError, DataError
from cada_edge.protocols import Runner

CONFIG = CalibrateConfig(target_frr=0.05)
ADD = replace(CONFIG, add=True)
EMPTY_WEIGHTS = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"


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
    retrained = calibrated.with_file("head.safetensors", EMPTY_WEIGHTS)
    new = parts(25, 60)
    with pytest.raises(DataError, match=r"no calibration scores for its present weights.*without --add"):
        calibrate(retrained, runner, new.items, ADD)
    assert len(stored_scores(calibrate(retrained, runner, new.items, CONFIG)[0])) == 25


def test_the_exported_graph_leaves_the_scores_valid(calibrated: Bundle) -> None:
    """Export adds a file and changes no score."""
    assert stored_scores(calibrated.with_file("model.onnx", b"graph")) == stored_scores(calibrated)


@pytest.mark.parametrize("graph", ["model.onnx", "model.fp16.onnx", "model.int8.onnx"])
def test_no_exported_graph_makes_another_model(calibrated: Bundle, graph: str) -> None:
    """Neither export nor calibration changes what the scores belong to; other weights do."""
    assert weights_sha256(calibrated.with_file(graph, b"graph")) == weights_sha256(calibrated)
    assert weights_sha256(calibrated.with_file("head.safetensors", EMPTY_WEIGHTS)) != weights_sha256(calibrated)


def test_novelties_are_kept_and_joined_like_scores(calibrated: Bundle, runner: Runner, parts: Parts) -> None:
    """One per image; with --add beside the earlier ones, without it alone."""
    new = parts(25, 60)
    joined, alone = (calibrate(calibrated, runner, new.items, config)[0] for config in (ADD, CONFIG))
    assert set(stored_novelties(calibrated)) == set(stored_scores(calibrated))
    assert set(stored_novelties(joined)) == set(stored_scores(joined))
    assert set(stored_novelties(alone)) == {item.sha256 for item in new.items}
    assert all(0 < value < 1 for value in stored_novelties(joined).values())


def test_a_file_of_the_first_schema_still_reads(calibrated: Bundle, runner: Runner, parts: Parts) -> None:
    """Bundles calibrated before novelties were kept have their scores and no novelty, and can be added to."""
    document = json.loads(calibrated.files["calibration.json"])
    old = {"schema": 1, "weights": document["weights"], "scores": document["scores"]}
    earlier = calibrated.with_file("calibration.json", json.dumps(old).encode())
    assert stored_scores(earlier) == stored_scores(calibrated)
    assert stored_novelties(earlier) == {}
    again = calibrate(earlier, runner, parts(25, 60).items, ADD)[0]
    assert (len(stored_scores(again)), len(stored_novelties(again))) == (45, 25)


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
