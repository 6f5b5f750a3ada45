"""The paper's protocol on a whole data set: one model of all products, every test image in one pool.

Train on the good training images of all products together, export, set one threshold from held-out
good images; `cada_edge.evaluation.evaluate` then pools the test images. Each step is written to the
bundle as soon as it is done, and a step that the bundle already holds is not repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from cada_edge.bundle import MODEL, Bundle, data_sha256
from cada_edge.calibration import CalibrateConfig, calibrate
from cada_edge.data.dataset import Dataset, check
from cada_edge.errors import ConfigError, DataError
from cada_edge.export.stage import export
from cada_edge.models.detector import class_of_settings
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.training import TrainConfig, train
from cada_edge.training.train import discard_work

Progress = Callable[[str, int, int], None]

_COMPARED = 32  # test images that the export is checked on; a patch memory knows training images by heart


def prepare(dataset: Dataset, config: TrainConfig, target_frr: float, out: Path, progress: Progress) -> Bundle:
    """The bundle at `out`: trained on all good training images, exported, calibrated.

    Interrupted, the same call goes on where it stopped: features and checkpoints lie in
    ``OUT.work`` until the training is done. With too few calibration images for the rate the
    highest good score is the threshold; the threshold's method says so.

    Args:
        dataset: training and test images of all products.
        config: every setting of the training.
        target_frr: false-reject rate of the threshold, in (0, 1).
        out: bundle to write, or to go on with.
        progress: called with (what, done, total).

    Raises:
        DataError: no good or no defective test images, or a picture or mask that cannot be used:
            before the long work, not after it.
        ConfigError: `out` holds a model of other images or settings; its message has both digests.
        TrainingError, ExportError, ParityError.
    """
    _require_tests(dataset)
    bundle = _trained(dataset, config, out, progress)
    if MODEL not in bundle.files:
        bundle, _ = export(bundle, OrtRunner, _sample(dataset), progress=partial(progress, "check the graph"))
        bundle.write(out)
    threshold = bundle.manifest.threshold
    if threshold is None or threshold.target_frr != target_frr:
        wanted = CalibrateConfig(target_frr, allow_small=True)
        with OrtRunner(bundle) as runner:
            bundle, _ = calibrate(bundle, runner, dataset.train(), wanted, partial(progress, "judge good images"))
        bundle.write(out)
    return bundle


def settings_sha256(kind: str, config: dict[str, Any]) -> str:
    """Digest of a training's settings without its device: what must agree for a bundle to be used again."""
    kept = {name: value for name, value in config.items() if name != "device"}
    return hashlib.sha256(json.dumps([kind, kept], sort_keys=True).encode()).hexdigest()


def _require_tests(dataset: Dataset) -> None:
    defective = sum(item.defect is not None for item in dataset.test())
    good = len(dataset.test()) - defective
    if not good or not defective:
        raise DataError(f"{dataset.root}: has {good} good and {defective} defective test images, expected some of each")


def _trained(dataset: Dataset, config: TrainConfig, out: Path, progress: Progress) -> Bundle:
    if out.exists():
        bundle = Bundle.read(out)
        _require_same(bundle, dataset, config, out)
        return bundle
    check(dataset.items, partial(progress, "check images"))
    work = out.with_name(f"{out.name}.work")
    trained = train(config, dataset.train(), work, progress)
    if trained is None:
        raise ConfigError("a data set is evaluated in one process; start it without torchrun, or train with it first")
    trained.write(out)
    discard_work(work)
    return trained


def _require_same(bundle: Bundle, dataset: Dataset, config: TrainConfig, out: Path) -> None:
    """Raise `ConfigError` unless the bundle was trained on these images under these settings."""
    stage = next((stage for stage in bundle.manifest.provenance if stage.name == "train"), None)
    made = (
        stage.data_sha256 if stage else "",
        settings_sha256(bundle.manifest.detector.kind, dict(stage.config) if stage else {}),
    )
    asked = (
        data_sha256(item.sha256 for item in dataset.train()),
        settings_sha256(class_of_settings(config.detector).kind, asdict(config)),
    )
    if made != asked:
        raise ConfigError(
            f"{out} was trained on images {made[0][:12]} under settings {made[1][:12]}, asked for are images "
            f"{asked[0][:12]} under settings {asked[1][:12]} (digests); name another --out, or delete it to train anew"
        )


def _sample(dataset: Dataset) -> list[Path]:
    """Test images at even steps, so that every product has its share."""
    items = dataset.test()
    count = min(_COMPARED, len(items))
    return [items[i * len(items) // count].path for i in range(count)]
