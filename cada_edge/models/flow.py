"""Density of features by normalising flows, one per layer.

After Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D
Normalizing Flows" (2021): a chain of affine couplings turns the features of good parts into
standard normal noise, and the mean square of that noise is the distance of a cell.

Our own choices: features are standardised first; between couplings channels are mixed by a
fixed random rotation (volume-preserving, as a 1x1 convolution) instead of a permutation; the
couplings' convolutions have no normalisation layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.errors import ConfigError
from cada_edge.models.detector import GradientDetector, Strides, register
from cada_edge.models.ranges import check_ranges
from cada_edge.types import MapSpec

_CLAMP = 1.5  # of a coupling's log-scale, soft


@dataclass(frozen=True)
class FlowConfig:
    """Size of the flows.

    Attributes:
        steps: couplings per layer; their kernels alternate between 3x3 and 1x1.
        width: hidden channels of a coupling's network.
    """

    steps: int = 6
    width: int = 64

    def __post_init__(self) -> None:
        check_ranges(self, steps=(1, 64), width=(1, 4096))


class _Coupling(nn.Module):
    """Rotate the channels, then scale and shift one half by what the other says: (N, C, h, w) to the same."""

    rotation: Tensor

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.kept = channels // 2
        self.moved = channels - self.kept
        rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
        self.register_buffer("rotation", rotation[:, :, None, None].contiguous())
        last = nn.Conv2d(width, 2 * self.moved, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)  # the chain begins as a rotation
        self.net = nn.Sequential(nn.Conv2d(self.kept, width, kernel, 1, kernel // 2), nn.ReLU(), last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The moved features, and the log-determinant of each cell (N, h, w)."""
        x = F.conv2d(x, self.rotation)
        kept, moved = x[:, : self.kept], x[:, self.kept :]
        scale, shift = self.net(kept).split([self.moved, self.moved], dim=1)
        log_scale = _CLAMP * torch.tanh(scale / _CLAMP)
        return torch.cat([kept, moved * torch.exp(log_scale) + shift], dim=1), log_scale.sum(dim=1)


@register
class FeatureFlow(GradientDetector):
    """One normalising flow per feature map. See the module's docstring."""

    kind: ClassVar[str] = "flow"
    settings_type: ClassVar[type[Any]] = FlowConfig
    default_strides: ClassVar[Strides] = (8, 16, 32)

    def __init__(self, config: FlowConfig, channels: list[int], strides: Strides, spec: MapSpec) -> None:
        super().__init__(config, channels, strides, spec)
        if min(channels) < 2:
            raise ConfigError(f"a flow needs 2 channels or more per layer, the encoder gives {channels}")
        self.flows = nn.ModuleList(
            nn.ModuleList(_Coupling(count, config.width, 3 if step % 2 == 0 else 1) for step in range(config.steps))
            for count in channels
        )

    def layer_distances(self, features: list[Tensor]) -> list[Tensor]:
        """Mean square of the noise per layer, finest first: (N, C_i, h_i, w_i) to (N, h_i, w_i), >= 0; 1 is usual."""
        return [noise.square().mean(dim=1) for noise, _ in self._noise(features)]

    def cell_losses(self, features: list[Tensor]) -> list[Tensor]:
        """Negative log-likelihood per channel, up to a constant: (N, h_i, w_i)."""
        return [
            (0.5 * noise.square().sum(dim=1) - log_det) / noise.shape[1] for noise, log_det in self._noise(features)
        ]

    def _noise(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return [_through(flow, x) for flow, x in zip(self.flows, self.scaler(features), strict=True)]


def _through(flow: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    total = torch.zeros_like(x[:, 0])
    for coupling in flow.children():
        x, log_det = coupling(x)
        total = total + log_det
    return x, total
