"""Promises of the training run as a whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import load
from safetensors.torch import save_file

from cada_edge.bundle import IMAGES
from cada_edge.data.dataset import Dataset, Item, scan
from cada_edge.errors import ConfigError, DataError, TrainingError
from cada_edge.models import EncoderConfig, FeatureTransformer, TransformerConfig, load_model
from cada_edge.training import FitConfig, TrainConfig, train
from cada_edge.training.checkpoint import Checkpoint
from cada_edge.training.distributed import world
from cada_edge.training.features import FeatureStore, View
from cada_edge.training.fit_detector import _batches, fit_detector
from cada_edge.training.train import Progress
from cada_edge.types import MapSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from cada_edge.bundle import Bundle


def quiet(stage: str, done: int, total: int) -> None:
    """Take progress and say nothing."""


class _Stop(Exception):  # noqa: N818  # stands for Ctrl-C
    pass


def _stop_at(stage: str, step: int) -> Progress:
    def progress(name: str, done: int, total: int) -> None:
        if name == stage and done >= step:
            raise _Stop

    return progress


def test_same_seed_same_bytes(small: TrainConfig, trained: Bundle, tiny_line: Dataset, work: Path) -> None:
    """The same images, config and seed give the same bundle, byte for byte."""
    again = train(small, tiny_line.train(), work, quiet)
    assert again is not None
    assert again.sha256 == trained.sha256


def test_another_seed_gives_other_weights(small: TrainConfig, trained: Bundle, tiny_line: Dataset, work: Path) -> None:
    """The seed is really used."""
    other = train(replace(small, seed=1), tiny_line.train(), work, quiet)
    assert other is not None
    assert other.files["detector.safetensors"] != trained.files["detector.safetensors"]


def test_names_and_folders_make_no_difference(
    small: TrainConfig, trained: Bundle, tiny_line: Dataset, tmp_path: Path, work: Path
) -> None:
    """Shuffled, flat file names give the same weights: product names are never read."""
    flat = tmp_path / "flat"
    flat.mkdir()
    order = np.random.default_rng(5).permutation(len(tiny_line.train()))
    for number, item in zip(order, tiny_line.train(), strict=True):
        shutil.copy(item.path, flat / f"{number:03}.png")
    shutil.copy(flat / "000.png", flat / "copy-of-000.png")
    again = train(small, scan(flat).train(), work, quiet)
    assert again is not None
    assert again.sha256 == trained.sha256


@pytest.mark.parametrize(
    "stop",
    [("encode images", 8), ("fit detector", 3), ("fit detector", 12), ("fit head", 1)],
)
def test_interrupted_run_resumes_to_the_same_weights(
    small: TrainConfig, stop: tuple[str, int], trained: Bundle, tiny_line: Dataset, work: Path
) -> None:
    """Stopped at any stage and started again, a run ends where an undisturbed one does."""
    with pytest.raises(_Stop):
        train(small, tiny_line.train(), work, _stop_at(*stop))
    resumed = train(small, tiny_line.train(), work, quiet)
    assert resumed is not None
    assert resumed.sha256 == trained.sha256


def test_dropout_goes_on_where_it_stood(tmp_path: Path) -> None:
    """A detector that draws random numbers while it is fitted resumes to the same weights too."""
    maps = np.random.default_rng(0).normal(size=(6, 4, 4, 4)).astype(np.float16)
    store = FeatureStore([View(tmp_path, f"{i:064x}") for i in range(6)], [maps])
    config = FitConfig(iterations=6, batch_size=2, checkpoint_every=2)

    def fit(folder: str, tick: Callable[[int, int], None]) -> dict[str, torch.Tensor]:
        (tmp_path / folder).mkdir(exist_ok=True)
        checkpoint = Checkpoint(tmp_path / folder / "detector.safetensors", "key")
        torch.manual_seed(0)
        detector = FeatureTransformer(TransformerConfig(8, 1, 2, 0.5), [4], (16,), MapSpec(size_hw=(4, 4)))
        with world("cpu") as here:
            fit_detector(detector, store, config, seed=0, world=here, checkpoint=checkpoint, tick=tick)
        return detector.state_dict()

    whole = fit("whole", lambda done, total: None)
    with pytest.raises(_Stop):
        fit("parts", lambda done, total: _stop_at("fit", 5)("fit", done, total))
    resumed = fit("parts", lambda done, total: None)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_work_of_another_run_is_refused(small: TrainConfig, tiny_line: Dataset, work: Path) -> None:
    """Features made under other settings are never mixed in silently."""
    with pytest.raises(_Stop):
        train(small, tiny_line.train(), work, _stop_at("fit detector", 1))
    with pytest.raises(TrainingError, match="other images or settings"):
        train(replace(small, size_hw=(96, 96)), tiny_line.train(), work, quiet)


def test_checkpoint_of_another_fit_is_refused(small: TrainConfig, tiny_line: Dataset, work: Path) -> None:
    """A checkpoint made under another learning rate is not continued."""
    with pytest.raises(_Stop):
        train(small, tiny_line.train(), work, _stop_at("fit detector", 12))
    other = replace(small, fit=replace(small.fit, learning_rate=1e-3))
    with pytest.raises(TrainingError, match="belongs to other data or settings"):
        train(other, tiny_line.train(), work, quiet)


def test_damaged_checkpoint_is_refused(small: TrainConfig, tiny_line: Dataset, work: Path) -> None:
    """A truncated checkpoint gives one clear error, not a crash and not a fresh start."""
    with pytest.raises(_Stop):
        train(small, tiny_line.train(), work, _stop_at("fit detector", 12))
    path = work / "detector.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="damaged"):
        train(small, tiny_line.train(), work, quiet)


def test_no_images(small: TrainConfig, work: Path) -> None:
    """Nothing to learn from is an error that says what to bring."""
    with pytest.raises(DataError, match="no good images"):
        train(small, (), work, quiet)


def test_one_image_only(small: TrainConfig, tiny_line: Dataset, work: Path) -> None:
    """One image cannot be split into fit, align and calibrate."""
    with pytest.raises(DataError, match="at least 3"):
        train(small, tiny_line.train()[:1], work, quiet)


def test_three_images_are_enough_to_run(small: TrainConfig, tiny_line: Dataset, work: Path) -> None:
    """The smallest line there is trains to a finite model."""
    bundle = train(small, tiny_line.train()[:3], work, quiet)
    assert bundle is not None
    assert all(
        np.isfinite(t).all()
        for name in ("detector", "head")
        for t in load(bundle.files[f"{name}.safetensors"]).values()
    )


def test_diverging_fit_is_reported(small: TrainConfig, tiny_line: Dataset, work: Path) -> None:
    """A loss that is no number stops the run with advice, and no bundle appears."""
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        _poisoned(small, tiny_line.train(), work)


def _poisoned(config: TrainConfig, items: tuple[Item, ...], work: Path) -> None:
    """Put a NaN into the stored features, as a broken disk or encoder would."""
    with pytest.raises(_Stop):
        train(config, items, work, _stop_at("fit detector", 1))
    for path in (work / "features").glob("*.npy"):
        features = np.load(path, mmap_mode="r+")
        features[:] = np.nan
        features.flush()
    train(config, items, work, quiet)


def test_bundle_lists_every_image_once(trained: Bundle, tiny_line: Dataset) -> None:
    """Each image has one role on record, so that calibration can keep away from what was seen."""
    roles = json.loads(trained.files[IMAGES])["roles"]
    listed = [digest for digests in roles.values() for digest in digests]
    assert sorted(listed) == sorted({item.sha256 for item in tiny_line.train()})


def test_provenance_names_version_config_data_and_seed(small: TrainConfig, trained: Bundle) -> None:
    """Whoever holds a bundle can tell what made it."""
    (stage,) = trained.manifest.provenance
    assert stage.name == "train"
    assert stage.seed == small.seed
    assert stage.config["fit"]["iterations"] == small.fit.iterations
    assert len(stage.data_sha256) == 64
    assert stage.results["look_alikes_share_roles"] is True
    assert 3 <= stage.results["look_alike_groups"] <= stage.results["images"]


def test_two_processes_learn_what_one_does(trained: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """Two CPU processes over gloo give the same weights as one, within rounding."""
    script = Path(__file__).with_name("train_small.py")
    out = tmp_path / "two.cada"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1",
               "--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0",
               str(script), str(tiny_line.root), str(out)]  # fmt: skip
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    from cada_edge.bundle import Bundle

    two = load(Bundle.read(out).files["detector.safetensors"])
    for name, one in load(trained.files["detector.safetensors"]).items():
        np.testing.assert_allclose(two[name], one, rtol=2e-3, atol=2e-4, err_msg=name)


def test_batch_must_be_shared_evenly(tiny_line: Dataset) -> None:
    """A batch that cannot be divided among the processes is refused by name."""
    from cada_edge.training.fit_detector import check_batch

    with pytest.raises(ConfigError, match="batch_size"):
        check_batch(4, 3)


def test_full_disk_is_one_clear_error(tiny_line: Dataset, tmp_path: Path) -> None:
    """Features that do not fit on the disk stop the run with the folder's name, before they are written."""
    script = (
        "import resource\n"
        "from pathlib import Path\n"
        "from cada_edge.data.dataset import scan\n"
        "from cada_edge.errors import DataError\n"
        "from cada_edge.training import train\n"
        "from train_kit import SMALL, quiet\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        f"    items = scan(Path({str(tiny_line.root)!r})).train()\n"
        f"    train(SMALL, items, Path({str(tmp_path / 'w')!r}), quiet)\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "cannot keep features on disk" in result.stdout
    assert "File too large" in result.stdout


def test_any_timm_encoder_trains_from_a_weight_file(
    small: TrainConfig, tiny_line: Dataset, tmp_path: Path, work: Path
) -> None:
    """Another network, its own strides and preprocessing, weights from a file: as for a user without network."""
    weights = tmp_path / "resnet18.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("resnet18", pretrained=False).state_dict(), weights)
    config = replace(small, encoder=EncoderConfig("resnet18", (4, 8, 16), str(weights)), resize="letterbox")
    bundle = train(config, tiny_line.train(), work, quiet)
    assert bundle is not None
    assert bundle.manifest.spec.mean == pytest.approx((123.675, 116.28, 103.53))
    assert load_model(bundle).encoder.channels == [64, 128, 256]


@pytest.mark.parametrize("rows", [1, 2, 7, 9, 16, 40])
def test_batches_hold_however_few_images_there_are(rows: int) -> None:
    """Fewer images than a batch holds are repeated, each as often as the others."""
    config = FitConfig(iterations=20, batch_size=16)
    batches = [indices for _, indices in _batches(rows, config, seed=0, first=0)]
    counts = np.bincount(np.concatenate(batches), minlength=rows)
    assert counts.max() - counts.min() <= 1
    resumed = [indices for _, indices in _batches(rows, config, seed=0, first=7)]
    np.testing.assert_array_equal(resumed, batches[7:])


def test_a_picture_with_overflowing_features_is_named(small: TrainConfig, tiny_line: Dataset, work: Path) -> None:
    """Features that float16 cannot hold are reported with the picture's path, before anything is fitted."""
    wild = replace(small, encoder=replace(small.encoder, weights=str(_loud_weights(work))))
    with pytest.raises(TrainingError, match=r"\.png: its features are not finite"):
        train(wild, tiny_line.train(), work / "w", quiet)


def _loud_weights(folder: Path) -> Path:
    """The default encoder with a last layer a million times too loud."""
    folder.mkdir()
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = {name: tensor * 1e6 if "bn3.weight" in name else tensor for name, tensor in net.state_dict().items()}
    save_file(state, folder / "loud.safetensors")
    return folder / "loud.safetensors"
