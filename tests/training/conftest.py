"""A training small enough for every test: 64 px, a narrow student, twenty steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cada_edge.models import EncoderConfig, RevDistConfig
from cada_edge.training import FitConfig, TrainConfig, train
from cada_edge.types import MapSpec

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle
    from cada_edge.data.dataset import Dataset

SMALL = TrainConfig(
    size_hw=(64, 64),
    encoder=EncoderConfig(strides=(8, 16)),
    detector=RevDistConfig(width=8, bottleneck=8),
    map_spec=MapSpec(size_hw=(16, 16)),
    fit=FitConfig(iterations=20, batch_size=4, checkpoint_every=5),
    device="cpu",
)
SMALL = replace(SMALL, head_fit=replace(SMALL.head_fit, iterations=50))


def quiet(stage: str, done: int, total: int) -> None:
    """Take progress and say nothing."""


@pytest.fixture(scope="session")
def trained(tiny_line: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny line, trained once."""
    bundle = train(SMALL, tiny_line.train(), tmp_path_factory.mktemp("work"), quiet)
    assert bundle is not None
    return bundle


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A fresh work folder."""
    return tmp_path / "work"


@pytest.fixture(scope="session")
def small() -> TrainConfig:
    """The settings of `trained`."""
    return SMALL
