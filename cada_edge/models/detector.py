"""The seam for detectors: anything that turns encoder features into an anomaly map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.errors import BundleError, ConfigError
from cada_edge.types import COSINE_FLOOR, FusionMode, MapSpec, from_json

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from 3.11

Strides = tuple[int, ...]


class Detector(nn.Module, ABC):
    """Turns features into a raw anomaly map. Class-agnostic: it never sees a product name.

    A detector registers itself with `register` and leaves smoothing and scoring to
    `UnifiedModel`, so that all detectors share them.

    Attributes:
        kind: its name in bundles, configurations and on the command line.
        settings_type: the frozen dataclass of its settings, plain JSON values only.
        default_strides: the encoder's strides it does best with.
        fusion_mode: what `fusion_inputs` gives: pairs of features, or distances.
    """

    kind: ClassVar[str]
    settings_type: ClassVar[type[Any]]
    default_strides: ClassVar[Strides]
    fusion_mode: ClassVar[FusionMode] = "distances"

    def __init__(self, settings: Any, strides: Strides, spec: MapSpec) -> None:
        super().__init__()
        self.settings, self.strides, self.map_size_hw = settings, strides, spec.size_hw

    def config(self) -> dict[str, Any]:
        """Plain JSON that `build` turns into the same architecture."""
        return asdict(self.settings)

    @classmethod
    def build(cls, config: dict[str, Any], channels: list[int], strides: Strides, spec: MapSpec) -> Self:
        """Rebuild the architecture; weights are loaded afterwards."""
        return cls.create(from_json(cls.settings_type, config), channels, strides, spec)

    @classmethod
    @abstractmethod
    def create(cls, settings: Any, channels: list[int], strides: Strides, spec: MapSpec) -> Self:
        """A detector that has learned nothing yet, for feature maps of these channels and strides."""

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Tensor:
        """Features (N, C_i, H/s_i, W/s_i) to the raw map, float32 (N, h, w), >= 0, not smoothed."""

    def fusion_inputs(self, features: list[Tensor]) -> list[Tensor]:
        """What an exported graph hands to the fused normalisation, which makes `forward`'s map of it.

        Either teacher and student of each layer in turn, float32 (N, C_i, h_i, w_i), or a distance
        of each layer, float32 (N, h_i, w_i).
        """
        return [self(features)]

    def fusion_levels(self) -> tuple[float, ...]:
        """What the distance of each layer is divided by, > 0."""
        return (1.0,)


class LayeredDetector(Detector):
    """A detector that measures one distance map per layer and averages them on a common scale."""

    layer_level: Tensor

    def __init__(self, settings: Any, channels: list[int], strides: Strides, spec: MapSpec) -> None:
        super().__init__(settings, strides, spec)
        self.scaler = FeatureScaler(channels)
        # Mean distance of each layer on held-out good images: layers then weigh the same.
        self.register_buffer("layer_level", torch.ones(len(channels)))

    @classmethod
    def create(cls, settings: Any, channels: list[int], strides: Strides, spec: MapSpec) -> Self:
        """A detector that has learned nothing yet, for feature maps of these channels and strides."""
        return cls(settings, channels, strides, spec)

    @abstractmethod
    def layer_distances(self, features: list[Tensor]) -> list[Tensor]:
        """Distance per layer, finest first: (N, C_i, h_i, w_i) to (N, h_i, w_i), >= 0."""

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features to the raw map, (N, h, w), >= 0."""
        return self.combined(self.layer_distances(features))

    def combined(self, distances: list[Tensor]) -> Tensor:
        """Mean over layers of ``distance / layer_level``, bilinearly upsampled: (N, h_i, w_i) to (N, h, w), >= 0."""
        maps = [
            F.interpolate(d[:, None] / self.layer_level[i], size=self.map_size_hw, mode="bilinear", align_corners=False)
            for i, d in enumerate(distances)
        ]
        return torch.cat(maps, dim=1).mean(dim=1)

    def fusion_inputs(self, features: list[Tensor]) -> list[Tensor]:
        """The distances, unless redefined."""
        return self.layer_distances(features)

    def fusion_levels(self) -> tuple[float, ...]:
        """`layer_level` as plain numbers."""
        return tuple(float(level) for level in self.layer_level)


class GradientDetector(LayeredDetector):
    """A layered detector that is fitted by gradient descent on what each cell costs."""

    def cell_losses(self, features: list[Tensor]) -> list[Tensor]:
        """What the fit lowers, per layer and cell, (N, h_i, w_i): the distance, unless redefined."""
        return self.layer_distances(features)


_LEAST_RELATIVE_STD = 1e-2

_DETECTORS: dict[str, type[Detector]] = {}


def register(cls: type[Detector]) -> type[Detector]:
    """Class decorator: make a detector known under its `kind`."""
    _DETECTORS[cls.kind] = cls
    return cls


def detector_kinds() -> tuple[str, ...]:
    """Every registered kind, sorted."""
    return tuple(sorted(_DETECTORS))


def detector_class(kind: str) -> type[Detector]:
    """Look a detector up. Raises `BundleError` for a kind this version does not know."""
    try:
        return _DETECTORS[kind]
    except KeyError:
        raise BundleError(f"detector kind {kind!r} is unknown; this version has {list(detector_kinds())}") from None


def class_of_settings(settings: object) -> type[Detector]:
    """The detector that `settings` belong to. Raises `ConfigError` when they are no detector's."""
    for cls in _DETECTORS.values():
        if type(settings) is cls.settings_type:
            return cls
    raise ConfigError(f"{settings!r} are not the settings of a detector; known are {list(detector_kinds())}")


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


def cosine_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """``1 - cos`` along channels: two (N, C, h, w) to (N, h, w), 0..2.

    Written out, with the guard inside the root, so that the exported graph has the same few
    operators everywhere.
    """
    dot = (teacher * student).sum(dim=1)
    norms = (teacher * teacher).sum(dim=1) * (student * student).sum(dim=1)
    return 1.0 - dot * torch.rsqrt(norms + COSINE_FLOOR)


def resample(x: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Maps (N, C, h, w) to another grid: averaged where it shrinks by a whole factor, bilinear elsewhere."""
    height, width = int(x.shape[2]), int(x.shape[3])
    factor = height // size_hw[0]
    if factor >= 1 and (factor * size_hw[0], factor * size_hw[1]) == (height, width):
        return x if factor == 1 else F.avg_pool2d(x, factor)
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=False)
