"""The whole model: image in, aligned map and score out. The one definition that is trained, exported and run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.alignment import MIN_SPREAD, gaussian_window
from cada_edge.models.detector import Detector
from cada_edge.models.encoder import Encoder
from cada_edge.models.head import CadaHead, describe
from cada_edge.types import ImageSpec, MapSpec


class UnifiedModel(nn.Module):
    """Encoder, detector and head behind the contracts of `ImageSpec` and `MapSpec`."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, spec: ImageSpec, map_spec: MapSpec, encoder: Encoder, detector: Detector, head: CadaHead
    ) -> None:
        super().__init__()
        self.spec, self.map_spec = spec, map_spec
        self.encoder, self.detector, self.head = encoder, detector, head
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.smoother = Smoother(map_spec)

    def standardise(self, images: Tensor) -> Tensor:
        """Images uint8 (N, H, W, 3) RGB to float32 (N, 3, H, W), standardised."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std

    def raw_map(self, features: list[Tensor]) -> Tensor:
        """Features to the smoothed raw map, float32 (N, h, w), >= 0."""
        smoothed: Tensor = self.smoother(self.detector(features))
        return smoothed

    def core(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images uint8 (N, H, W, 3) to raw map (N, h, w), u, gamma and novelty (N,): all but the alignment."""
        features = self.encoder(self.standardise(images))
        descriptor = describe(features)
        u, gamma = self.head(descriptor).unbind(dim=1)
        return self.raw_map(features), u, gamma, self.head.novelty(descriptor)

    def fusion_inputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images uint8 (N, H, W, 3) to `Detector.fusion_inputs`, then u, gamma and novelty (N,)."""
        features = self.encoder(self.standardise(images))
        descriptor = describe(features)
        u, gamma = self.head(descriptor).unbind(dim=1)
        return (*self.detector.fusion_inputs(features), u, gamma, self.head.novelty(descriptor))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Images uint8 (N, H, W, 3) to score (N,), aligned map (N, h, w), u, gamma and novelty (N,)."""
        raw, u, gamma, novelty = self.core(images)
        spread = (gamma - u).clamp_min(MIN_SPREAD)
        aligned = (raw - u[:, None, None]) / spread[:, None, None]
        return image_score(aligned, self.map_spec), aligned, u, gamma, novelty

    def detector_config(self) -> dict[str, Any]:
        """What rebuilds encoder and detector: plain JSON."""
        return {"encoder": {**asdict(self.encoder.config), "weights": "bundle"}, "detector": self.detector.config()}


class Smoother(nn.Module):
    """Separable Gaussian with replicated edges, as `cada_edge.alignment.smooth`: (N, h, w) to the same."""

    column: Tensor
    row: Tensor

    def __init__(self, spec: MapSpec) -> None:
        super().__init__()
        self.reach = spec.smooth_taps // 2
        window = torch.from_numpy(gaussian_window(spec.smooth_taps, spec.smooth_sigma))
        self.register_buffer("column", window.view(1, 1, -1, 1), persistent=False)
        self.register_buffer("row", window.view(1, 1, 1, -1), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Raw maps float32 (N, h, w), smoothed."""
        r = self.reach
        if r == 0:
            return maps
        x = F.pad(maps[:, None], (r, r, r, r), mode="replicate")
        return F.conv2d(F.conv2d(x, self.column), self.row)[:, 0]


def image_score(maps: Tensor, spec: MapSpec) -> Tensor:
    """Mean of the highest `spec.top_k` cells: float32 (N, h, w) to (N,)."""
    flat = maps.flatten(1)
    return flat.topk(min(spec.top_k, flat.shape[1]), dim=1).values.mean(dim=1)
