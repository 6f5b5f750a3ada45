"""Patch memory: distance of every patch to the nearest one of a bounded bank of good patches.

After Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore, CVPR
2022): locally averaged features of good images, thinned to a coreset. One bank serves all
products, and its size is bounded however many there are.

Our own choices: features are standardised per channel, layers weigh the same whatever their
number of channels, and the plain nearest distance is used, without PatchCore's re-weighting
of the image score (`UnifiedModel` scores the map).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.errors import ConfigError
from cada_edge.models.detector import LayeredDetector, Strides, register, resample
from cada_edge.models.ranges import check_ranges
from cada_edge.types import MapSpec

_FLOOR = 1e-4  # squared distance


@dataclass(frozen=True)
class PatchMemoryConfig:
    """Size of the memory.

    Attributes:
        groups: strides whose features are joined into one patch, one bank per group. Fine and
            coarse groups see different defects; joined into one, the coarse channels would rule.
        grid_stride: all patches lie on the grid of this stride; finer maps are averaged down to it.
        bank_size: patches kept in each bank; fewer where the images have fewer.
        per_image: cells drawn from each view before thinning.
    """

    groups: tuple[tuple[int, ...], ...] = ((8, 16), (16, 32))
    grid_stride: int = 16
    bank_size: int = 4096
    per_image: int = 24

    def __post_init__(self) -> None:
        check_ranges(self, grid_stride=(1, 1024), bank_size=(1, 1 << 15), per_image=(1, 1 << 14))
        try:
            groups = tuple(tuple(int(stride) for stride in group) for group in self.groups)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"PatchMemoryConfig.groups: got {self.groups!r}, expected lists of strides") from error
        if not groups or not all(groups):
            raise ConfigError(f"PatchMemoryConfig.groups: got {self.groups!r}, expected at least one stride in each")
        object.__setattr__(self, "groups", groups)  # JSON knows lists only


@register
class PatchMemory(LayeredDetector):
    """Nearest-neighbour distance to banks of good patches; a "layer" here is a group of strides."""

    kind: ClassVar[str] = "patch-memory"
    settings_type: ClassVar[type[Any]] = PatchMemoryConfig
    default_strides: ClassVar[Strides] = (8, 16, 32)

    def __init__(self, config: PatchMemoryConfig, channels: list[int], strides: Strides, spec: MapSpec) -> None:
        wanted = {config.grid_stride, *(stride for group in config.groups for stride in group)}
        missing = sorted(wanted - set(strides))
        if missing:
            raise ConfigError(f"PatchMemoryConfig: strides {missing} are not among the encoder's {strides}")
        super().__init__(config, channels, strides, spec)
        self.grid = strides.index(config.grid_stride)
        self.members = [[strides.index(stride) for stride in sorted(group)] for group in config.groups]
        self.register_buffer("layer_level", torch.ones(len(self.members)))
        for number, group in enumerate(self.members):
            width = sum(channels[i] for i in group)
            self.register_buffer(f"bank{number}", torch.zeros(config.bank_size, width))

    def bank(self, number: int) -> Tensor:
        """Patches of one group, float32 (K, C)."""
        found: Tensor = getattr(self, f"bank{number}")
        return found

    def remember(self, banks: list[Tensor]) -> None:
        """Take over banks of K patches each, float32 (K, C_g), 1 <= K <= `bank_size`."""
        for number, bank in enumerate(banks):
            self.register_buffer(f"bank{number}", bank)
        self.settings = replace(self.settings, bank_size=len(banks[0]))

    def patches(self, features: list[Tensor]) -> list[Tensor]:
        """Patch vectors of each group, float32 (N, C_g, h, w)."""
        grid = features[self.grid].shape
        size = (int(grid[2]), int(grid[3]))
        cells = [resample(_local_mean(x), size) / x.shape[1] ** 0.5 for x in self.scaler(features)]
        return [torch.cat([cells[i] for i in group], dim=1) for group in self.members]

    def layer_distances(self, features: list[Tensor]) -> list[Tensor]:
        """Euclidean distance to the nearest patch per group: (N, h, w), >= 0."""
        return [nearest_distance(x, self.bank(number)) for number, x in enumerate(self.patches(features))]

    def distances_without(self, features: list[Tensor], barred: list[Tensor]) -> list[Tensor]:
        """`layer_distances` as if some patches were not in the bank.

        Args:
            features: of N images, (N, C_i, h_i, w_i).
            barred: per group bool (N, K), the patches that each image must do without. An image
                that would be left with none keeps them all.
        """
        spared = [rows & ~rows.all(dim=1, keepdim=True) for rows in barred]
        return [nearest_distance(x, self.bank(i), spared[i]) for i, x in enumerate(self.patches(features))]


def _local_mean(x: Tensor) -> Tensor:
    """Mean over 3x3 cells, fewer at the border: (N, C, h, w) to the same."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def nearest_distance(patches: Tensor, bank: Tensor, barred: Tensor | None = None) -> Tensor:
    """Distance to the nearest of K patches, as one matrix product: (N, C, h, w), (K, C) to (N, h, w).

    `barred`, bool (N, K), names patches that do not count for an image.

    ``|x - b|^2 = |x|^2 - 2 x.b + |b|^2``, a difference of large numbers: near 0 it is rounding, which
    the root would enlarge a thousandfold. `_FLOOR` is added under the root, so that every backend
    gives the same for a patch that is in the bank; usual distances, 0.5 and more, hardly feel it.
    """
    cells = patches.permute(0, 2, 3, 1)
    relative = torch.matmul(cells, (-2.0 * bank).T) + bank.square().sum(dim=1)
    if barred is not None:
        relative = relative.masked_fill(barred[:, None, None, :], float("inf"))
    squared = relative.amin(dim=3) + cells.square().sum(dim=3)
    return (squared.clamp_min(0) + _FLOOR).sqrt()
