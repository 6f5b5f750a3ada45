"""The seam for detectors: anything that turns encoder features into an anomaly map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cada_edge.errors import BundleError
from cada_edge.types import MapSpec


class Detector(nn.Module, ABC):
    """Turns features into a raw anomaly map. Class-agnostic: it never sees a product name.

    A detector registers itself with `register`, says how it is rebuilt (`config`), and
    leaves smoothing and scoring to `UnifiedModel`, so that all detectors share them.
    """

    kind: ClassVar[str]

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain JSON that `build` turns into the same architecture."""

    @classmethod
    @abstractmethod
    def build(cls, config: dict[str, Any], channels: list[int], strides: tuple[int, ...], spec: MapSpec) -> Detector:
        """Rebuild the architecture; weights are loaded afterwards."""

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Tensor:
        """Features (N, C_i, H/s_i, W/s_i) to the raw map, float32 (N, h, w), >= 0, not smoothed."""


_LEAST_RELATIVE_STD = 1e-2

_DETECTORS: dict[str, type[Detector]] = {}


def register(cls: type[Detector]) -> type[Detector]:
    """Class decorator: make a detector known under its `kind`."""
    _DETECTORS[cls.kind] = cls
    return cls


def detector_class(kind: str) -> type[Detector]:
    """Look a detector up. Raises `BundleError` for a kind this version does not know."""
    try:
        return _DETECTORS[kind]
    except KeyError:
        raise BundleError(f"detector kind {kind!r} is unknown; this version has {sorted(_DETECTORS)}") from None


class FeatureScaler(nn.Module):
    """Standardises each channel of each feature map with statistics of the training images.

    Without it the cosine distance is ruled by the few channels with the largest variance.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        for i, count in enumerate(channels):
            self.register_buffer(f"mean{i}", torch.zeros(1, count, 1, 1))
            self.register_buffer(f"std{i}", torch.ones(1, count, 1, 1))

    def set_statistics(self, means: list[Tensor], stds: list[Tensor]) -> None:
        """Store per-channel statistics, each of shape (C_i,)."""
        for i, (mean, std) in enumerate(zip(means, stds, strict=True)):
            # A channel that hardly ever moves would turn float16 rounding into the loudest signal.
            floor = max(float(std.median()) * _LEAST_RELATIVE_STD, 1e-6)
            getattr(self, f"mean{i}").copy_(mean.view(1, -1, 1, 1))
            getattr(self, f"std{i}").copy_(std.view(1, -1, 1, 1).clamp_min(floor))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Same shapes in and out."""
        return [(x - getattr(self, f"mean{i}")) / getattr(self, f"std{i}") for i, x in enumerate(features)]
