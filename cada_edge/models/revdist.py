"""RevDist: reverse distillation, the detector of the CADA paper, at edge size.

After Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding"
(CVPR 2022): a frozen encoder's feature maps are squeezed through a bottleneck, a decoder
rebuilds them from coarse to fine, and where the rebuilt features point elsewhere (cosine
distance) the image is unlike the good ones.

Our own choices: features are standardised per channel; no normalisation layers (training
on one process and on many is then the same mathematics, and nothing has to be folded for
INT8); ordinary 3x3 convolutions, or on request separable ones, which take a third of the time on a
processor (docs/benchmark.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.errors import ConfigError
from cada_edge.models.detector import GradientDetector, Strides, cosine_distance, register
from cada_edge.models.ranges import check_ranges
from cada_edge.types import FusionMode, MapSpec


@dataclass(frozen=True)
class RevDistConfig:
    """Size of the student.

    Attributes:
        width: channels of the decoder at the finest stride; coarser strides have up to twice as many.
        bottleneck: channels that everything must pass through, at twice the coarsest stride.
        blocks: residual blocks per decoder stage.
        separable: each 3x3 convolution as one over space and one over channels.
    """

    width: int = 64
    bottleneck: int = 64
    blocks: int = 1
    separable: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, width=(1, 4096), bottleneck=(1, 4096), blocks=(1, 64))
        if type(self.separable) is not bool:
            raise ConfigError(f"RevDistConfig.separable: got {self.separable!r}, expected true or false")


class _Layers:
    """The convolutions that a network of such settings is made of."""

    def __init__(self, config: RevDistConfig) -> None:
        self._separable = config.separable

    def bare(self, c_in: int, c_out: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
        """(N, c_in, H, W) to (N, c_out, H / stride, W / stride), nothing behind it."""
        if not self._separable or kernel == 1:
            return [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2)]
        return [nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in), nn.Conv2d(c_in, c_out, 1)]

    def conv(self, c_in: int, c_out: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
        """The same behind a rectifier."""
        return nn.Sequential(*self.bare(c_in, c_out, stride, kernel), nn.ReLU())

    def residual(self, channels: int) -> nn.Module:
        """Two 3x3 convolutions around a skip: (N, C, H, W) to the same."""
        return _Residual([self.conv(channels, channels), *self.bare(channels, channels)])


class _Residual(nn.Module):
    """Layers around a skip: (N, C, H, W) to the same."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class _Neck(nn.Module):
    """Fuses all feature maps at the coarsest stride and squeezes them, (N, bottleneck, h/2, w/2)."""

    def __init__(self, channels: list[int], strides: tuple[int, ...], config: RevDistConfig) -> None:
        super().__init__()
        width, make = config.width, _Layers(config)
        self.branches = nn.ModuleList()
        for count, stride in zip(channels, strides, strict=True):
            steps = (strides[-1] // stride).bit_length() - 1
            self.branches.append(
                nn.Sequential(
                    make.conv(count, width, kernel=1), *(make.conv(width, width, stride=2) for _ in range(steps))
                )
            )
        self.squeeze = nn.Sequential(
            make.conv(width * len(channels), 2 * width, stride=2), nn.Conv2d(2 * width, config.bottleneck, 1)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        fused = torch.cat([branch(x) for branch, x in zip(self.branches, features, strict=True)], dim=1)
        squeezed: Tensor = self.squeeze(fused)
        return squeezed


class _Stage(nn.Module):
    """One step of the decoder: grow to the next stride, then refine, (N, C_in, h', w') to (N, C_out, h, w)."""

    def __init__(self, c_in: int, c_out: int, config: RevDistConfig) -> None:
        super().__init__()
        make = _Layers(config)
        self.enter = make.conv(c_in, c_out)  # before growing: a quarter of the cost
        self.refine = nn.Sequential(*(make.residual(c_out) for _ in range(config.blocks)))

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
        # To a size, not by a factor: an input of 96 px has an odd map at stride 32.
        grown: Tensor = self.refine(F.interpolate(self.enter(x), size=size_hw, mode="nearest"))
        return grown


@register
class RevDist(GradientDetector):
    """Reverse distillation on frozen features. See the module's docstring."""

    kind: ClassVar[str] = "revdist"
    settings_type: ClassVar[type[Any]] = RevDistConfig
    default_strides: ClassVar[Strides] = (8, 16, 32)
    fusion_mode: ClassVar[FusionMode] = "features"

    def __init__(self, config: RevDistConfig, channels: list[int], strides: Strides, spec: MapSpec) -> None:
        super().__init__(config, channels, strides, spec)
        for fine, coarse in pairwise(strides):
            if coarse % fine or (coarse // fine).bit_count() != 1:
                raise ConfigError(f"RevDist needs strides that double, got {strides}")
        self.neck = _Neck(channels, strides, config)
        wide, make = 2 * config.width, _Layers(config)
        self.expand = nn.Sequential(
            make.conv(config.bottleneck, wide, kernel=1), *(make.residual(wide) for _ in range(config.blocks))
        )
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList()
        previous = wide
        for count, stride in reversed(list(zip(channels, strides, strict=True))):
            width = wide if stride > strides[0] or len(strides) == 1 else config.width
            self.stages.append(_Stage(previous, width, config))
            self.heads.append(nn.Conv2d(width, count, 1))
            previous = width

    def pairs(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Standardised and rebuilt features per layer, finest first, each (N, C_i, h_i, w_i)."""
        teacher = self.scaler(features)
        x = self.expand(self.neck(teacher))
        student = []
        for stage, head, goal in zip(self.stages, self.heads, reversed(teacher), strict=True):
            x = stage(x, (goal.shape[2], goal.shape[3]))
            student.append(head(x))
        return list(zip(teacher, reversed(student), strict=True))

    def layer_distances(self, features: list[Tensor]) -> list[Tensor]:
        """Cosine distance per layer, finest first: (N, C_i, h_i, w_i) to (N, h_i, w_i), 0..2."""
        return [cosine_distance(teacher, student) for teacher, student in self.pairs(features)]

    def fusion_inputs(self, features: list[Tensor]) -> list[Tensor]:
        """Teacher and student of each layer in turn."""
        return [x for pair in self.pairs(features) for x in pair]
