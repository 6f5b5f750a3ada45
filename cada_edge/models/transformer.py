"""Feature reconstruction by a transformer with unfocused attention.

In the manner of Guo et al., "Dinomaly: The Less Is More Philosophy in Multi-Class
Unsupervised Anomaly Detection" (CVPR 2025), on the feature maps of a light convolutional
encoder instead of a foundation transformer: a noisy bottleneck (dropout), a decoder with
*linear* attention, which cannot focus on a patch to copy it, and reconstruction of groups of
layers loosely rather than layer by layer. What it cannot rebuild from the context of good
parts differs in direction (cosine distance).

Our own choices: tokens are the cells of the stride-16 map (or the nearest there is), all
layers fused; position enters by a depthwise convolution, so that any image size fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.errors import ConfigError
from cada_edge.models.detector import GradientDetector, Strides, cosine_distance, register, resample
from cada_edge.models.ranges import check_ranges
from cada_edge.types import MapSpec

_TOKEN_STRIDE = 16


@dataclass(frozen=True)
class TransformerConfig:
    """Size of the reconstructing transformer.

    Attributes:
        width: channels of a token, a multiple of `heads`.
        depth: decoder blocks.
        heads: attention heads.
        dropout: share of the bottleneck's activations dropped while fitting, 0..0.9.
    """

    width: int = 128
    depth: int = 3
    heads: int = 4
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_ranges(self, width=(1, 4096), depth=(1, 64), heads=(1, 64), dropout=(0.0, 0.9))
        if self.width % self.heads:
            raise ConfigError(f"TransformerConfig.width: got {self.width}, expected a multiple of heads={self.heads}")


class _LinearAttention(nn.Module):
    """Attention without softmax, ``phi(q) (phi(k)^T v)``, phi = elu + 1: (N, T, W) to the same.

    Katharopoulos et al., "Transformers are RNNs" (ICML 2020).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        count = tokens.shape[1]
        split = self.qkv(tokens).view(-1, count, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        query, key, value = F.elu(split[0]) + 1.0, F.elu(split[1]) + 1.0, split[2]
        context = torch.matmul(key.transpose(2, 3), value) / count
        norm = torch.matmul(query, key.mean(dim=2, keepdim=True).transpose(2, 3))
        mixed = torch.matmul(query, context) / (norm + 1e-6)
        projected: Tensor = self.out(mixed.transpose(1, 2).reshape(-1, count, self.heads * self.head_width))
        return projected


class _Block(nn.Module):
    """Position, attention, perceptron, each around a skip: (N, W, h, w) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.position = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.norm1, self.attention = nn.LayerNorm(width), _LinearAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.position(x)
        tokens: Tensor = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).reshape(x.shape)


class _Head(nn.Module):
    """Tokens to a feature map, finer by a whole factor: (N, W, h, w) to (N, C, h * factor, w * factor)."""

    def __init__(self, width: int, channels: int, factor: int) -> None:
        super().__init__()
        self.factor, self.channels = factor, channels
        self.project = nn.Conv2d(width, channels * factor * factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat: Tensor = self.project(x)
        if self.factor == 1:
            return flat
        # A pixel shuffle in ordinary operators, which every backend has.
        rows, columns = int(x.shape[2]), int(x.shape[3])
        parts = flat.view(-1, self.channels, self.factor, self.factor, rows, columns).permute(0, 1, 4, 2, 5, 3)
        return parts.reshape(-1, self.channels, rows * self.factor, columns * self.factor)


@register
class FeatureTransformer(GradientDetector):
    """Rebuilds all feature maps from fused tokens. See the module's docstring."""

    kind: ClassVar[str] = "transformer"
    settings_type: ClassVar[type[Any]] = TransformerConfig
    default_strides: ClassVar[Strides] = (8, 16, 32)

    def __init__(self, config: TransformerConfig, channels: list[int], strides: Strides, spec: MapSpec) -> None:
        super().__init__(config, channels, strides, spec)
        width = config.width
        self.anchor = min(range(len(strides)), key=lambda i: abs(strides[i] - _TOKEN_STRIDE))
        self.embed = nn.Conv2d(sum(channels), width, 1)
        self.bottleneck = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Conv2d(width, 4 * width, 1),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Conv2d(4 * width, width, 1),
            nn.Dropout(config.dropout),
        )
        self.blocks = nn.ModuleList(_Block(width, config.heads) for _ in range(config.depth))
        self.heads = nn.ModuleList(
            _Head(width, count, max(1, strides[self.anchor] // stride))
            for count, stride in zip(channels, strides, strict=True)
        )

    def layer_distances(self, features: list[Tensor]) -> list[Tensor]:
        """Cosine distance per layer, finest first: (N, C_i, h_i, w_i) to (N, h_i, w_i), 0..2."""
        teacher = self.scaler(features)
        grid = teacher[self.anchor].shape[2:]
        x = self.bottleneck(self.embed(torch.cat([resample(t, (int(grid[0]), int(grid[1]))) for t in teacher], dim=1)))
        half = x
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == (len(self.blocks) - 1) // 2:
                half = x
        loose = x + half  # two groups of blocks, summed: no block answers for a layer of its own
        rebuilt = [
            resample(head(loose), (int(t.shape[2]), int(t.shape[3])))
            for head, t in zip(self.heads, teacher, strict=True)
        ]
        return [cosine_distance(t, r) for t, r in zip(teacher, rebuilt, strict=True)]
