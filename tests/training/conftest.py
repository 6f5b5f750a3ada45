"""The training that every test here starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from train_kit import SMALL, train_small

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle
    from cada_edge.data.dataset import Dataset
    from cada_edge.training import TrainConfig


@pytest.fixture(scope="session")
def trained(tiny_line: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny line, trained once."""
    return train_small(tiny_line.train(), tmp_path_factory.mktemp("work"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A fresh work folder."""
    return tmp_path / "work"


@pytest.fixture(scope="session")
def small() -> TrainConfig:
    """The settings of `trained`."""
    return SMALL
