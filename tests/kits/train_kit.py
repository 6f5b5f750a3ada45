"""A training small enough for every test: 64 px, a narrow student, twenty steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Item
from cada_edge.models import EncoderConfig, RevDistConfig
from cada_edge.training import FitConfig, TrainConfig, train
from cada_edge.types import MapSpec

_FIT = FitConfig(iterations=20, batch_size=4, checkpoint_every=5)
_PLAIN = TrainConfig(
    size_hw=(64, 64),
    encoder=EncoderConfig(strides=(8, 16)),
    detector=RevDistConfig(width=8, bottleneck=8),
    map_spec=MapSpec(size_hw=(16, 16)),
    fit=_FIT,
    device="cpu",
)
SMALL = replace(_PLAIN, head_fit=replace(_PLAIN.head_fit, iterations=50))


def quiet(stage: str, done: int, total: int) -> None:
    """Take progress and say nothing."""


def train_small(items: tuple[Item, ...], work: Path) -> Bundle:
    """The bundle that `SMALL` gives on good images, some seconds; `work` keeps what training writes."""
    bundle = train(SMALL, items, work, quiet)
    assert bundle is not None
    return bundle
