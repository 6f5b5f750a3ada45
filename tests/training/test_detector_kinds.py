"""Every kind of detector through the whole training, on a small line."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch

from cada_edge.data.dataset import scan
from cada_edge.errors import ConfigError
from cada_edge.export.onnx import export_onnx
from cada_edge.imaging import prepare, read_image
from cada_edge.models import load_model
from cada_edge.training import TrainConfig, fit_config, train

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle
    from cada_edge.data.dataset import Dataset, Item

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "patch-memory": {"groups": [[8, 16], [16]], "bank_size": 50},
    "transformer": {"width": 16, "depth": 2, "heads": 2},
    "flow": {"steps": 2, "width": 8},
}


def quiet(stage: str, done: int, total: int) -> None:
    """Take progress and say nothing."""


def _train(kind: str, small: TrainConfig, items: tuple[Item, ...], work: Path) -> Bundle:
    suited = TrainConfig.of_kind(kind, SETTINGS[kind])
    fit = fit_config(kind, iterations=10, batch_size=4, checkpoint_every=5)
    bundle = train(replace(small, detector=suited.detector, fit=fit), items, work, quiet)
    assert bundle is not None
    return bundle


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_names_make_no_difference_and_the_graph_says_the_same(
    kind: str, small: TrainConfig, tiny_line: Dataset, tmp_path: Path
) -> None:
    """Shuffled, flat file names give the same weights, and ONNX Runtime gives the model's numbers, any batch."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, item in enumerate(reversed(tiny_line.train())):
        shutil.copy(item.path, flat / f"{number:03}.png")
    bundle = _train(kind, small, tiny_line.train(), tmp_path / "one")
    assert _train(kind, small, scan(flat).train(), tmp_path / "two").sha256 == bundle.sha256
    model = load_model(bundle)
    session = onnxruntime.InferenceSession(export_onnx(model), providers=["CPUExecutionProvider"])
    known = np.stack([prepare(read_image(item.path), model.spec) for item in tiny_line.train()])
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    for images in (noise, known):  # what was learned by heart is where rounding shows
        with torch.inference_mode():
            expected = model(torch.from_numpy(images))
        for ours, theirs in zip(expected[:4], session.run(None, {"image": images})[:4], strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_a_finished_fit_is_found_again(kind: str, small: TrainConfig, tiny_line: Dataset, tmp_path: Path) -> None:
    """Started again in its work folder, a training fits nothing twice and ends at the same bundle."""
    bundle = _train(kind, small, tiny_line.train(), tmp_path)
    stages: list[str] = []
    suited = TrainConfig.of_kind(kind, SETTINGS[kind])
    fit = fit_config(kind, iterations=10, batch_size=4, checkpoint_every=5)
    config = replace(small, detector=suited.detector, fit=fit)
    again = train(config, tiny_line.train(), tmp_path, lambda stage, done, total: stages.append(stage))
    assert again is not None
    assert again.sha256 == bundle.sha256
    assert "fit detector" not in stages


def test_the_memory_is_bounded_whatever_the_number_of_products(
    small: TrainConfig, tiny_line: Dataset, tmp_path: Path
) -> None:
    """One product or three: the bank has the size asked for, no more."""
    names = tiny_line.products()
    for count in (1, 3):
        items = tuple(item for item in tiny_line.train() if item.product in names[:count])
        bundle = _train("patch-memory", small, items, tmp_path / str(count))
        detector = load_model(bundle).detector
        assert [len(detector.state_dict()[f"bank{i}"]) for i in range(2)] == [50, 50]


@pytest.mark.parametrize("kind", ["onnx", "patchmemory"])
def test_a_kind_that_is_not_trained_is_refused(kind: str) -> None:
    """A mistyped kind, or one that is only wrapped, is named beside those that can be trained."""
    with pytest.raises(ConfigError, match=f"got '{kind}', expected one of .*'flow', 'patch-memory', 'revdist'"):
        TrainConfig.of_kind(kind)
